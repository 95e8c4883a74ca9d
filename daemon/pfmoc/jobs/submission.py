"""Requests that make jobs: each job is made once, however many equal requests come at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields

from pfmoc.errors import Conflict, Unavailable
from pfmoc.jobs.board import Board, Claimed, JobKey
from pfmoc.jobs.model import Job, Kind, Phase, Spec, Status
from pfmoc.locks import KeyedLocks
from pfmoc.storage.base import Staged

_CLAIMS = 5
"""Times that a request which other replicas were quicker with is looked at anew."""
_NOT_COMPARED = frozenset({"env", "auid", "placed"})
"""Fields in which two requests for one job may differ: the token in the environment changes from try to try, and the second may
come by another dialect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """The answer to a request for a job."""

    job: Job
    log: str = ""
    """Tail of the log when the job was there already, or has ended already; empty for a new one that goes on."""
    staged: Staged | None = None
    """What staging did, when this request staged data."""


@dataclass(eq=False, kw_only=True, slots=True)
class _Flight:
    """A request that makes a job, under way."""

    spec: Spec
    task: asyncio.Task[Submission] = field(init=False)
    halted: bool = False


class Flights:
    """The requests under way in this process."""

    def __init__(self) -> None:
        self._flights: dict[JobKey, _Flight] = {}

    async def share(self, key: JobKey, spec: Spec, make: Callable[[], Awaitable[Submission]]) -> Submission:
        """Make a job, or share what an equal request makes of it right now.

        :raises Conflict: another request for that job is under way; or this one was halted
        :raises Unavailable: the daemon stops
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(spec=spec)
            flight.task = asyncio.create_task(_fly(key, flight, make))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda task: self._landed(key, task))
        else:
            require_same(key, flight.spec, spec)
        return await asyncio.shield(flight.task)

    async def halt(self, key: JobKey, *, cut: Callable[[], Awaitable[bool]]) -> None:
        """Wait until no request for this job is under way.

        :param cut: asked once whether it may be broken off, rather than waited for
        """
        flight = self._flights.get(key)
        if flight is None:
            return
        if await cut():
            flight.halted = True
            flight.task.cancel()
        await asyncio.wait([flight.task])

    async def stop(self) -> None:
        """Break off everything."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: JobKey, task: asyncio.Task[Submission]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # marks it as seen: the client that asked may be gone


class Submissions:
    """Makes each job at most once: an equal request under way is shared, an equal job that stands is returned.

    :param begun: finds out what becomes of a job that is not answered yet; None when it was undone
    :param rebuild: puts a plugin job up of which there is a run and no record
    :param log_of: the tail of a job's log as it stands
    """

    def __init__(
        self,
        *,
        board: Board,
        locks: KeyedLocks,
        begun: Callable[[Job], Awaitable[Job | None]],
        rebuild: Callable[[str], Awaitable[Job | None]],
        log_of: Callable[[Job], Awaitable[str]],
    ) -> None:
        self.flights = Flights()
        self._board = board
        self._locks = locks
        self._begun = begun
        self._rebuild = rebuild
        self._log_of = log_of

    async def once(self, key: JobKey, spec: Spec, begin: Callable[[Job | None], Awaitable[Submission]]) -> Submission:
        """Answer a request for a job.

        :param begin: makes the job, in the place of one that has ended where it is given one
        :raises Conflict: the job that stands does something else
        :raises Unavailable: other replicas were quicker, again and again
        """

        async def make() -> Submission:
            async with self._locks.hold(key[0]):
                for _ in range(_CLAIMS):
                    standing, over = await self._standing(key)
                    if standing is not None:
                        require_same(key, standing.spec, spec)
                        return Submission(job=standing, log=await self._log_of(standing))
                    try:
                        return await begin(over)
                    except Claimed:
                        continue
            raise Unavailable(f"The {key[1]} job '{key[0]}' changes hands. Try again.")

        return await self.flights.share(key, spec, make)

    async def _standing(self, key: JobKey) -> tuple[Job | None, Job | None]:
        """Return the job that a new request meets, or else the one whose place it takes: it failed, or its fate is unknown."""
        job = await self._board.find(*key)
        if job is None and self._board.shared and key[1] is Kind.PLUGIN:
            job = await self._rebuild(key[0])
        if job is not None and job.phase in (Phase.STAGING, Phase.STARTING):
            job = await self._begun(job)
        if job is None:
            return None, None
        over = job.status in (Status.FAILED, Status.UNDEFINED)
        # What a delete job removed is there again: the id was used anew.
        over = over or (job.kind is Kind.DELETE and job.phase is Phase.SUCCEEDED)
        return (None, job) if over else (job, None)


async def _fly(key: JobKey, flight: _Flight, make: Callable[[], Awaitable[Submission]]) -> Submission:
    try:
        return await make()
    except asyncio.CancelledError:
        if flight.halted:
            raise Conflict(f"The {key[1]} job was cancelled while its input was being staged.") from None
        raise Unavailable("The server is shutting down. Try again.") from None


def skipped(jid: str, kind: Kind, spec: Spec, message: str) -> Submission:
    """The answer to a request for a job that this storage does not need: it has succeeded, and is not put up."""
    return Submission(job=Job(jid=jid, kind=kind, spec=spec, phase=Phase.SUCCEEDED, message=message))


def require_same(key: JobKey, standing: Spec | None, asked: Spec) -> None:
    """Refuse a request that would be answered with a job which does something else.

    :raises Conflict: the first field that differs
    """
    if standing is None:
        return
    for each in fields(asked):
        if each.name not in _NOT_COMPARED and not _equal(getattr(standing, each.name), getattr(asked, each.name)):
            raise Conflict(
                f"{each.name}: differs from that of the {key[1]} job '{key[0]}', which exists already."
                " Delete that job first, or use another jid."
            )


def _equal(one: object, other: object) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return list(one) == list(other)
    return one == other
