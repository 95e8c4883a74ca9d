"""The board of all jobs as they stand. What stands behind it is one daemon's own file, or a cluster that several share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from pfmoc.errors import Conflict
from pfmoc.jobs.model import Job, Kind

JobKey = tuple[str, Kind]


class Claimed(Exception):
    """Another replica was first; the board now shows what it has made of the job."""


class Superseded(Conflict):
    """The job was removed, cancelled or taken over by another replica: what was to be written of it counts no more."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"The {job.kind} job '{job.jid}' was removed or cancelled meanwhile.")


class Board(ABC):
    """Every job as it stands. A move is written down before it shows.

    Writing raises ``StorageFull`` or ``StorageUnavailable``, ``ComputeUnavailable`` or ``ComputeRefused`` where the cluster keeps
    the records.
    """

    shared = False
    """True where other replicas write too."""

    @property
    def age_s(self) -> float | None:
        """Seconds since what is shown was last confirmed; None while it is in step."""
        return None

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def live(self) -> Iterator[Job]:
        """The jobs that have not ended, as of this call."""

    @abstractmethod
    async def find(self, jid: str, kind: Kind, *, fresh: bool = False) -> Job | None:
        """Return a job, or None when there is none; a memory that has none is never taken for an answer.

        :param fresh: True asks the records themselves, and not a memory that may lag behind another replica
        """

    @abstractmethod
    def glance(self, jid: str, kind: Kind) -> Job | None:
        """Return a job if it is in memory: every live one is, and many ended ones are."""

    @abstractmethod
    async def claim(self, job: Job, *, over: Job | None = None, claim: str = "") -> Job:
        """Put up a job that begins, and make it this replica's to move. Returns it with its claim.

        :param over: the ended job whose place it takes
        :param claim: of the life that goes on, for a job that is rebuilt; empty begins a new one
        :raises Claimed: another replica was first
        """

    @abstractmethod
    async def save(self, job: Job, *, log: str = "") -> None:
        """Put a job up as it stands now.

        :raises Superseded: it is no longer this replica's to move, or no longer there
        """

    @abstractmethod
    async def log(self, job: Job) -> str:
        """Return the log tail kept with an ended job."""

    @abstractmethod
    async def forget(self, job: Job) -> None:
        """Take a job down for good. Absent, or another life of it, is not an error."""

    @abstractmethod
    async def aged(self, days: float) -> Sequence[Job]:
        """Some of the jobs that ended so many days ago."""

    def mine(self, job: Job) -> bool:  # noqa: ARG002 - see below
        """True where it is this replica that moves the job. A board of one's own holds nothing else."""
        return True

    def orphans(self) -> Sequence[Job]:
        """The live jobs whose replica is dead."""
        return ()

    async def take(self, job: Job, *, orphaned: bool = False) -> Job | None:
        """Make a job this replica's to move; returns it as it stands then, also when it has ended. None when it is gone.

        :param orphaned: True only takes it from a replica that is dead; None also when that lives
        """
        return await self.find(*job.key) if not orphaned else None
