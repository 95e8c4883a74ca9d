"""Follows the compute environment and moves plugin jobs as their runs move.

A watch brings each change as it happens. The watch may break, and events may be lost with it, so runs are also listed: at the
start, after each break, and every ``RESYNC_S`` seconds while jobs are live.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import ParamSpec, Self

from pfmoc.backoff import Backoff
from pfmoc.compute.base import Compute, Observation
from pfmoc.errors import PfmocError
from pfmoc.jobs.board import Board
from pfmoc.jobs.lifecycle import PHASE_OF_RUN, move, observe
from pfmoc.jobs.model import Job, Kind, Phase, PluginSpec, Spec, inputs_of
from pfmoc.locks import KeyedLocks
from pfmoc.storage.base import Storage

_log = logging.getLogger(__name__)

P = ParamSpec("P")

RESYNC_S = 20.0
"""Seconds between two listings: the bound on how long a silently lost event can hide the end of a run."""
_BACKOFF = Backoff(first_s=0.5, longest_s=15.0, factor=2.0)
"""After the compute environment failed to answer."""


class Follower:
    """Keeps the plugin jobs on the board in step with their runs. Entered once."""

    def __init__(
        self, *, board: Board, compute: Compute, storage_of: Callable[[Spec | None], Storage], locks: KeyedLocks, log_tail: int
    ) -> None:
        self._board = board
        self._compute = compute
        self._storage_of = storage_of
        self._locks = locks
        self._log_tail = log_tail
        self._tasks: set[asyncio.Task[None]] = set()
        self.stale = "the compute environment has not been listed yet"
        """Why the board may lag behind the compute environment; empty when it is in step."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            self._spawn(self._watch)
            self._spawn(self._resync)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def settle(self, job: Job) -> None:
        """Put a job up as an observation left it; the first time that it has ended, with its log and what it left behind.

        :raises PfmocError: storage or compute could not say; the job stays as it was, and the next listing tries again
        """
        if not job.phase.terminal:
            await self._board.save(job)
            return
        log = await self._compute.logs(job.engine_name, tail=self._log_tail)
        extra: dict[str, object] = {"jid": job.jid, "phase": job.phase, "exit_code": job.exit_code, "reason": job.message}
        if isinstance(job.spec, PluginSpec):
            sealed = await self._storage_of(job.spec).seal(inputs_of(job.jid, job.spec))
            extra |= {"files": sealed.files, "bytes": sealed.size, "allocated": sealed.allocated}
            if sealed.dropped_links:
                log += f"\npfmoc: left out {sealed.dropped_links} .chrislink files that the plugin wrote\n"
                extra["dropped_links"] = sealed.dropped_links
        await self._board.save(job, log=log)
        _log.info("a plugin job ended", extra=extra)

    async def resolve(self, job: Job) -> Job | None:
        """Find out what became of a job that was begun without an answer to its client.

        The caller holds the job's lock, so no request is at work on it. Returns the job as adopted, or None when it was undone.

        :raises Unavailable: it cannot be told now
        """
        seen = None if job.phase is Phase.STAGING else await self._compute.inspect(job.engine_name)
        if seen is None:
            await self.undo(job)
            return None
        adopted = observe(job, seen)
        await self.settle(adopted)
        return adopted

    async def undo(self, job: Job) -> None:
        """Clear away a plugin job that no client was told of: its run, the data staged for it, its record."""
        if job.phase is not Phase.STAGING:
            await self._compute.remove(job.engine_name)
        if await self._board.find(job.jid, Kind.COPY) is None:
            await self._storage_of(job.spec).discard(job.jid)
        await self._board.forget(job)

    async def _watch(self) -> None:
        pauses = _BACKOFF.pauses()
        while True:
            try:
                async for seen in self._compute.watch():
                    pauses = _BACKOFF.pauses()
                    self._spawn(self._apply, seen)
            except PfmocError as error:
                self.stale = f"the watch on the compute environment broke: {error.message}"
                _log.warning("the watch on the compute environment broke", extra={"cause": error.message})
            await asyncio.sleep(next(pauses))
            await self._list()

    async def _resync(self) -> None:
        pauses = _BACKOFF.pauses()
        while True:
            if not (self.stale or self._plugin_jobs()) or await self._list():
                pauses = _BACKOFF.pauses()
                await asyncio.sleep(RESYNC_S)
            else:
                await asyncio.sleep(next(pauses))

    async def _list(self) -> bool:
        """Bring the board in step with all runs. Returns False when the compute environment did not answer."""
        try:
            runs = {seen.name: seen for seen in await self._compute.runs()}
        except PfmocError as error:
            self.stale = f"the compute environment cannot be listed: {error.message}"
            _log.warning("the compute environment cannot be listed", extra={"cause": error.message})
            return False
        known = set()
        for job in self._plugin_jobs():
            known.add(job.engine_name)
            run = runs.get(job.engine_name)
            if run is None:
                self._spawn(self._missing, job)
            else:
                self._spawn(self._apply, run)
        for name, run in runs.items():
            if name not in known and self._board.glance(run.jid, Kind.PLUGIN) is None:
                self._spawn(self._adopt, run)
        self.stale = ""
        return True

    def _plugin_jobs(self) -> list[Job]:
        return [job for job in self._board.live() if job.kind is Kind.PLUGIN]

    async def _apply(self, seen: Observation) -> None:
        async with self._locks.hold(seen.jid):
            job = await self._board.find(seen.jid, Kind.PLUGIN)
            if job is None or job.engine_name != seen.name:
                return
            moved = observe(job, seen)
            if moved.phase.terminal and not job.phase.terminal:
                # While this waited for the lock, the run may have made way for another of its name. Only the engine can tell.
                moved = observe(job, await self._compute.inspect(seen.name) or seen)
            if moved != job:
                await self.settle(moved)

    async def _missing(self, job: Job) -> None:
        async with self._locks.hold(job.jid):
            now = await self._board.find(job.jid, Kind.PLUGIN)
            if now is None or now.phase.terminal:
                return
            if now.phase in (Phase.STAGING, Phase.STARTING):
                await self.resolve(now)
            elif await self._compute.inspect(now.engine_name) is None:
                lost = move(now, Phase.LOST, message="the run is gone from the compute environment; its outcome is unknown")
                await self._board.save(lost)
                _log.warning("a run is gone from the compute environment", extra={"jid": now.jid})

    async def _adopt(self, seen: Observation) -> None:
        """Put a run on the board whose record was lost, so that its client is answered."""
        async with self._locks.hold(seen.jid):
            phase = PHASE_OF_RUN.get(seen.state)
            if phase is None or await self._board.find(seen.jid, Kind.PLUGIN) is not None:
                return
            job = Job(jid=seen.jid, kind=Kind.PLUGIN, spec=None, phase=Phase.STARTING)
            if job.engine_name == seen.name:
                await self.settle(observe(job, seen))
                _log.warning("adopted a run that had no record", extra={"jid": seen.jid})

    def _spawn(self, work: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
        async def guarded() -> None:
            """Run to the end; a dependency that fails is logged, and the next listing tries again."""
            try:
                await work(*args, **kwargs)
            except PfmocError as error:
                _log.warning("a job could not be brought in step yet", extra={"cause": error.message})
            except Exception:  # noqa: BLE001 - a bug met with one job must not end the watch on all others
                _log.exception("a job could not be brought in step")

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
