"""One file as an entry of a zip: its header, its packed bytes, and what is remembered of them."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Generator
from dataclasses import dataclass
from hashlib import blake2b

from cachetools import LRUCache

from pfmoc.errors import StorageUnavailable
from pfmoc.storage import deflate, zip_format
from pfmoc.storage.trees import REGULAR, Level
from pfmoc.storage.workers import Stop
from pfmoc.storage.zip_format import Entry

_SMALL = 256 << 10
"""Bytes: files up to this size are packed whole, so that their header has their sizes; those of larger ones follow the data."""
_LARGE = 0xF000_0000
"""Bytes: from here on sizes get 64 bits, for what does not shrink may grow by a little."""
_READ = 256 << 10
_REMEMBERED = 65_536


class Changed(StorageUnavailable):
    """A file or the tree is not what it was when it was looked over."""

    def __init__(self) -> None:
        super().__init__("The output changed while it was read", retry_after=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """What packing a file resulted in."""

    crc: int
    size: int
    """Bytes in the archive."""
    method: int


def identity(found: os.stat_result) -> bytes:
    """Write down what tells one state of a file from another. As text: a plugin may set times that no 64 bits hold."""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_mode}".encode()


def entry(path: str, found: os.stat_result, packed: Packed, offset: int) -> Entry:
    """The entry of a packed file, for the central directory."""
    name, flags = _name(path)
    return Entry(
        name=name,
        flags=flags | (zip_format.DESCRIPTOR if found.st_size > _SMALL else 0),
        method=packed.method,
        crc=packed.crc,
        packed=packed.size,
        size=found.st_size,
        offset=offset,
        mode=stat.S_IFREG | stat.S_IMODE(found.st_mode) & 0o777,
        moment=zip_format.dos_moment(found.st_mtime),
    )


def record(path: str, found: os.stat_result, packed: Packed, offset: int) -> bytes:
    """The file's record in the central directory."""
    return zip_format.central_record(entry(path, found, packed, offset), large=found.st_size >= _LARGE)


def length(path: str, found: os.stat_result, packed: Packed) -> int:
    """Bytes of the archive, from the file's header to the end of its data and what follows them."""
    around = zip_format.overhead(descriptor=found.st_size > _SMALL, large=found.st_size >= _LARGE)
    return around + len(os.fsencode(path)) + packed.size


def pack(level: Level, name: str, stop: Stop) -> Generator[bytes, None, tuple[os.stat_result, Packed]]:
    """Yield a file's part of the archive; return what it was and what came of it.

    :raises Changed: it vanished, became another kind of thing, or was written to meanwhile
    """
    try:
        fd = os.open(name, REGULAR, dir_fd=level.fd)
    except FileNotFoundError:
        raise Changed from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Changed
        if found.st_size <= _SMALL:
            packed = yield from _pack_whole(fd, level.join(name), found)
        else:
            packed = yield from _pack_stream(fd, level.join(name), found, stop)
        after = os.fstat(fd)
        if (after.st_size, after.st_mtime_ns, after.st_ctime_ns) != (found.st_size, found.st_mtime_ns, found.st_ctime_ns):
            raise Changed
    finally:
        os.close(fd)
    return found, packed


def _pack_whole(fd: int, path: str, found: os.stat_result) -> Generator[bytes, None, Packed]:
    data = os.read(fd, found.st_size + 1)
    while 0 < len(data) < found.st_size and (piece := os.read(fd, found.st_size + 1 - len(data))):
        data += piece
    if len(data) != found.st_size:
        raise Changed
    small = deflate.compress(data)
    method = zip_format.DEFLATED
    if len(small) >= len(data):
        small, method = data, zip_format.STORED
    packed = Packed(crc=deflate.crc32(data), size=len(small), method=method)
    yield zip_format.local_header(entry(path, found, packed, 0)) + small
    return packed


def _pack_stream(fd: int, path: str, found: os.stat_result, stop: Stop) -> Generator[bytes, None, Packed]:
    large = found.st_size >= _LARGE
    unknown = Packed(crc=0, size=0, method=zip_format.DEFLATED)
    yield zip_format.local_header(entry(path, found, unknown, 0), large=large)
    stream = deflate.deflater()
    crc = size = read = 0
    while data := os.read(fd, _READ):
        stop.check()
        crc = deflate.crc32(data, crc)
        read += len(data)
        if read > found.st_size:
            raise Changed
        if piece := stream.compress(data):
            size += len(piece)
            yield piece
    if read != found.st_size:
        raise Changed
    piece = stream.flush()
    size += len(piece)
    yield piece + zip_format.descriptor(crc=crc, packed=size, size=read, large=large)
    return Packed(crc=crc, size=size, method=zip_format.DEFLATED)


def _name(path: str) -> tuple[bytes, int]:
    """Return a name's bytes, and the flag that says they are UTF-8 where that matters and is so."""
    name = os.fsencode(path)
    if path.isascii():
        return name, 0
    try:
        name.decode()
    except UnicodeDecodeError:
        return name, 0
    return name, zip_format.UTF8


class Memory:
    """What came of the files packed lately, so that ranges and retries need not read them again. Threadsafe."""

    def __init__(self, size: int = _REMEMBERED) -> None:
        self._lock = threading.Lock()
        self._packed: LRUCache[bytes, Packed] = LRUCache(size)

    def get(self, found: os.stat_result) -> Packed | None:
        """What came of this state of a file; None when that is not known, or known no more."""
        with self._lock:
            return self._packed.get(_key(found))

    def put(self, found: os.stat_result, packed: Packed) -> None:
        """Remember it."""
        with self._lock:
            self._packed[_key(found)] = packed


def _key(found: os.stat_result) -> bytes:
    return blake2b(f"{found.st_dev} ".encode() + identity(found), digest_size=16).digest()
