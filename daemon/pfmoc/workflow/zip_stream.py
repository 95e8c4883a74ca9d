"""Send files as a zip that is made while it is sent.

Files are stored, not compressed: so the archive's exact length is known beforehand (servers of every age take a body of known
length, few one of unknown), each attempt sends the same bytes, and nothing waits in memory or on disk. Every file is hashed as it
passes, and the last piece of one that is not what it was when it was fetched is never sent: the server sees a broken request.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from pfmoc.storage import workers, zip_format
from pfmoc.storage.zip_format import Entry
from pfmoc.workflow.inputs import InputFile
from pfmoc.workflow.manifest import CHUNK, Hashing
from pfmoc.workflow.problems import Damaged

Progress = Callable[[int], None]
"""Told how many bytes have passed, from the beginning."""


class ZipPayload(Payload):
    """The zip of a node's input, as the part of a multipart body.

    :param progress: told how far the sending is
    """

    def __init__(self, files: Sequence[InputFile], *, progress: Progress) -> None:
        super().__init__(None, content_type="application/zip", filename="data_file")
        self._files = files
        self._progress = progress
        self._length = length(files)

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        return self._length

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        """Never wanted: it is no text."""
        raise TypeError("an archive is no text")

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002 - aiohttp's signature
        """Never wanted: that would hold it in memory."""
        raise TypeError("an archive is sent in pieces")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the archive."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002 - aiohttp's signature
        """Send the archive; its length is what ``size`` said."""
        done = 0
        source = pieces(self._files)
        with closing(source):
            while piece := await workers.run(lambda _: _gathered(source)):
                await writer.write(piece)
                done += len(piece)
                self._progress(done)


def length(files: Sequence[InputFile]) -> int:
    """Bytes of the archive of these files."""
    offset = central = 0
    for file in files:
        entry = _entry(file, offset)
        offset += len(zip_format.local_header(entry, large=_large(file))) + file.file.size
        central += len(zip_format.central_record(entry, large=_large(file)))
    return offset + central + len(zip_format.end_records(count=len(files), size=central, offset=offset))


def pieces(files: Sequence[InputFile]) -> Generator[bytes]:
    """Yield the archive.

    :raises Damaged: a file is not what it was
    """
    offset = 0
    central: list[bytes] = []
    for file in files:
        entry = _entry(file, offset)
        header = zip_format.local_header(entry, large=_large(file))
        central.append(zip_format.central_record(entry, large=_large(file)))
        yield header
        yield from _content(file)
        offset += len(header) + file.file.size
    directory = b"".join(central)
    yield directory + zip_format.end_records(count=len(files), size=len(directory), offset=offset)


def _content(file: InputFile) -> Iterator[bytes]:
    """Yield a file, one piece behind what was read, so that its end is only sent once the digest is known to be right."""
    hashing = Hashing()
    held = b""
    try:
        with file.path.open("rb") as stream:
            while data := stream.read(CHUNK):
                hashing.update(data)
                if held:
                    yield held
                held = data
    except OSError as error:
        raise Damaged(f"{file.path}: {error.strerror or error}") from None
    if hashing.entry(file.file.name) != file.file:
        raise Damaged(f"{file.path}: changed since it was fetched")
    if held:
        yield held


def _entry(file: InputFile, offset: int) -> Entry:
    return Entry(
        name=file.name.encode(),
        flags=zip_format.UTF8,
        method=zip_format.STORED,
        crc=file.file.crc32,
        packed=file.file.size,
        size=file.file.size,
        offset=offset,
        mode=stat.S_IFREG | 0o644,
    )


def _large(file: InputFile) -> bool:
    return file.file.size >= zip_format.MAX32


def _gathered(source: Iterator[bytes]) -> bytes:
    """Take the next piece, together with small ones that follow it; nothing at the end."""
    gathered: list[bytes] = []
    weight = 0
    for piece in source:
        gathered.append(piece)
        weight += len(piece)
        if weight >= CHUNK:
            break
    return b"".join(gathered)
