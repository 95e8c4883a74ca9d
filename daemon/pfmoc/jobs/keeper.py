"""What is done for jobs without a request: resuming after a restart, taking over from a dead replica, forgetting what is old."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from pfmoc.errors import PfmocError, Unavailable
from pfmoc.jobs.background import Background
from pfmoc.jobs.board import Board
from pfmoc.jobs.follower import Follower
from pfmoc.jobs.model import Job, Kind, Phase
from pfmoc.locks import KeyedLocks

_log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Seconds between two looks for jobs of dead replicas."""
REAP_S = 3600.0
"""Seconds between two looks for old records."""
AWAITED_S = 120.0
"""Seconds for which a request waits for what another replica makes of an equal one."""
_POLL_S = 0.05
_ASK_S = 1.0

Forget = Callable[[str, Kind], Awaitable[bool]]


class Keeper:
    """Looks after the jobs of this replica and of dead ones. Entered once.

    :param forget: takes an old job off the board, under the lock of its id; None keeps all
    :param days: for which records are kept
    """

    def __init__(
        self,
        *,
        board: Board,
        locks: KeyedLocks,
        follower: Follower,
        background: Background,
        forget: Forget | None,
        days: float,
    ) -> None:
        self._board = board
        self._locks = locks
        self._follower = follower
        self._background = background
        self._forget = forget
        self._days = days

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._reap_now_and_then(), name="old records")]
        if self._board.shared:
            self._tasks.append(asyncio.create_task(self._take_over(), name="jobs of dead replicas"))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def resume(self) -> None:
        """Take up what the predecessor of this replica left: undo what it never answered, go on with what it had promised."""
        for job in self._board.live():
            if self._board.mine(job):
                await self._resume(job)

    async def awaited(self, job: Job) -> Job | None:
        """Wait for what another replica makes of a job that it has begun; None when that was undone.

        :raises Unavailable: it takes too long
        """
        end = time.monotonic() + AWAITED_S
        asked = time.monotonic()
        there: Job | None = job
        while there is not None and there.phase in (Phase.STAGING, Phase.STARTING):
            if await self._board.take(there, orphaned=True) is not None:
                return await self._follower.resolve(there)
            if time.monotonic() > end:
                raise Unavailable(f"The job '{job.jid}' is being started by another server.")
            await asyncio.sleep(_POLL_S)
            fresh = time.monotonic() - asked > _ASK_S
            asked = time.monotonic() if fresh else asked
            there = await self._board.find(*job.key, fresh=fresh)
        return there

    async def reap(self) -> int:
        """Forget jobs that ended long ago. Returns how many."""
        reaped = 0
        while self._forget is not None and (jobs := await self._board.aged(self._days)):
            for job in jobs:
                async with self._locks.hold(job.jid):
                    there = await self._board.find(*job.key)
                    # Meanwhile the id may have been used anew.
                    if there is not None and there.phase.terminal and there.timestamp == job.timestamp:
                        await self._forget(*job.key)
                reaped += 1
        return reaped

    async def _resume(self, job: Job) -> None:
        if job.kind is not Kind.PLUGIN:
            if not self._background.at_work(job):
                self._background.spawn(job)
        elif job.phase is Phase.STAGING:
            try:
                await self._follower.undo(job)
            except PfmocError as error:
                _log.warning("a job that was not answered could not be undone yet", extra=_extra(job, error))

    async def _take_over(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for job in self._board.orphans():
                try:
                    async with self._locks.hold(job.jid):
                        taken = await self._board.take(job, orphaned=True)
                        if taken is not None and not taken.phase.terminal:
                            await self._resume(taken)
                    if taken is not None and taken.kind is Kind.PLUGIN:
                        self._follower.look_at(taken)
                except PfmocError as error:
                    _log.warning("a job of a dead replica could not be taken over yet", extra=_extra(job, error))
                except Exception:  # noqa: BLE001 - a bug met with one job must not leave all others without anyone
                    _log.exception("a job of a dead replica could not be taken over", extra={"jid": job.jid})

    async def _reap_now_and_then(self) -> None:
        while True:
            try:
                if reaped := await self.reap():
                    _log.info("forgot jobs that ended long ago", extra={"jobs": reaped})
            except PfmocError as error:
                _log.warning("old records could not be removed yet", extra={"cause": error.message})
            except Exception:  # noqa: BLE001 - old records are no reason to stop
                _log.exception("old records could not be removed")
            await asyncio.sleep(REAP_S)


def _extra(job: Job, error: PfmocError) -> dict[str, str]:
    return {"jid": job.jid, "kind": job.kind, "cause": error.message}
