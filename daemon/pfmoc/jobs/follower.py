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
from pfmoc.errors import NotPublished, PfmocError
from pfmoc.jobs import codec
from pfmoc.jobs.board import Board, Claimed
from pfmoc.jobs.endings import CANCELLED
from pfmoc.jobs.lifecycle import PHASE_OF_RUN, move, observe, unpublished
from pfmoc.jobs.model import Job, Kind, Phase, PluginSpec, Spec, inputs_of
from pfmoc.jobs.names import engine_name
from pfmoc.locks import KeyedLocks
from pfmoc.storage.base import Storage

_log = logging.getLogger(__name__)

P = ParamSpec("P")

RESYNC_S = 20.0
"""Seconds between two listings: the bound on how long a silently lost event can hide the end of a run."""
_AT_ONCE = 200
"""Jobs compared with their runs before others have their turn."""
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

        A run that has succeeded, and of which the output is not where it should be, has failed.

        :raises PfmocError: storage or compute could not say; the job stays as it was, and the next listing tries again
        """
        if not job.phase.terminal:
            await self._board.save(job)
            return
        log = await self._compute.logs(job.engine_name, tail=self._log_tail)
        extra: dict[str, object] = {}
        if isinstance(job.spec, PluginSpec):
            published = job.phase is Phase.SUCCEEDED
            try:
                sealed = await self._storage_of(job.spec).seal(inputs_of(job.jid, job.spec), published=published)
            except NotPublished as error:
                job = unpublished(job, error.message)
            else:
                extra |= {"files": sealed.files, "bytes": sealed.size, "allocated": sealed.allocated}
                if sealed.dropped_links:
                    log += f"\npfmoc: left out {sealed.dropped_links} .chrislink files that the plugin wrote\n"
                    extra["dropped_links"] = sealed.dropped_links
        extra |= {"jid": job.jid, "phase": job.phase, "exit_code": job.exit_code, "reason": job.message}
        await self._board.save(job, log=log)
        _log.info("a plugin job ended", extra=extra)

    def look_at(self, job: Job) -> None:
        """Bring a job that was taken over in step with its run, without waiting for news of it."""
        self._spawn(self._look_at, job)

    async def rebuild(self, jid: str) -> Job | None:
        """Put a run of that job id up which has no record; None when there is no such run. The caller holds the job's lock.

        :raises ComputeUnavailable: it cannot be told now
        """
        seen = await self._compute.inspect(engine_name(jid))
        if seen is not None and seen.jid == jid:
            await self._adopt_held(seen)
        return self._board.glance(jid, Kind.PLUGIN)

    async def resolve(self, job: Job) -> Job | None:
        """Find out what became of a job that was begun without an answer to its client.

        The caller holds the job's lock, so no request is at work on it. Returns the job as adopted, or None when it was undone.

        :raises Unavailable: it cannot be told now
        """
        seen = None if job.phase is Phase.STAGING else await self._compute.inspect(job.engine_name)
        if seen is None or not concerns(job, seen):
            await self.undo(job)
            return None
        adopted = observe(job, seen)
        await self.settle(adopted)
        return adopted

    async def undo(self, job: Job) -> None:
        """Clear away a plugin job that no client was told of: its run, the data staged for it, its record."""
        if not self._board.mine(job):
            # Whoever has taken it from us clears it away, but for what it could not see yet: data, and then a run.
            try:
                await self.clear_after(job)
            finally:
                await self._remove_own_run(job)
            return
        if self._board.shared or job.phase is not Phase.STAGING:
            await self._compute.remove(job.engine_name)
        storage = self._storage_of(job.spec)
        if await self._board.find(job.jid, Kind.COPY) is None:
            await storage.discard(job.jid)
        else:
            await storage.withdraw(job.jid)
        await self._board.forget(job)

    async def clear_after(self, job: Job) -> None:
        """Remove what this replica has still written for a job that another one has cancelled or removed meanwhile.

        What another life of the job needs stays, and what a copy has brought. The caller holds the job's lock.
        """
        if await self._stands(job.jid, Kind.PLUGIN):
            return
        storage = self._storage_of(job.spec)
        if not await self._stands(job.jid, Kind.COPY):
            await storage.discard(job.jid)
        elif job.kind is Kind.PLUGIN:
            await storage.withdraw(job.jid)

    async def _stands(self, jid: str, kind: Kind) -> bool:
        there = await self._board.find(jid, kind, fresh=True)
        return there is not None and there.message != CANCELLED

    async def _remove_own_run(self, job: Job) -> None:
        seen = await self._compute.inspect(job.engine_name)
        if seen is not None and concerns(job, seen):
            await self._compute.remove(job.engine_name)

    async def _watch(self) -> None:
        pauses = _BACKOFF.pauses()
        while True:
            try:
                async for seen in self._compute.watch():
                    pauses = _BACKOFF.pauses()
                    if self._is_news(seen):
                        self._spawn(self._apply, seen)
            except PfmocError as error:
                self.stale = f"the watch on the compute environment broke: {error.message}"
                _log.warning("the watch on the compute environment broke", extra={"cause": error.message})
            await asyncio.sleep(next(pauses))
            await self._list()

    def _is_news(self, seen: Observation) -> bool:
        """Whether an observation moves a job of this replica, as far as can be told at a glance. Others are found by listing."""
        job = self._board.glance(seen.jid, Kind.PLUGIN)
        return job is not None and observe(job, seen) != job and self._board.mine(job)

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
        for number, job in enumerate(self._plugin_jobs(), start=1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            run = runs.pop(job.engine_name, None)
            if not self._board.mine(job):
                continue
            if run is None or not concerns(job, run):
                self._spawn(self._missing, job)
            elif observe(job, run) != job:
                self._spawn(self._apply, run)
        for run in runs.values():
            known = self._board.glance(run.jid, Kind.PLUGIN)
            if known is None:
                self._spawn(self._adopt, run)
            elif known.message == CANCELLED and self._board.mine(known) and not run.state.ended:
                self._spawn(self._cut, run)
        self.stale = ""
        return True

    def _plugin_jobs(self) -> list[Job]:
        return [job for job in self._board.live() if job.kind is Kind.PLUGIN]

    async def _apply(self, seen: Observation) -> None:
        async with self._locks.hold(seen.jid):
            job = await self._board.find(seen.jid, Kind.PLUGIN)
            if job is None or job.engine_name != seen.name or not self._board.mine(job) or not concerns(job, seen):
                return
            moved = observe(job, seen)
            if moved.phase.terminal and not job.phase.terminal:
                # While this waited for the lock, the run may have made way for another of its name. Only the engine can tell.
                again = await self._compute.inspect(seen.name) or seen
                if not concerns(job, again):
                    return
                moved = observe(job, again)
            if moved != job:
                await self.settle(moved)

    async def _look_at(self, job: Job) -> None:
        seen = await self._compute.inspect(job.engine_name)
        await (self._missing(job) if seen is None or not concerns(job, seen) else self._apply(seen))

    async def _missing(self, job: Job) -> None:
        async with self._locks.hold(job.jid):
            now = await self._board.find(job.jid, Kind.PLUGIN)
            if now is None or now.phase.terminal or not self._board.mine(now):
                return
            if now.phase in (Phase.STAGING, Phase.STARTING):
                await self.resolve(now)
                return
            seen = await self._compute.inspect(now.engine_name)
            if seen is None or not concerns(now, seen):
                lost = move(now, Phase.LOST, message="the run is gone from the compute environment; its outcome is unknown")
                await self._board.save(lost)
                _log.warning("a run is gone from the compute environment", extra={"jid": now.jid})

    async def _adopt(self, seen: Observation) -> None:
        """Put a run on the board whose record was lost, so that its client is answered."""
        async with self._locks.hold(seen.jid):
            await self._adopt_held(seen)

    async def _adopt_held(self, seen: Observation) -> None:
        if PHASE_OF_RUN.get(seen.state) is None or await self._board.find(seen.jid, Kind.PLUGIN) is not None:
            return
        job = codec.from_run(seen.jid, seen.record)
        if job.engine_name != seen.name:
            return
        try:
            job = await self._board.claim(job, claim=job.claim)
        except Claimed:
            return
        await self.settle(observe(job, seen))
        _log.warning("adopted a run that had no record", extra={"jid": seen.jid})

    async def _cut(self, seen: Observation) -> None:
        """Remove a run that came to be while its job was cancelled."""
        async with self._locks.hold(seen.jid):
            job = await self._board.find(seen.jid, Kind.PLUGIN)
            if job is not None and job.message == CANCELLED and concerns(job, seen):
                await self._compute.remove(seen.name)

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


def concerns(job: Job, seen: Observation) -> bool:
    """True where a run is that of this life of the job, as far as the environment tells lives apart."""
    return not (seen.digest and job.spec is not None) or seen.digest == codec.digest(job)
