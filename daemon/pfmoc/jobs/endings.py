"""How jobs end before their time, and how they are forgotten: rights first, then the run, then the record."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from pfmoc.compute.base import Compute
from pfmoc.errors import Unavailable
from pfmoc.jobs.board import Board, Superseded
from pfmoc.jobs.lifecycle import move
from pfmoc.jobs.model import Job, Kind, Phase, Spec, now
from pfmoc.jobs.names import engine_name
from pfmoc.jobs.tails import Tails
from pfmoc.storage.base import Storage

_log = logging.getLogger(__name__)

CANCELLED = "cancelled"
"""Message of a job that was ended by a request."""


class Endings:
    """Ends jobs. Whoever calls holds the lock of the job id.

    :param log_of: the tail of a job's log as it stands
    """

    def __init__(
        self,
        *,
        board: Board,
        compute: Compute,
        storage_of: Callable[[Spec | None], Storage],
        tails: Tails,
        log_of: Callable[[Job], Awaitable[str]],
    ) -> None:
        self._board = board
        self._compute = compute
        self._storage_of = storage_of
        self._tails = tails
        self._log_of = log_of

    async def cancel(self, jid: str, kind: Kind) -> None:
        """End a job that goes on, here or with another replica; it stays on the board, as failed."""
        job = await self._board.find(jid, kind, fresh=self._board.shared)
        if job is None or job.phase.terminal:
            return
        job = await self._board.take(job)
        if job is None or job.phase.terminal:
            return
        log = await self._log_of(job)
        if kind is Kind.PLUGIN:
            await self._withdraw(job)
            await self._compute.remove(job.engine_name)
        try:
            await self._board.save(move(job, Phase.FAILED, message=CANCELLED, timestamp=now()), log=log)
        except Superseded:
            _log.info("a job was removed while it was cancelled", extra={"jid": jid, "kind": kind})

    async def forget(self, jid: str, kind: Kind) -> bool:
        """Take a job off the board, its run first. Returns whether it was known."""
        job = await self._board.find(jid, kind)
        if kind is Kind.PLUGIN:
            await self.clear(jid, job)
        if job is not None:
            await self._board.forget(job)
        return job is not None

    async def clear(self, jid: str, job: Job | None) -> None:
        """Remove a plugin job's run, and whatever is known of its log. The record stays.

        :param job: the job, where it is known
        """
        if job is not None and not job.phase.terminal:
            await self._withdraw(job)
        name = engine_name(jid)
        await self._compute.remove(name)
        self._tails.forget(name)

    async def _withdraw(self, job: Job) -> None:
        """Take back the run's rights before it ends, for ending it makes it publish."""
        try:
            await self._storage_of(job.spec).withdraw(job.jid)
        except Unavailable as error:
            # Without storage it cannot publish either, and it must not run on for that.
            _log.warning("the rights of a job could not be taken back", extra={"jid": job.jid, "cause": error.message})
