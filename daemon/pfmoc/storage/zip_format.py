"""The zip format (PKWARE APPNOTE 6.3): its records, written and read, Zip64 included.

The standard library's ``zipfile`` does not serve here: it reads a central directory of any size into memory before anything can
be checked, lets entries overlap, and can neither skip into the middle of an archive nor use another deflate.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

STORED = 0
DEFLATED = 8
ENCRYPTED = 0x2041
"""Flags: encrypted, strong encryption, masked headers."""
DESCRIPTOR = 0x08
"""Flag: sizes and checksum follow the data."""
UTF8 = 0x800
MAX32 = 0xFFFFFFFF
MAX16 = 0xFFFF

_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_END = struct.Struct("<4sHHHHLLH")
_END64 = struct.Struct("<4sQHHLLQQQQ")
_LOCATOR64 = struct.Struct("<4sLQL")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64_MAGIC, _LOCATOR64_MAGIC, _DESCRIPTOR_MAGIC = b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"
_EXTRA64 = 1
_EXTRA_NAME = 0x7075
_UNIX = 3
_READ = 256 << 10


class BadZip(Exception):
    """The file is no zip, or contradicts itself.

    :param reason: what is wrong, for the client
    """

    def __init__(self, reason: str = "Bad zip file") -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry as the central directory has it."""

    name: bytes
    flags: int = 0
    method: int
    crc: int
    packed: int
    """Bytes in the archive."""
    size: int
    """Bytes unpacked."""
    offset: int
    """Of the local header, from the start of the archive."""
    mode: int = 0
    """``st_mode``; 0 where the archive has none."""
    moment: tuple[int, int] = (0, 0x21)
    """Time and date as DOS has them; 1980-01-01 by default."""
    utf8_name: bytes | None = None
    """The name as Info-ZIP adds it for readers that know of it, when ``name`` is in the code page of some machine."""


