"""``pfmoc run`` for tests: plugins as shell scripts, documents, the command as a process, and a proxy that breaks connections."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml
from aiohttp import web

from harness.daemon import PASSWORD, START_S, USER, variables
from harness.trees import install
from harness.waiting import DEADLINE_S, eventually, until

IMAGE = "localhost/test/crossing:1"

PROGRAMS = {
    # fs: writes each NAME=TEXT
    "write": 'for last in "$@"; do :; done\nfor pair in "$@"; do\n'
    '  case "$pair" in *=*) printf %s "${pair#*=}" > "$last/${pair%%=*}";; esac\ndone',
    # ds: the whole input, and a list of it, with a word
    "list": 'word=$1; in=$2; out=$3; cp -R "$in/." "$out/"\n'
    'echo "$word saw $(cd "$in" && find . -type f | sort | tr "\\n" " ")" > "$out/$word.txt"',
    # ds: leaves a line outside of its output, one for each time that it runs
    "count": 'echo ran >> "$1"; cp -R "$2/." "$3/"',
    # ds: so many MiB that do not compress
    "fill": 'head -c "$1"M /dev/urandom > "$3/noise.bin"',
    # ds: fails until its first argument is a file
    "fail": 'if [ -e "$1" ]; then echo mended > "$3/mended"; exit; fi\n'
    'echo "the scanner is on fire" >&2; echo partial > "$3/partial"; exit 3',
    # ds: says that it began, and waits to be told to end
    "hold": 'touch "$1.began"; while [ ! -e "$1" ]; do sleep 0.05; done; echo held > "$3/held"',
}


class Site:
    """A daemon as a process, for the tests of a whole module.

    :param home: below it are its storeBase, its state and its plugins
    """

    def __init__(self, home: Path, **overrides: object) -> None:
        self.home = home
        self.storebase = home / "storeBase"
        self._log = home / "log"
        install(home / "images", IMAGE, {name: f"#!/bin/sh\nset -eu\n{script}\n" for name, script in PROGRAMS.items()})
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pfmoc", "serve"],
                env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONWARNINGS": "error", **variables(home, **overrides)},
                stdout=log,
                stderr=log,
                cwd=home,
            )
        self._url = ""

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        self._url = self._url or until(self._listening, what="the daemon to listen", deadline_s=START_S)
        return self._url

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(DEADLINE_S) == 0

    def leftovers(self) -> list[str]:
        """Files of jobs that are still in the storeBase."""
        below = [path.relative_to(self.storebase) for path in self.storebase.rglob("*") if path.is_file()]
        return [str(path) for path in below if path.parts[0] != ".pfmoc"]

    def _listening(self) -> str | None:
        assert self._process.poll() is None, self._log.read_text()
        events = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
        return next((str(event["url"]) for event in events if event.get("event") == "listening"), None)


def node(name: str, program: str, *args: object, **more: Any) -> dict[str, Any]:
    """A node of a workflow document."""
    return {"name": name, "image": IMAGE, "entrypoint": [program], "args": [str(arg) for arg in args], **more}


def write_workflow(path: Path, *nodes: Mapping[str, Any], **more: Any) -> Path:
    path.write_text(yaml.safe_dump({"name": "crossing", "nodes": list(nodes), **more}))
    return path


def write_resources(path: Path, **entries: Mapping[str, Any]) -> Path:
    """A resources file: each entry needs a ``url``, the rest is made up."""
    password = path.with_name("password")
    if not password.exists():
        password.touch(mode=0o600)
        password.write_text(PASSWORD)
    common = {"user": USER, "password_file": "password", "patience": 20}
    entries_list = [{"name": name, **common, **entry, "url": f"{entry['url']}/api/v1/"} for name, entry in entries.items()]
    path.write_text(yaml.safe_dump({"resources": entries_list}))
    return path


class Command:
    """``python -m pfmoc run`` as a process."""

    def __init__(self, process: asyncio.subprocess.Process, out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    async def ended(self, deadline_s: float = 120.0) -> int:
        return await asyncio.wait_for(self.process.wait(), deadline_s)

    async def signalled(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.ended()

    def result(self) -> dict[str, Any]:
        """What --json wrote."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    def nodes(self) -> dict[str, dict[str, Any]]:
        return {node["node"]: node for node in self.result()["nodes"]}


@asynccontextmanager
async def launched(home: Path, *arguments: object) -> AsyncIterator[Command]:
    """Start the command; it is killed on leaving if it still runs."""
    number = time.monotonic_ns()
    out, err = home / f"run-{number}.out", home / f"run-{number}.err"
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONWARNINGS": "error"}
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pfmoc", "run", *map(str, arguments), stdout=stdout, stderr=stderr, env=env, cwd=home
        )
    try:
        yield Command(process, out, err)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(home: Path, *arguments: object) -> tuple[int, Command]:
    """Run the command to its end."""
    async with launched(home, *arguments) as command:
        return await command.ended(), command


def state_of(output: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((output / ".pfmoc-run" / "state.json").read_text())
    return document


class ProxyThatBreaks:
    """A TCP proxy that cuts a connection once it has carried so many bytes of an answer.

    :param target: URL of the daemon
    :param breaks: tells of the first bytes of a request after how many bytes of the answer to cut; None for never
    """

    def __init__(self, target: str, breaks: Callable[[bytes], int | None]) -> None:
        parts = urlsplit(target)
        self._to = (parts.hostname, parts.port)
        self._breaks = breaks
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.heads: list[bytes] = []
        """The beginning of each request."""
        self.cuts = 0

    async def __aenter__(self) -> ProxyThatBreaks:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await eventually(lambda: not self._tasks)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._carry(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(*self._to)
        left: list[int | None] = [None]

        async def requests() -> None:
            while data := await reader.read(1 << 16):
                if data.startswith((b"GET ", b"POST ", b"DELETE ")):
                    self.heads.append(data.partition(b"\r\n\r\n")[0])
                    left[0] = self._breaks(data)
                forth.write(data)
                await forth.drain()
            forth.write_eof()

        sending = asyncio.create_task(requests())
        try:
            while data := await back.read(1 << 16):
                if left[0] is not None:
                    data = data[: left[0]]
                    left[0] -= len(data)
                writer.write(data)
                await writer.drain()
                if left[0] == 0:
                    self.cuts += 1
                    return
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, ConnectionError, OSError):
                await sending
            forth.close()
            with suppress(ConnectionError):
                await forth.wait_closed()


class OldServer:
    """A proxy that makes a pfcon 5 of the daemon: it knows nothing of pfcon 6.

    :param target: URL of the daemon
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._stack = AsyncExitStack()
        self.url = ""
        self.heads: list[str] = []
        """Method and path of each request that it passed on."""

    async def __aenter__(self) -> OldServer:
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/api/v1/{rest:(jobs|auth-token|health)/.*}", self._pass_on)
        runner = web.AppRunner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self.heads.append(f"{request.method} {request.path}")
        headers = {name: value for name, value in request.headers.items() if name in ("Authorization", "Content-Type")}
        body = await request.read()
        async with self._session.request(request.method, self._target + request.path_qs, headers=headers, data=body) as response:
            return web.Response(status=response.status, body=await response.read(), content_type=response.content_type)
