"""What the daemon asks of storage: put a job's input where a plugin can read it, and hand out what the plugin left.

The storeBase holds one directory per job, ``key-<jid>/{incoming,outgoing}``, beside the users' own trees (contract 6). Where a
path comes from a client it is resolved and must lie within the storeBase, outside of other jobs' ``key-*`` directories.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """What staging did."""

    nfiles: int
    """Files as upstream counts them (contract 2.4, 6.1)."""
    path: Path
    """Server path of the staged input."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it was done: requests that share one staging are told the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mounts:
    """The two directories of a run, on the daemon's side."""

    incoming: Path
    outgoing: Path


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
    def mounts(self, inputs: Inputs) -> Mounts:
        """The directories that the plugin gets. Staging has made or checked them."""

    @abstractmethod
    async def seal(self, inputs: Inputs) -> Sealed:
        """Measure the output after the plugin ended, and drop the links that it wrote."""

    @abstractmethod
    async def listing(self, inputs: Inputs, job_output_path: str) -> list[str]:
        """Relative names of the output files, for storage in the network (contract 2.6).

        :raises NoSuchData: there is no such directory
        """

    @abstractmethod
    def zip_root(self, jid: str) -> Path:
        """The directory that is sent as a zip, for storage out of the network.

        :raises NoSuchData: the job has no data
        """

    @abstractmethod
    def holds(self, jid: str) -> bool:
        """True when there is a directory ``key-<jid>``."""

    @abstractmethod
    async def discard(self, jid: str) -> None:
        """Remove ``key-<jid>`` and all below it. Absent data is not an error; user data is never touched."""
