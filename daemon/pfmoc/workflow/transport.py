"""How data get to a compute resource and back: as a zip within the API, or through storage that both see."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pfmoc.storage import workers
from pfmoc.workflow.dialects import Compute, Dialect, Fields
from pfmoc.workflow.download import Download
from pfmoc.workflow.inputs import InputFile
from pfmoc.workflow.manifest import Manifest
from pfmoc.workflow.problems import Damaged, NodeFailed
from pfmoc.workflow.shared import SharedDirectory
from pfmoc.workflow.unzip import unzip
from pfmoc.workflow.zip_stream import ZipPayload, length

Moved = Callable[[str, int, int | None], None]
"""Told what moves (``sending``, ``fetching``), how many bytes of it have, and of how many."""


class Transport(ABC):
    """The way of one compute resource."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    @abstractmethod
    async def submit(self, jid: str, fields: Fields, files: Sequence[InputFile], *, moved: Moved) -> Compute:
        """Bring the input, and submit the job."""

    @abstractmethod
    async def fetch(self, jid: str, *, archive: Path, into: Path, moved: Moved) -> Manifest:
        """Bring the output of a job that ended into a new directory.

        :param archive: where a download may be put together
        """

    async def remove(self, jid: str, *, ended: bool) -> None:
        """Remove the job, and all its data, from the resource."""
        await self.dialect.remove(jid, ended=ended)


class ZipTransport(Transport):
    """Within the API."""

    async def submit(self, jid: str, fields: Fields, files: Sequence[InputFile], *, moved: Moved) -> Compute:
        """POST the job together with its zip."""
        total = length(files)

        def payload() -> ZipPayload:
            return ZipPayload(files, progress=lambda done: moved("sending", done, total))

        return await self.dialect.submit(fields, payload, jid=jid)

    async def fetch(self, jid: str, *, archive: Path, into: Path, moved: Moved) -> Manifest:
        """Download, and unpack. An archive that was put together of two parts and is bad is fetched once more, whole."""
        route = self.dialect.file_route(jid)
        mended = await asyncio.to_thread(archive.exists)
        for last in (False, True):
            download = Download(self.dialect.server, route, archive, progress=lambda done, total: moved("fetching", done, total))
            await download.run()
            try:
                return await workers.run(lambda stop: unzip(archive, into, stop))
            except Damaged:
                download.discard()
                if last or not (mended or download.resumed):
                    raise
        raise AssertionError("the second time either returns or raises")


class SharedTransport(Transport):
    """Through the resource's storeBase, which this machine sees too.

    :param root: where
    """

    def __init__(self, dialect: Dialect, root: Path) -> None:
        super().__init__(dialect)
        self._root = root

    async def submit(self, jid: str, fields: Fields, files: Sequence[InputFile], *, moved: Moved) -> Compute:
        """Put the input into place, let the server copy it if it must, and POST the job."""
        place = SharedDirectory(self._root, jid)
        total = sum(file.file.size for file in files)
        await workers.run(lambda stop: place.put(files, stop, progress=lambda done: moved("sending", done, total)))
        await self.dialect.copy(jid, input_dirs=[place.input_dir], output_dir=place.output_dir)
        more: Mapping[str, str | Sequence[str]] = {"input_dirs": [place.input_dir], "output_dir": place.output_dir}
        return await self.dialect.submit({**fields, **more}, None, jid=jid)

    async def fetch(self, jid: str, *, archive: Path, into: Path, moved: Moved) -> Manifest:  # noqa: ARG002 - nothing is packed
        """Ask for the list of files, and copy them."""
        place = SharedDirectory(self._root, jid)
        names = await self.dialect.listing(jid, place.output_dir)
        return await workers.run(lambda stop: place.take(names, into, stop, progress=lambda done: moved("fetching", done, None)))

    async def remove(self, jid: str, *, ended: bool) -> None:
        """The job, and the directory that is ours."""
        await super().remove(jid, ended=ended)
        place = SharedDirectory(self._root, jid)
        await workers.run(lambda _: place.remove())


def transport_for(dialect: Dialect) -> Transport:
    """Choose the way.

    :raises NodeFailed: there is none to this resource's storage
    """
    info, name, root = dialect.info, dialect.server.name, dialect.server.resource.entry.shared
    if not info.innetwork:
        return ZipTransport(dialect)
    if info.storage not in ("filesystem", "fslink"):
        raise NodeFailed(
            f"{name} keeps its data in {info.storage or 'unknown'} storage of its network, where this machine cannot put any;"
            " run the node on a resource whose storage is zipfile, filesystem or fslink"
        )
    if root is None:
        raise NodeFailed(
            f"{name} reads its input from {info.storage} storage of its network; if this machine sees its storeBase too,"
            " say where with 'shared' in the resources file"
        )
    return SharedTransport(dialect, root)
