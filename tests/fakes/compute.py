"""An in-memory compute environment with fault switches, for tests of what lies above the environments.

Nothing runs: a test says when a run begins and ends. Every method of the protocol passes the same gate, so that a switch works
on all of them alike::

    compute = FakeCompute()
    async with compute:
        await compute.start(run)
        compute.finish(run.name, exit_code=0, logs="done\n")
        compute.unavailable = True       # every call raises ComputeUnavailable, watchers are cut off
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from pfmoc.compute.base import Compute, Limits, Observation, Run, RunState, Stages
from pfmoc.compute.limits import Bounds, check_limits
from pfmoc.errors import ComputeConflict, ComputeRefused, ComputeUnavailable

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class FakeCompute(Compute):
    """Runs that exist only as observations.

    :param env: what server info shows
    :param volume_type: what server info shows
    :param gpus: GPUs that ``check`` grants
    :param begin_at_once: False leaves a started run pending until ``begin``
    """

    def __init__(self, *, env: str = "docker", volume_type: str = "host", gpus: int = 0, begin_at_once: bool = True) -> None:
        self.env = env
        self.volume_type = volume_type
        self.gpus = gpus
        self.begin_at_once = begin_at_once

        # Fault switches.
        self.refuses: int | None = None
        """Status with which ``start`` is refused."""
        self.fails_after_start = False
        """``start`` starts the run and then raises ComputeUnavailable: the answer was lost on its way."""
        self.ends_at_once: str | None = None
        """With a log: every run has failed, and left that, before ``start`` answers."""
        self.duplicate_events = 1
        """How often each event is delivered."""
        self.keeps_digests = False
        """Runs tell the digest and the record that they were started with, as pods do; another digest is a conflict."""
        self.stages: Stages | None = None
        """What every run that ended says of its stages."""
        self.age: float | None = None
        """What ``age_s`` says."""
        self._unavailable = False
        self._thawed = asyncio.Event()
        self._thawed.set()

        # What happened.
        self.started: list[Run] = []
        """Every run that was really started, in order; a second ``start`` of a name adds nothing."""
        self.removed: list[str] = []
        """Names given to ``remove``, in order."""
        self.calls: list[str] = []
        """Names of the protocol's methods, in the order in which they were called."""

        self._runs: dict[str, Observation] = {}
        self._logs: dict[str, str] = {}
        self._watchers: list[asyncio.Queue[Observation | None]] = []
        self._ticks = 0

    @property
    def age_s(self) -> float | None:
        return self.age

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cut_watchers()

    # The protocol.

    def check(self, image: str, limits: Limits) -> None:  # noqa: ARG002 - every image is good here
        check_limits(limits, Bounds(gpus=self.gpus))

    async def probe(self) -> None:
        await self._gate("probe")

    async def start(self, run: Run) -> Observation:
        await self._gate("start")
        if self.refuses is not None:
            raise ComputeRefused(f"{run.image}: refused by the fake", engine_status=self.refuses)
        there = self._runs.get(run.name)
        if there is not None and there.digest and there.digest != run.digest:
            raise ComputeConflict(f"{run.name} exists, and was asked to do something else")
        if there is None:
            self.started.append(run)
            self._runs[run.name] = Observation(
                name=run.name,
                jid=run.jid,
                state=RunState.RUNNING if self.begin_at_once else RunState.PENDING,
                message="running" if self.begin_at_once else "created",
                image=run.image,
                cmd=shlex.join(run.argv),
                timestamp=self._now(),
                digest=run.digest if self.keeps_digests else "",
                record=run.record if self.keeps_digests else "",
            )
            self.emit(self._runs[run.name])
            if self.ends_at_once is not None:
                self.finish(run.name, exit_code=1, logs=self.ends_at_once)
        if self.fails_after_start:
            raise ComputeUnavailable("the answer was lost on its way")
        return self._runs[run.name]

    async def inspect(self, name: str) -> Observation | None:
        await self._gate("inspect")
        return self._runs.get(name)

    async def runs(self) -> Sequence[Observation]:
        await self._gate("runs")
        return list(self._runs.values())

    async def logs(self, name: str, *, tail: int) -> str:
        await self._gate("logs")
        lines = self._logs.get(name, "").splitlines(keepends=True)
        return "".join(lines[-tail:]) if tail else ""

    async def follow(self, name: str) -> AsyncIterator[bytes]:
        await self._gate("follow")
        told = 0
        while name in self._runs:
            text = self._logs.get(name, "")
            if text[told:]:
                yield text[told:].encode()
                told = len(text)
                continue
            if self._runs[name].state.ended:
                return
            if self._unavailable:
                raise ComputeUnavailable("the log broke off")
            await asyncio.sleep(0.01)

    async def remove(self, name: str) -> None:
        await self._gate("remove")
        self.removed.append(name)
        self._runs.pop(name, None)
        self._logs.pop(name, None)

    async def watch(self) -> AsyncIterator[Observation]:
        await self._gate("watch")
        queue: asyncio.Queue[Observation | None] = asyncio.Queue()
        self._watchers.append(queue)
        try:
            for current in list(self._runs.values()):
                yield current
            while (seen := await queue.get()) is not None:
                yield seen
        finally:
            if queue in self._watchers:
                self._watchers.remove(queue)
        if self._unavailable:
            raise ComputeUnavailable("the watch was cut off")

    # What a test does to runs.

    def begin(self, name: str) -> Observation:
        """Let a pending run begin."""
        return self._change(name, state=RunState.RUNNING, message="running")

    def finish(self, name: str, *, exit_code: int = 0, message: str = "exited", logs: str | None = None) -> Observation:
        """End a run: success is exit code 0."""
        if logs is not None:
            self._logs[name] = logs
        state = RunState.SUCCEEDED if exit_code == 0 else RunState.FAILED
        if self.stages is not None:
            self._runs[name] = replace(self._runs[name], stages=self.stages)
        return self._change(name, state=state, message=message, exit_code=exit_code)

    def write_log(self, name: str, text: str) -> None:
        """Add to a run's log."""
        self._logs[name] = self._logs.get(name, "") + text

    def lose(self, name: str) -> None:
        """Forget a run without a word, as a prune behind the daemon's back does."""
        self._runs.pop(name, None)
        self._logs.pop(name, None)

    def adopt(self, seen: Observation) -> None:
        """Put a run there that an earlier daemon started."""
        self._runs[seen.name] = seen

    def emit(self, seen: Observation) -> None:
        """Deliver an event: also a false, late or unknown one."""
        for queue in self._watchers:
            for _ in range(self.duplicate_events):
                queue.put_nowait(seen)

    @property
    def unavailable(self) -> bool:
        """True: every call raises ComputeUnavailable. Setting it cuts off the watchers."""
        return self._unavailable

    @unavailable.setter
    def unavailable(self, value: bool) -> None:
        self._unavailable = value
        if value:
            self._cut_watchers()

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return len(self._watchers)

    def freeze(self) -> None:
        """Make every call hang until ``thaw``."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Let the hanging calls go on."""
        self._thawed.set()

    def _change(self, name: str, *, state: RunState, message: str, exit_code: int | None = None) -> Observation:
        seen = replace(self._runs[name], state=state, message=message, exit_code=exit_code, timestamp=self._now())
        self._runs[name] = seen
        self.emit(seen)
        return seen

    async def _gate(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)  # every real environment gives way here; a fake that does not would hide races
        await self._thawed.wait()
        if self._unavailable:
            raise ComputeUnavailable("the compute environment does not answer")

    def _cut_watchers(self) -> None:
        for queue in self._watchers:
            queue.put_nowait(None)
        self._watchers.clear()

    def _now(self) -> str:
        """A clock that moves one second with each look at it."""
        self._ticks += 1
        return (EPOCH + timedelta(seconds=self._ticks)).strftime("%Y-%m-%dT%H:%M:%SZ")
