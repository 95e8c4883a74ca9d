"""What the daemon asks of storage: put a job's input where a plugin can read it, and hand out what the plugin left.

The storeBase holds one directory per job, ``key-<jid>/{incoming,outgoing}``, beside the users' own trees (contract 6). Where a
path comes from a client it is resolved and must lie within the storeBase, outside of other jobs' ``key-*`` directories. An object
store has the same names as prefixes in one container, and moves no byte through the daemon: the pod does that, with tickets.
Where no pod can, the daemon brings data to the storeBase and back (``pfmoc.staged``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from types import MappingProxyType

from pfmoc.data import Data
from pfmoc.errors import NoSuchData


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What a client says of a job's data."""

    jid: str
    upload: Path | None = None
    """The spooled zip of the request, for storage out of the network."""
    input_dirs: Sequence[str] = ()
    """Paths relative to the storeBase."""
    output_dir: str | None = None
    """Path relative to the storeBase. It exists already (CUBE makes it)."""
    workers: int | None = None
    """How many workers the run has, each of which publishes for itself; None where that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """What staging did."""

    nfiles: int
    """Files as upstream counts them (contract 2.4, 6.1)."""
    path: PurePath
    """Server path of the staged input, or the prefix under which an object store keeps what staging made."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it was done: requests that share one staging are told the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sealed:
    """What the plugin left, measured once it has ended."""

    files: int
    size: int
    """Apparent size in bytes."""
    allocated: int
    """Bytes really occupied; far below ``size`` for sparse files."""
    dropped_links: int
    """``.chrislink`` files that the plugin wrote: never followed, and removed where a later job could follow them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveFile:
    """One object of a job's output, to be put into a zip."""

    name: str
    """Relative to the output, parts separated by slashes."""
    size: int
    """Bytes, as the store has told."""
    modified: datetime
    """When it was written, UTC."""
    open: Callable[[], AsyncIterator[bytes]]
    """Reads the object from its beginning, in pieces as they come. May be called again.

    It raises ``StorageUnavailable`` when the store does not answer or breaks off, and ``NoSuchData`` when the object is gone.
    """


ArchiveSource = AsyncIterable[ArchiveFile]
"""A job's output as it is found, page by page; nothing is read before it is asked for."""


class Storage(ABC):
    """A storage mode. All methods that touch data work off the event loop.

    They raise ``StorageFull`` (no space, inodes or quota) and ``StorageUnavailable`` (read-only, unreachable, I/O error); what
    they had begun is removed first.
    """

    env: str
    """Value of ``storage_env`` in server info."""
    innetwork: bool
    """True when CUBE and this daemon share the storage, so that no payload crosses the API."""
    requires_copy: bool
    """True when a copy job must come before the plugin job."""
    requires_upload: bool
    """True when an upload job must come after the plugin job."""
    objects: bool = False
    """True for an object store: the output can be had with ``archive`` rather than ``zip_root``."""
    described: Mapping[str, str] = MappingProxyType({})
    """What server info tells besides, such as ``swift_auth_url`` (contract 2.1). Nothing secret."""

    async def close(self) -> None:  # noqa: B027 - most modes hold nothing open
        """Give back what is held open, at the end."""

    @abstractmethod
    async def probe(self) -> None:
        """Prove that storage can be read and written: a small file is written, synced, read and removed."""

    @abstractmethod
    def check(self, inputs: Inputs) -> None:
        """Reject inputs that this mode needs and lacks, or that lie outside of what a client may name.

        :raises InvalidRequest: with the field and text of the contract (2.3)
        """

    @abstractmethod
    async def stage(self, inputs: Inputs) -> Staged:
        """Make the job's input ready for the plugin. Anything left by an earlier attempt is removed first.

        :raises InvalidRequest: the data themselves are at fault
        """

    @abstractmethod
    async def data(self, inputs: Inputs, *, lifetime_s: float) -> Data:
        """What the run gets: the directories that staging has made or checked, or tickets.

        :param lifetime_s: seconds for which tickets are good
        """

    @abstractmethod
    async def seal(self, inputs: Inputs, *, published: bool = False) -> Sealed:
        """Measure the output after the plugin ended, and drop the links that it wrote.

        :param published: True where the run says that its output is in an object store; then some must be there
        :raises NotPublished: the output is not in the object store as it should be, and no retry mends that
        """

    @abstractmethod
    async def listing(self, inputs: Inputs, job_output_path: str) -> list[str]:
        """Relative names of the output files, for storage in the network (contract 2.6).

        :raises NoSuchData: there is no such directory
        """

    def zip_root(self, jid: str) -> Path:
        """The directory that is sent as a zip, for storage out of the network.

        :raises NoSuchData: the job has no data, or the mode no such directory
        """
        raise NoSuchData(f"Job {jid} has no directory on this server")

    async def archive(self, jid: str, *, workers: int | None = None) -> ArchiveSource:  # noqa: ARG002 - see below
        """The output that is sent as a zip, for object stores. Nothing is held whole.

        :param workers: of the run, where that is known
        :raises NoSuchData: the job has no data, or the mode has a directory instead
        """
        raise NoSuchData(f"Job {jid} has no objects")

    async def upload(self, inputs: Inputs, job_output_path: str) -> int:  # noqa: ARG002 - see below
        """Bring the output to the path that the client names, on the store's side. Returns how many files are there then.

        Nothing to do where the plugin's output is in its place already.

        :raises InvalidRequest: the path is none that a client may name
        :raises NoSuchData: the job left no output
        """
        return 0

    async def halt(self, jid: str) -> None:  # noqa: B027 - most modes publish nothing themselves
        """Break off what this daemon itself publishes of a job that is to end."""

    @abstractmethod
    async def withdraw(self, jid: str) -> None:
        """Take back the job's rights: a pod that goes on by mistake publishes nothing. Absent is fine; data stay."""

    @abstractmethod
    async def holds(self, jid: str) -> bool:
        """True when there is a directory ``key-<jid>``."""

    @abstractmethod
    async def discard(self, jid: str) -> None:
        """Remove ``key-<jid>`` and all below it. Absent data is not an error; user data is never touched."""
