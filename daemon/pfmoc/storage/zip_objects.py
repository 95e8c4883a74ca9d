"""Send the objects of a job as a zip, read from the store while they are sent.

Neither an object nor the archive is ever held whole. Sizes and checksums follow each entry's data, so the archive's length is not
known before its end, and no part of it can be asked for alone.
"""

from __future__ import annotations

import asyncio
import stat
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pfmoc.errors import StorageUnavailable
from pfmoc.storage import deflate, workers, zip_format
from pfmoc.storage.base import ArchiveFile, ArchiveSource
from pfmoc.storage.deflate import Deflater
from pfmoc.storage.trees import LINK_SUFFIX
from pfmoc.storage.zip_format import Entry

_CENTRAL_IN_MEMORY = 4 << 20
_READ = 256 << 10
_LARGE = 0xF000_0000
"""Bytes: from here on sizes get 64 bits, for what does not shrink may grow by a little."""
_MODE = stat.S_IFREG | 0o644


async def stream(source: ArchiveSource) -> AsyncGenerator[bytes]:
    """Yield the archive. Iterate within ``contextlib.aclosing``, so that a client that goes away ends the reading at once.

    :raises StorageUnavailable: the store broke off, or an object is another by now; what was yielded lacks its end
    :raises NoSuchData: an object is gone
    """
    at = count = 0
    with tempfile.SpooledTemporaryFile(max_size=_CENTRAL_IN_MEMORY) as central:
        async for file in source:
            if file.name.endswith(LINK_SUFFIX):
                continue
            packer = _Packer(file, at)
            async with aclosing(packer.pieces()) as pieces:
                async for piece in pieces:
                    at += len(piece)
                    yield piece
            central.write(packer.record())
            count += 1
        size = central.tell()
        central.seek(0)
        while piece := central.read(_READ):
            yield piece
    yield zip_format.end_records(count=count, size=size, offset=at)


class _Packer:
    """One object as an entry."""

    def __init__(self, file: ArchiveFile, offset: int) -> None:
        self._file = file
        self._offset = offset
        self._large = file.size >= _LARGE
        self._crc = self._read = self._packed = 0

    def record(self) -> bytes:
        """The entry's record in the central directory, once all is packed."""
        return zip_format.central_record(self._entry(), large=self._large)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the entry: header, data, and what follows them."""
        yield zip_format.local_header(self._entry(), large=self._large)
        deflater = deflate.deflater()
        gathered = bytearray()
        async for data in self._file.open():
            gathered += data
            if len(gathered) >= _READ:
                packed = await self._compressed(deflater, bytes(gathered))
                gathered.clear()
                if packed:
                    yield packed
        packed = await self._compressed(deflater, bytes(gathered), last=True)
        if self._read != self._file.size:
            raise StorageUnavailable(f"{self._file.name} had {self._file.size} bytes, and now has {self._read}")
        end = zip_format.descriptor(crc=self._crc, packed=self._packed, size=self._read, large=self._large)
        yield packed + end

    async def _compressed(self, deflater: Deflater, data: bytes, *, last: bool = False) -> bytes:
        def work() -> tuple[bytes, int]:
            packed = deflater.compress(data) + (deflater.flush() if last else b"")
            return packed, deflate.crc32(data, self._crc)

        packed, self._crc = await asyncio.get_running_loop().run_in_executor(workers.CHUNKS, work)
        self._read += len(data)
        self._packed += len(packed)
        return packed

    def _entry(self) -> Entry:
        name = self._file.name.encode("utf-8", "surrogateescape")
        return Entry(
            name=name,
            flags=zip_format.DESCRIPTOR | (0 if name.isascii() else zip_format.UTF8),
            method=zip_format.DEFLATED,
            crc=self._crc,
            packed=self._packed,
            size=self._read,
            offset=self._offset,
            mode=_MODE,
            moment=zip_format.dos_moment(self._file.modified.timestamp()),
        )
