"""Daemons for tests: one in the test's own loop, and one as a real process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fakes.compute import FakeCompute

from harness.waiting import DEADLINE_S, eventually
from pfmoc.app import Daemon
from pfmoc.compute.base import Compute
from pfmoc.settings import Settings, load
from pfmoc.storage.base import Storage

START_S = 60.0
"""Seconds in which a daemon must have begun to listen: importing it costs one second of a processor that is not busy."""
USER = "pfcon"
PASSWORD = "pfcon1234"


def variables(home: Path, **overrides: object) -> dict[str, str]:
    """Variables for a daemon below ``home``: development mode, a free port, jobs as processes."""
    (home / "storeBase").mkdir(parents=True, exist_ok=True)
    base = {
        "APPLICATION_MODE": "dev",
        "PFMOC_HOST": "127.0.0.1",
        "PORT": "0",
        "CONTAINER_ENV": "process",
        "STOREBASE_MOUNT": str(home / "storeBase"),
        "PFMOC_STATE_DIR": str(home / "state"),
        "PFMOC_PROCESS_IMAGES": str(home / "images"),
        "PFMOC_DRAIN_S": "5",
    }
    if overrides.get("STORAGE_ENV", "zipfile") != "zipfile":
        base["PFCON_INNETWORK"] = "true"
    return base | {name: str(value) for name, value in overrides.items()}


def settings_for(home: Path, **overrides: object) -> Settings:
    return load(variables(home, **overrides))


@asynccontextmanager
async def running(
    home: Path, *, compute: Compute | None = None, storage: Storage | None = None, **overrides: object
) -> AsyncIterator[Daemon]:
    """A daemon in this loop; on leaving, none of its tasks may be left."""
    before = asyncio.all_tasks()
    async with Daemon(settings_for(home, **overrides), compute=compute or FakeCompute(), storage=storage) as daemon:
        yield daemon
    await eventually(lambda: not asyncio.all_tasks() - before - {asyncio.current_task()}, what="all tasks to end")


class Served:
    """``python -m pfmoc serve`` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.url = ""

    def records(self) -> list[dict[str, Any]]:
        """What it has logged so far; lines that are no JSON come as ``{"plain": line}``."""
        records = []
        for line in self.log.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                records.append({"plain": line})
        return records

    def event(self, name: str) -> dict[str, Any] | None:
        return next((record for record in self.records() if record.get("event") == name), None)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), DEADLINE_S)


@asynccontextmanager
async def serving(
    home: Path, *arguments: str, environ: Mapping[str, str] | None = None, **overrides: object
) -> AsyncIterator[Served]:
    """A daemon as a process, once it listens; killed on leaving if it still runs."""
    async with launched(home, "serve", *arguments, environ=environ, **overrides) as served:
        event = await eventually(
            lambda: served.event("listening") or served.process.returncode is not None,
            what="the daemon to listen",
            deadline_s=START_S,
        )
        assert isinstance(event, dict), served.log.read_text()
        served.url = event["url"]
        yield served


@asynccontextmanager
async def launched(
    home: Path, *arguments: str, environ: Mapping[str, str] | None = None, module: bool = True, **overrides: object
) -> AsyncIterator[Served]:
    """``python -m pfmoc`` with arguments, in an environment that holds nothing but what is given here.

    :param module: False takes the first argument as a Python file to run instead
    """
    home.mkdir(parents=True, exist_ok=True)
    log = home / f"log-{time.monotonic_ns()}"
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONWARNINGS": "error"}
    env |= variables(home, **overrides) if environ is None else environ
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *(["-m", "pfmoc"] if module else []), *arguments, env=env, stdout=stream, stderr=stream, cwd=home
        )
    try:
        yield Served(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
