"""What the daemon asks of a compute environment, and what it hears from one.

A compute environment starts *runs* (one plugin, one container or process) and reports *observations* of them. It knows nothing of
HTTP, dialects or records; a run is known by its engine name, and carries the client's job id as a label so that a daemon that
starts anew finds its runs again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from pfmoc.data import Data, Mounts
from pfmoc.errors import ComputeRefused

INCOMING = "/share/incoming"
"""Where a plugin finds its input (contract 2.7)."""

OUTGOING = "/share/outgoing"
"""Where a plugin leaves its output (contract 2.7)."""


FOLLOWED_LINES = 100_000
"""Lines that ``follow`` yields at most where it cannot follow."""

OUT_OF_MEMORY = "OOMKilled"
"""Message of a run that the kernel has killed because of its memory limit."""


class RunState(StrEnum):
    """What the environment says of a run."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNDEFINED = "undefined"

    @property
    def ended(self) -> bool:
        """True when the run will not change any more."""
        return self in (RunState.SUCCEEDED, RunState.FAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Resources of one run. Each is a hard limit wherever the environment can enforce one."""

    number_of_workers: int = 1
    cpu_millicores: int
    memory_mib: int
    gpus: int = 0
    gpu_product: str | None = None
    """Which GPUs, as ``nvidia.com/gpu.product`` labels their nodes; None: any that the site has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One plugin run, ready to be started."""

    name: str
    """Engine name: a DNS label, unique per job id and kind (``jobs.names.engine_name``)."""
    jid: str
    """The client's job id, kept as a label."""
    image: str
    argv: Sequence[str]
    """Complete command line as the plugin sees it: paths below ``INCOMING`` and ``OUTGOING``."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment of the plugin. May hold the user's CUBE token: never to be logged."""
    data: Data
    """Directories where ``Compute.shared``, else tickets."""
    limits: Limits
    digest: str = ""
    """Hash of what was asked for: two runs of one name and digest are one run."""
    record: str = ""
    """What was asked for, as JSON, without the environment: from it a daemon that knows nothing rebuilds its record."""
    priority: str | None = None
    """Priority class; None leaves it to the settings."""
    queue: str | None = None
    """Queue that admits the run; None leaves it to the settings."""
    arch: str | None = None
    """Architecture of the node, as Kubernetes spells it (``amd64``, ``ppc64le``); None leaves it to the image."""

    @property
    def mounts(self) -> Mounts:
        """The directories of a run that has some.

        :raises ComputeRefused: its data are in an object store
        """
        if not isinstance(self.data, Mounts):
            raise ComputeRefused("this compute environment needs storage that it shares with the server", engine_status=500)
        return self.data


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """Where the time of a run went. Each in seconds, and of one that goes on as far as it has come; None: not begun, or none."""

    waiting: float | None = None
    """From the request until the first container began: quota, scheduling, images."""
    pull: float | None = None
    plugin: float | None = None
    publish: float | None = None
    node: str = ""
    pod: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What is known of a run at one moment."""

    name: str
    jid: str
    state: RunState
    message: str
    """The environment's own word for the state, or its reason: ``exited``, ``OOMKilled`` ..."""
    image: str
    cmd: str
    """The command line as one string, quoted as a shell would read it."""
    timestamp: str
    """When the run ended, or else started: RFC 3339, UTC."""
    exit_code: int | None = None
    digest: str = ""
    """That of the run; empty where the environment keeps none."""
    record: str = ""
    """That of the run; empty where the environment keeps none."""
    stages: Stages | None = None


class Compute(ABC):
    """A compute environment. Entered once, at start; everything it holds is released on exit, but no run is stopped.

    Every method that talks to the engine raises ``ComputeUnavailable`` when it does not answer within its deadline, and
    ``ComputeRefused`` when it answers with a refusal. Absence is only ever said by an engine that is well.
    """

    env: str
    """Value of ``container_env`` in server info."""
    volume_type: str
    """Value of ``compute_volume_type`` in server info."""
    shared: bool = True
    """True: a run's data are ``Mounts``, of a volume that the daemon sees too. False: they are ``Tickets``."""

    @property
    def age_s(self) -> float | None:
        """Seconds since the engine last confirmed what answers are made from; None where every answer asks it."""
        return None

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def check(self, image: str, limits: Limits) -> None:
        """Reject what this environment can never run, before anything is staged.

        :raises InvalidRequest: names the field and its bound
        :raises ComputeRefused: the image can never be had, or a refusal has upstream's own words (contract 7.3)
        """

    @abstractmethod
    async def probe(self) -> None:
        """Prove that the environment can take work: a real question to the engine.

        :raises ComputeUnavailable: it cannot
        """

    @abstractmethod
    async def start(self, run: Run) -> Observation:
        """Start a run, or return the one of that name which is already there.

        The image is fetched first where the engine can fetch it. Starting is atomic: after an error no run of that name is left,
        as far as the engine can still be reached. A caller that is cancelled leaves a whole run or none; ``inspect`` tells which.

        :raises ComputeConflict: the run of that name has another digest
        """

    @abstractmethod
    async def inspect(self, name: str) -> Observation | None:
        """Observe one run; None when the engine is well and knows none of that name."""

    @abstractmethod
    async def runs(self) -> Sequence[Observation]:
        """Observe every run that carries this daemon's labels, ended ones included."""

    @abstractmethod
    async def logs(self, name: str, *, tail: int) -> str:
        """Return the last ``tail`` lines of standard output and error together; empty when there is no such run.

        Bytes that are not UTF-8 are replaced.
        """

    async def follow(self, name: str) -> AsyncIterator[bytes]:
        """Yield a run's log from its beginning, as it is written, until the run ends; nothing when there is no such run.

        An environment that cannot follow yields what there is, once.
        """
        yield (await self.logs(name, tail=FOLLOWED_LINES)).encode()

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Stop the run if it goes on, by force, and forget it. An absent run is not an error.

        On return no process of the run is alive.
        """

    @abstractmethod
    def watch(self) -> AsyncIterator[Observation]:
        """Yield every run as it is, and then an observation whenever one changes, until the environment is closed.

        What changes while the watch is being set up is not missed. Observations may come twice.

        :raises ComputeUnavailable: the connection broke; the caller backs off, lists with ``runs`` and watches again
        """
