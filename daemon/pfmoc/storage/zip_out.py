"""Send a directory tree as a zip, without ever having it: neither in memory nor on disk.

The archive is a pure function of the tree: entries in the order of ``os.walk`` with sorted names, times in UTC, one codec. So any
range of it can be made anew, and a download that broke can go on. What is read is held against what the plan saw: a file that
changed, came or went makes the stream fail before its last bytes, and the client sees a broken transfer, not a wrong archive.

Only regular files are sent; no symbolic links, no directory entries, no ``.chrislink``. Names are sent as UTF-8; a name that is
not (Linux allows any bytes) is sent as its bytes without the UTF-8 flag, so that it arrives, under the name that code page 437
gives those bytes.

Memory: a few pieces of 256 KiB, sizes and checksums of the latest 65,536 files packed, and up to 4 MiB of the central directory,
which beyond that waits in a temporary file.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path

from pfmoc.storage import deflate, packing, workers, zip_format
from pfmoc.storage.failures import storage_errors, translated
from pfmoc.storage.packing import Changed, Memory
from pfmoc.storage.trees import LINK_SUFFIX, Level, walk
from pfmoc.storage.workers import Stop

_CHUNK = 256 << 10
_CENTRAL_IN_MEMORY = 4 << 20
_EVERYTHING = 1 << 63
_MEMORY = Memory()


async def plan(root: Path, *, scratch: Path | None = None) -> Plan:
    """Look over a tree that is to be sent.

    :param scratch: directory for the temporary file of very long central directories; the system's by default
    :raises NoSuchData: there is no such directory
    """

    def look(stop: Stop) -> Plan:
        with storage_errors():
            return _survey(root, scratch, stop)

    return await workers.run(look, pool=workers.QUICK)


class Plan:
    """An archive that can be made, of the tree as it was when looked over."""

    def __init__(self, *, root: Path, scratch: Path | None, files: int, size: int, tag: str) -> None:
        self.root = root
        self.files = files
        self.size = size
        """Bytes of all files, unpacked."""
        self.tag = tag
        """Equal tags mean equal archives, byte for byte: a strong entity tag, without its quotes."""
        self._scratch = scratch
        self._length: int | None = None

    @property
    def length(self) -> int | None:
        """Bytes of the archive, once measured."""
        return self._length

    async def measure(self) -> int:
        """Return the exact length of the archive. Packs every file that was not packed lately, and throws the result away.

        :raises Changed: the tree is another by now
        """
        if self._length is None:
            self._length = await workers.run(self._measured)
        return self._length

    async def stream(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the archive, or its bytes from ``start`` to before ``stop``, in pieces of about a quarter of a MiB.

        One piece is made ahead of the one being sent. Iterate within ``contextlib.aclosing``, so that a client that goes away
        closes the files at once.

        :raises Changed: the tree is another by now; then what was yielded is not to be trusted, and lacks its end
        """
        told = Stop()
        loop = asyncio.get_running_loop()
        chunks = self._chunks(start, stop, told)
        ahead = loop.run_in_executor(workers.CHUNKS, next, chunks, b"")
        try:
            while chunk := await asyncio.shield(ahead):
                ahead = loop.run_in_executor(workers.CHUNKS, next, chunks, b"")
                yield chunk
        finally:
            told.set()
            await workers.settled(ahead)
            chunks.close()

    def _measured(self, stop: Stop) -> int:
        with _reported(), closing(self._segments(_EVERYTHING, stop)) as segments:
            return sum(segment if isinstance(segment, int) else len(segment) for segment in segments)

    def _chunks(self, start: int, end: int | None, stop: Stop) -> Generator[bytes]:
        """Gather the pieces of a range."""
        gathered: list[bytes] = []
        weight = 0
        with _reported(), closing(self._range(start, end, stop)) as pieces:
            for piece in pieces:
                gathered.append(piece)
                weight += len(piece)
                if weight >= _CHUNK:
                    yield b"".join(gathered)
                    gathered, weight = [], 0
        if gathered:
            yield b"".join(gathered)

    def _range(self, start: int, end: int | None, stop: Stop) -> Generator[bytes]:
        at = 0
        end = None if end == self._length else end
        with closing(self._segments(start, stop)) as segments:
            for segment in segments:
                before, at = at, at + (segment if isinstance(segment, int) else len(segment))
                if isinstance(segment, int) or at <= start:
                    continue
                if end is not None and at >= end:
                    # The rest of the archive is not made, so its own check at the end is not reached.
                    if _survey(self.root, None, stop).tag != self.tag:
                        raise Changed
                    if piece := segment[max(0, start - before) : end - before]:
                        yield piece
                    return
                yield segment[start - before :] if before < start else segment
        if end is not None or self._length not in (None, at):
            raise Changed

    def _segments(self, start: int, stop: Stop) -> Generator[bytes | int]:
        """Yield the whole archive in order; in place of an entry that ends before ``start`` and was packed lately, its length."""
        at = count = 0
        seen = _Fingerprint()
        with tempfile.SpooledTemporaryFile(
            max_size=_CENTRAL_IN_MEMORY, dir=str(self._scratch) if self._scratch else None
        ) as central:
            for level, name in _files(self.root, stop):
                path = level.join(name)
                found = os.stat(name, dir_fd=level.fd, follow_symlinks=False) if at < start else None
                packed = found and _MEMORY.get(found)
                if found and packed and at + packing.length(path, found, packed) <= start:
                    yield packing.length(path, found, packed)
                else:
                    with closing(packing.pack(level, name, stop)) as pieces:
                        found, packed = yield from pieces
                    _MEMORY.put(found, packed)
                stop.check()
                seen.add(path, found)
                central.write(packing.record(path, found, packed, at))
                at += packing.length(path, found, packed)
                count += 1
            if seen.tag() != self.tag:
                raise Changed
            size = central.tell()
            central.seek(0)
            while piece := central.read(_CHUNK):
                yield piece
            yield zip_format.end_records(count=count, size=size, offset=at)


class _Fingerprint:
    """Digest of the names and states of all files, and of how they are packed."""

    def __init__(self) -> None:
        self._digest = blake2b(deflate.ENGINE.encode(), digest_size=16)

    def add(self, path: str, found: os.stat_result) -> None:
        self._digest.update(os.fsencode(path) + b"\0" + packing.identity(found))

    def tag(self) -> str:
        return self._digest.hexdigest()


def _survey(root: Path, scratch: Path | None, stop: Stop) -> Plan:
    fingerprint = _Fingerprint()
    files = size = 0
    for level, name in _files(root, stop):
        try:
            found = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        fingerprint.add(level.join(name), found)
        files += 1
        size += found.st_size
    return Plan(root=root, scratch=scratch, files=files, size=size, tag=fingerprint.tag())


def _files(root: Path, stop: Stop) -> Iterator[tuple[Level, str]]:
    with closing(walk(root, stop=stop)) as levels:
        for level in levels:
            for name in level.files:
                if not name.endswith(LINK_SUFFIX):
                    yield level, name


@contextmanager
def _reported() -> Iterator[None]:
    """Say of a file that vanished that the tree changed, and of any other failure what storage always says."""
    try:
        yield
    except FileNotFoundError as error:
        raise Changed from error
    except OSError as error:
        raise translated(error) from error
