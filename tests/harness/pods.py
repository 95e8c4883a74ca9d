"""The mover, as a pod runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.waiting import eventually
from pfmoc.data import Tickets


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A mover that has ended."""

    status: int
    message: dict[str, Any]
    log: str


class Pod:
    """A directory with what the mover finds in a pod."""

    def __init__(self, root: Path, tickets: Tickets) -> None:
        self.root = root
        self.incoming, self.outgoing, self.message = root / "incoming", root / "outgoing", root / "termination-log"
        for path in (self.incoming, self.outgoing):
            path.mkdir(parents=True, exist_ok=True)
        for name, ticket in (("pull", tickets.pull), ("publish", tickets.publish)):
            (root / f"{name}.json").write_text(ticket)

    async def pull(self, **how: Any) -> Ended:
        return await self._ended(await self._start("pull", ["--into", str(self.incoming)], **how))

    async def publish(self, *words: str, **how: Any) -> Ended:
        """Run it at once."""
        return await self._ended(await self.publisher("--now", *words, **how))

    async def publisher(self, *words: str, **how: Any) -> asyncio.subprocess.Process:
        """Start it; it is listening on return."""
        self.message.unlink(missing_ok=True)
        started = await self._start("publish", ["--from", str(self.outgoing), *words], **how)
        # Being there is not enough: it is made, and then written.
        await eventually(lambda: self.message.exists() and self.message.read_text(), what="the publisher to listen")
        return started

    async def end(self, process: asyncio.subprocess.Process) -> Ended:
        """As kubelet ends a sidecar."""
        process.send_signal(signal.SIGTERM)
        return await self._ended(process)

    def pulled(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.incoming)): path.read_bytes() for path in self.incoming.rglob("*") if path.is_file()}

    async def _start(
        self, command: str, words: Sequence[str], *, prefix: Sequence[str] = (), python: str = sys.executable, path: str = ""
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *prefix,
            python,
            "-m",
            "pfmoc.mover",
            command,
            "--ticket",
            str(self.root / f"{command}.json"),
            "--termination-log",
            str(self.message),
            *words,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path or os.pathsep.join(sys.path)},
            cwd="/",
        )

    async def _ended(self, process: asyncio.subprocess.Process) -> Ended:
        _, log = await process.communicate()
        assert process.returncode is not None
        return Ended(status=process.returncode, message=json.loads(self.message.read_text()), log=log.decode())
