"""An object store that exists only as dictionaries, for tests of what lies above storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import PurePosixPath

from pfmoc.data import Tickets
from pfmoc.errors import InvalidRequest, NoSuchData, StorageFull, StorageUnavailable
from pfmoc.storage.base import ArchiveFile, ArchiveSource, Inputs, Sealed, Staged, Storage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_WRITES = {"probe", "stage", "data", "upload"}


class FakeStore(Storage):
    """Jobs' things and their outputs, by job id."""

    env = "swift"
    innetwork = True
    requires_copy = True
    requires_upload = True
    objects = True

    def __init__(self) -> None:
        self.described = {"swift_auth_url": "http://swift.example/auth/v1.0"}
        self.objects_of: dict[str, int] = {}
        """Objects below each input directory; one that is not named here is missing."""
        self.staged: dict[str, Inputs] = {}
        self.tickets: set[str] = set()
        self.outputs: dict[str, dict[str, bytes]] = {}
        """What the pods have published."""
        self.uploaded: list[tuple[str, str]] = []
        self.sealed: list[str] = []
        self.calls: list[str] = []
        self.full = False
        """True: calls that write raise StorageFull."""
        self._unavailable = False
        self._thawed = asyncio.Event()
        self._thawed.set()

    @property
    def unavailable(self) -> bool:
        """True: every call raises StorageUnavailable."""
        return self._unavailable

    @unavailable.setter
    def unavailable(self, value: bool) -> None:
        self._unavailable = value

    def freeze(self) -> None:
        """Make every call hang until ``thaw``."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Let the hanging calls go on."""
        self._thawed.set()

    async def probe(self) -> None:
        await self._gate("probe")

    def check(self, inputs: Inputs) -> None:
        for field, path in (("input_dirs", path) for path in inputs.input_dirs):
            if ".." in path:
                raise InvalidRequest(field, f"{path!a} leaves storage")
        if not inputs.output_dir or ".." in inputs.output_dir:
            raise InvalidRequest("output_dir", "field is required")

    async def stage(self, inputs: Inputs) -> Staged:
        await self._gate("stage")
        missing = [path for path in inputs.input_dirs if path not in self.objects_of]
        if missing:
            raise InvalidRequest("input_dirs", f"{missing[0]!a} holds nothing")
        self.staged[inputs.jid] = inputs
        number = sum(self.objects_of[path] for path in inputs.input_dirs)
        return Staged(nfiles=number, path=PurePosixPath(f"key-{inputs.jid}"))

    async def data(self, inputs: Inputs, *, lifetime_s: float) -> Tickets:  # noqa: ARG002 - they never expire
        await self._gate("data")
        if inputs.jid not in self.staged:
            raise NoSuchData(f"Job {inputs.jid} has no input")
        self.tickets.add(inputs.jid)
        return Tickets(pull="secret", publish="secret")

    async def seal(self, inputs: Inputs, *, published: bool = False) -> Sealed:  # noqa: ARG002 - every pod here has published
        await self._gate("seal")
        self.sealed.append(inputs.jid)
        files = self.outputs.get(inputs.jid, {})
        size = sum(map(len, files.values()))
        return Sealed(files=len(files), size=size, allocated=size, dropped_links=0)

    async def listing(self, inputs: Inputs, job_output_path: str) -> list[str]:  # noqa: ARG002 - the job alone says it
        await self._gate("listing")
        return sorted(self._outputs(inputs.jid))

    async def archive(self, jid: str, *, workers: int | None = None) -> ArchiveSource:  # noqa: ARG002 - what there is
        await self._gate("archive")
        return _files(dict(self._outputs(jid)))

    async def upload(self, inputs: Inputs, job_output_path: str) -> int:
        await self._gate("upload")
        files = self._outputs(inputs.jid)
        self.uploaded.append((inputs.jid, job_output_path))
        return len(files)

    async def withdraw(self, jid: str) -> None:
        await self._gate("withdraw")
        self.tickets.discard(jid)

    async def holds(self, jid: str) -> bool:
        await self._gate("holds")
        return jid in self.staged

    async def discard(self, jid: str) -> None:
        await self._gate("discard")
        for kept in (self.staged, self.outputs):
            kept.pop(jid, None)
        self.tickets.discard(jid)

    def _outputs(self, jid: str) -> dict[str, bytes]:
        if jid not in self.outputs and jid not in self.staged:
            raise NoSuchData(f"Job {jid} has no data")
        return self.outputs.get(jid, {})

    async def _gate(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)
        await self._thawed.wait()
        if self._unavailable:
            raise StorageUnavailable("the store does not answer")
        if self.full and call in _WRITES:
            raise StorageFull("the quota is used up")


async def _files(files: dict[str, bytes]) -> AsyncIterator[ArchiveFile]:
    for name, data in files.items():

        async def opened(data: bytes = data) -> AsyncIterator[bytes]:
            for at in range(0, len(data), 1 << 16):
                yield data[at : at + (1 << 16)]

        yield ArchiveFile(name=name, size=len(data), modified=NOW, open=opened)
