"""Copy, upload and delete jobs: work that this daemon does itself, in the background, to its one end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pfmoc.backoff import Backoff
from pfmoc.errors import PfmocError
from pfmoc.jobs.board import Board, JobKey, Superseded
from pfmoc.jobs.lifecycle import move
from pfmoc.jobs.model import Job, Phase, now

_log = logging.getLogger(__name__)

AT_ONCE = 4
"""Jobs that move data at one time; the others wait, and say ``notStarted``."""
_SAVING = Backoff(first_s=0.5, longest_s=15.0, factor=2.0)
"""While the end of a job cannot be written down."""

Work = Callable[[Job], Awaitable[str]]
"""Does what a job asks for, and returns its log."""
ClearAfter = Callable[[Job], Awaitable[None]]
"""Removes what was still written for a job after another replica had ended it."""


class Background:
    """The work under way.

    :param work_of: what a job's work is, and whether it moves data, so that it waits for its turn
    """

    def __init__(self, board: Board, *, work_of: Callable[[Job], tuple[Work, bool]], clear_after: ClearAfter) -> None:
        self._board = board
        self._work_of = work_of
        self._clear_after = clear_after
        self._tasks: dict[JobKey, asyncio.Task[None]] = {}
        self.turns = asyncio.Semaphore(AT_ONCE)

    def spawn(self, job: Job) -> None:
        """Begin, or go on with what another daemon began: every work can be done twice."""
        task = asyncio.create_task(self._operate(job))
        self._tasks[job.key] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.key))

    def at_work(self, job: Job) -> bool:
        """True while the job's work is under way here."""
        return job.key in self._tasks

    async def halt(self, key: JobKey) -> None:
        """Stop working on a job. It stays on the board as it is."""
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def stop(self) -> None:
        """Stop everything; the jobs stay on the board as they are, for the next daemon."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _operate(self, job: Job) -> None:
        work, moves_data = self._work_of(job)
        try:
            if moves_data:
                async with self.turns:
                    job = await self._under_way(job)
                    log = await work(job)
            else:
                job = await self._under_way(job)
                log = await work(job)
            await self._end(job, Phase.SUCCEEDED, log)
        except Superseded as gone:
            await self._leave(job, gone)
        except PfmocError as error:
            _log.warning("a job failed", extra=_extra(job, error))
            await self._end(job, Phase.FAILED, error.message)
        except Exception:  # noqa: BLE001 - whatever happens, the job reaches a terminal phase and its client hears of it
            _log.exception("a job failed", extra={"jid": job.jid, "kind": job.kind})
            await self._end(job, Phase.FAILED, "Internal error; the server's log has the cause.")

    async def _under_way(self, job: Job) -> Job:
        """Move to RUNNING; a job that a restart found there stays."""
        if job.phase is Phase.RUNNING:
            return job
        job = move(job, Phase.RUNNING, message="running", timestamp=now())
        await self._write(job)
        return job

    async def _end(self, job: Job, phase: Phase, log: str) -> None:
        message = "finished" if phase is Phase.SUCCEEDED else log
        try:
            await self._write(move(job, phase, message=message, timestamp=now()), log=log)
        except Superseded as gone:
            await self._leave(job, gone)

    async def _leave(self, job: Job, gone: Superseded) -> None:
        _log.info("a job is no longer this daemon's", extra=_extra(job, gone))
        try:
            await self._clear_after(job)
        except PfmocError as error:
            _log.warning("what was written for a job that is no longer this daemon's stays", extra=_extra(job, error))

    async def _write(self, job: Job, *, log: str = "") -> None:
        """Write a move down, however long the records cannot be written: nobody else will.

        :raises Superseded: it counts no more
        """
        for pause in _SAVING.pauses():
            try:
                await self._board.save(job, log=log)
                break
            except Superseded:
                raise
            except PfmocError as error:
                _log.warning("a move of a job cannot be written down yet", extra=_extra(job, error))
            await asyncio.sleep(pause)


def _extra(job: Job, error: PfmocError) -> dict[str, str]:
    return {"jid": job.jid, "kind": job.kind, "cause": error.message}