def dos_moment(seconds: float) -> tuple[int, int]:
    """Convert a Unix time to DOS time and date, in UTC, held within the years that DOS has."""
    at = time.gmtime(min(max(seconds, 315532800), 4354819198))
    return (at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2, (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday)


# Writing


def local_header(entry: Entry, *, large: bool = False) -> bytes:
    """The header before an entry's data.

    :param large: sizes need 64 bits, here or in the descriptor after the data
    """
    extra = b""
    crc, packed, size = entry.crc, entry.packed, entry.size
    if entry.flags & DESCRIPTOR:
        crc = packed = size = 0
    if large:
        extra = struct.pack("<HHQQ", _EXTRA64, 16, size, packed)
        packed = size = MAX32
    return (
        _LOCAL.pack(
            _LOCAL_MAGIC,
            45 if large else 20,
            entry.flags,
            entry.method,
            *entry.moment,
            crc,
            packed,
            size,
            len(entry.name),
            len(extra),
        )
        + entry.name
        + extra
    )


def descriptor(*, crc: int, packed: int, size: int, large: bool) -> bytes:
    """What follows the data of an entry whose header could not know its size."""
    return struct.pack("<4sLQQ" if large else "<4sLLL", _DESCRIPTOR_MAGIC, crc, packed, size)


def overhead(*, descriptor: bool, large: bool) -> int:
    """Bytes of the local header without the name, and of the descriptor if there is one."""
    return _LOCAL.size + (20 if large else 0) + ((24 if large else 16) if descriptor else 0)


def central_record(entry: Entry, *, large: bool = False) -> bytes:
    """The entry's record in the central directory.

    :param large: the local header was a large one
    """
    fields = [entry.size, entry.packed, entry.offset]
    wide = [large, large, False]
    wide = [forced or value >= MAX32 for forced, value in zip(wide, fields, strict=True)]
    wide[0] = wide[1] = wide[0] or wide[1]
    extra = b"".join(struct.pack("<Q", value) for value, is_wide in zip(fields, wide, strict=True) if is_wide)
    if extra:
        extra = struct.pack("<HH", _EXTRA64, len(extra)) + extra
    size, packed, offset = (MAX32 if is_wide else value for value, is_wide in zip(fields, wide, strict=True))
    version = 45 if extra else 20
    return (
        _CENTRAL.pack(
            _CENTRAL_MAGIC,
            _UNIX << 8 | version,
            version,
            entry.flags,
            entry.method,
            *entry.moment,
            entry.crc,
            packed,
            size,
            len(entry.name),
            len(extra),
            0,
            0,
            0,
            entry.mode << 16,
            offset,
        )
        + entry.name
        + extra
    )


def end_records(*, count: int, size: int, offset: int) -> bytes:
    """What ends an archive.

    :param size: bytes of the central directory
    :param offset: where it begins
    """
    head = b""
    if count >= MAX16 or size >= MAX32 or offset >= MAX32:
        head = _END64.pack(_END64_MAGIC, _END64.size - 12, _UNIX << 8 | 45, 45, 0, 0, count, count, size, offset)
        head += _LOCATOR64.pack(_LOCATOR64_MAGIC, 0, offset + size, 1)
    count, size, offset = min(count, MAX16), min(size, MAX32), min(offset, MAX32)
    return head + _END.pack(_END_MAGIC, 0, 0, count, count, size, offset, 0)


# Reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """Where the central directory is, and how many entries it claims to have."""

    count: int
    size: int
    offset: int


def read_end(fd: int) -> Directory:
    """Find the central directory of an open file.

    Stricter than most readers: nothing may stand before the archive, between its parts or after it, so that no two programs
    can see two different archives in one file.

    :raises BadZip: there is none
    """
    length = os.fstat(fd).st_size
    tail_at = max(0, length - _END.size - MAX16)
    tail = os.pread(fd, length - tail_at, tail_at)
    at = tail.rfind(_END_MAGIC)
    while at >= 0 and (len(tail) - at < _END.size or at + _END.size + _END.unpack_from(tail, at)[7] != len(tail)):
        at = tail.rfind(_END_MAGIC, 0, at)
    if at < 0:
        raise BadZip
    _, disk, start_disk, here, count, size, offset, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    if end >= _LOCATOR64.size:
        magic, disk64, end64, _ = _LOCATOR64.unpack(os.pread(fd, _LOCATOR64.size, end - _LOCATOR64.size))
        if magic == _LOCATOR64_MAGIC:
            record = os.pread(fd, _END64.size, end64) if end64 <= length else b""
            if len(record) != _END64.size or record[:4] != _END64_MAGIC:
                raise BadZip
            _, span, _, _, disk, start_disk, here, count, size, offset = _END64.unpack(record)
            if disk64 or end64 + 12 + span != end - _LOCATOR64.size:
                raise BadZip
            end = end64
    if disk or start_disk or here != count or offset + size != end or size < count * _CENTRAL.size:
        raise BadZip
    return Directory(count=count, size=size, offset=offset)


def read_entries(fd: int, directory: Directory) -> Iterator[Entry]:
    """Yield the entries of the central directory, reading piece by piece.

    :raises BadZip: it is malformed, or holds other than the number of entries claimed
    """
    at, end = directory.offset, directory.offset + directory.size
    buffer, used = b"", 0

    def take(count: int) -> bytes:
        nonlocal at, buffer, used
        if len(buffer) - used < count:
            piece = os.pread(fd, min(max(_READ, count), end - at), at)
            at += len(piece)
            buffer, used = buffer[used:] + piece, 0
            if len(buffer) < count:
                raise BadZip
        used += count
        return buffer[used - count : used]

    for _ in range(directory.count):
        head = _CENTRAL.unpack(take(_CENTRAL.size))
        magic, _, _, flags, method, moment, date, crc, packed, size, name_len, extra_len, comment_len, disk, _, mode, offset = (
            head
        )
        if magic != _CENTRAL_MAGIC or disk not in (0, MAX16):
            raise BadZip
        name, extra = take(name_len), take(extra_len)
        take(comment_len)
        if MAX32 in (packed, size, offset):
            size, packed, offset = _widened(extra, size, packed, offset)
        yield Entry(
            name=name,
            flags=flags,
            method=method,
            crc=crc,
            packed=packed,
            size=size,
            offset=offset,
            mode=mode >> 16,
            moment=(moment, date),
            utf8_name=_utf8_name(extra, name),
        )
    if at - (len(buffer) - used) != end:
        raise BadZip


def _widened(extra: bytes, *fields: int) -> Iterator[int]:
    """Replace the fields that have all bits set by those of the Zip64 extra, which has them in the same order."""
    values = _extra_field(extra, _EXTRA64)
    wide = iter(struct.unpack(f"<{len(values) // 8}Q", values[: len(values) // 8 * 8]))
    try:
        return iter([next(wide) if value == MAX32 else value for value in fields])
    except StopIteration:
        raise BadZip from None


def _utf8_name(extra: bytes, name: bytes) -> bytes | None:
    """Return the name that is in UTF-8, if it was made for this one and not for one that some program has changed since."""
    field = _extra_field(extra, _EXTRA_NAME) if extra else b""
    if len(field) > 5 and field[0] == 1 and int.from_bytes(field[1:5], "little") == zlib.crc32(name):
        return field[5:]
    return None


def _extra_field(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def read_local(fd: int, entry: Entry) -> int:
    """Return where the entry's data begin.

    :raises BadZip: the local header is missing, or is not of this entry
    """
    head = os.pread(fd, _LOCAL.size + len(entry.name), entry.offset)
    if len(head) != _LOCAL.size + len(entry.name):
        raise BadZip
    magic, _, flags, method, _, _, crc, packed, size, name_len, extra_len = _LOCAL.unpack_from(head)
    if magic != _LOCAL_MAGIC or name_len != len(entry.name) or head[_LOCAL.size :] != entry.name:
        raise BadZip
    if method != entry.method or (flags ^ entry.flags) & (ENCRYPTED | DESCRIPTOR):
        raise BadZip
    if not flags & DESCRIPTOR and (crc != entry.crc or packed not in (entry.packed, MAX32) or size not in (entry.size, MAX32)):
        raise BadZip
    return entry.offset + _LOCAL.size + len(entry.name) + int(extra_len)
