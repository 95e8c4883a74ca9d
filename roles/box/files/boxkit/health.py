"""Is a service well? One look, with a limit in time."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from boxkit import processes
from boxkit.layout import SANDBOX, Layout, read_json
from boxkit.service import Service

LOOK_S = 5.0
"""How long a service may take to answer."""
SETTLED_S = 1.0
"""How long a service without a check must have run to be called well."""


@dataclass(frozen=True)
class Health:
    """``well``, and in a few words why, or why not."""

    well: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Process:
    """A service's live process, as its wrapper noted it.

    :param waits_for: the service that its wrapper still waits for; empty once the program itself runs
    :param failures: how often in a row it ended soon after its start
    :param since: when the program was started, in seconds since the epoch
    """

    pid: int
    waits_for: str
    failures: int
    since: float


def process_of(layout: Layout, name: str) -> Process | None:
    """The live process of a service."""
    note = read_json(layout.record(name))
    if not note:
        return None
    stat = processes.stat_of(note["pid"])
    if stat is None or stat.start != note["start"]:
        return None
    return Process(pid=note["pid"], waits_for=note["waits_for"], failures=note["failures"], since=note["since"])


def look(layout: Layout, services: Iterable[Service]) -> dict[str, Health]:
    """The health of services, all looked at together."""
    answers = dict[str, Health]()
    asked = dict[int, tuple[str, int]]()
    sandbox = process_of(layout, SANDBOX)
    for service in services:
        process = process_of(layout, service.name)
        if process is None:
            answers[service.name] = Health(well=False, detail="is not running")
        elif process.waits_for:
            answers[service.name] = Health(well=False, detail=f"waits for {process.waits_for}")
        elif service.name == SANDBOX and not has_walls(process.pid):
            answers[service.name] = Health(well=False, detail="has no network namespace of its own yet")
        elif not service.health:
            # One that ends at once runs for a moment, too.
            settled = time.time() - process.since >= SETTLED_S
            answers[service.name] = Health(well=settled, detail="runs" if settled else "has just started")
        else:
            within = service.inside or service.name == SANDBOX
            descriptor, pid = _ask(service, sandbox.pid if sandbox and within else 0)
            asked[descriptor] = (service.name, pid)
    return answers | _collect(asked)


def has_walls(pid: int) -> bool:
    """True once a process is in a network namespace that is not ours."""
    return processes.namespace(pid, "net") not in ("", processes.namespace("self", "net"))


def _ask(service: Service, enter: int) -> tuple[int, int]:
    """Look in a child process, which may enter namespaces and be killed; return where its answer can be read, and its pid."""
    answer, tell = os.pipe()
    pid = os.fork()
    if not pid:
        _answer(service, enter, tell)
    os.close(tell)
    return answer, pid


def _answer(service: Service, enter: int, tell: int) -> NoReturn:
    try:
        # The caller's handlers are not for us.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if enter:
            processes.enter(enter)
        health = _probe(service)
        os.write(tell, f"{'+' if health.well else '-'}{health.detail}".encode()[: select.PIPE_BUF])
    finally:
        os._exit(0)


def _collect(asked: Mapping[int, tuple[str, int]]) -> dict[str, Health]:
    answers = {}
    pending = set(asked)
    deadline = time.monotonic() + LOOK_S + 1
    while pending:
        ready, _, _ = select.select(list(pending), [], [], max(0.0, deadline - time.monotonic()))
        for descriptor in ready or list(pending):
            name, pid = asked[descriptor]
            text = os.read(descriptor, select.PIPE_BUF).decode(errors="replace") if ready else ""
            os.close(descriptor)
            pending.discard(descriptor)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            answers[name] = Health(well=text[:1] == "+", detail=text[1:] or "gives no answer")
    return answers


def _probe(service: Service) -> Health:
    check = service.health
    try:
        if "url" in check:
            return _probe_url(check)
        if "tcp" in check:
            host, _, port = str(check["tcp"]).rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_S).close()
            return Health(well=True, detail="listens")
        return _probe_argv(service)
    except (OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
        return Health(well=False, detail=str(getattr(error, "strerror", None) or error) or type(error).__name__)


def _probe_url(check: Mapping[str, Any]) -> Health:
    url = urlsplit(str(check["url"]))
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        import ssl  # noqa: PLC0415 - loads OpenSSL, which most services need not

        context = ssl.create_default_context(cafile=check["ca"])
        if "cert" in check:
            context.load_cert_chain(check["cert"], check["key"])
        connection = http.client.HTTPSConnection(url.netloc, timeout=LOOK_S, context=context)
    else:
        connection = http.client.HTTPConnection(url.netloc, timeout=LOOK_S)
    connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""))
    status = connection.getresponse().status
    return Health(well=status < http.HTTPStatus.BAD_REQUEST, detail=f"HTTP {status}")


def _probe_argv(service: Service) -> Health:
    from boxkit.environment import environment_of  # noqa: PLC0415 - only here

    done = subprocess.run(  # noqa: S603 - the role's own program
        service.health["argv"],
        env=environment_of(service),
        cwd=service.directory or "/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LOOK_S,
        check=False,
    )
    words = (done.stderr or done.stdout).strip().splitlines()
    return Health(well=done.returncode == 0, detail=words[-1][:200] if words else f"status {done.returncode}")
