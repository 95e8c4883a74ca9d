"""Unpack a zip that anybody may have made.

First the whole archive is judged from its central directory and local headers, before a byte is written; then its files are
unpacked by a few threads, and what the headers claimed is held against what comes out. Memory does not grow with the size of the
archive; it grows with the number of entries only by the 200 bytes each that finding duplicates takes, while they are judged.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pfmoc.errors import InvalidRequest, TooLarge
from pfmoc.storage import deflate, zip_format
from pfmoc.storage.batches import in_batches
from pfmoc.storage.trees import LINK_SUFFIX, make_directories, opened
from pfmoc.storage.workers import Stop
from pfmoc.storage.zip_format import BadZip, Directory, Entry
from pfmoc.storage.zip_names import FIELD, Names, checked_name, is_directory, refused

RATIO_FLOOR = 256 << 20
"""Bytes: an archive that unpacks to no more is judged by its size alone. A label map of 200 MB may well shrink a thousandfold."""
_BATCH_FILES = 64
_BATCH_BYTES = 4 << 20
_CHUNK = 256 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an archive may unpack to."""

    entries: int
    size: int
    """Bytes of all files."""
    ratio: int
    """Unpacked to packed bytes, above ``RATIO_FLOOR``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """An archive that was judged to be sound."""

    archive: Path
    directory: Directory
    entries: int
    """Directory entries included."""
    links: int
    """Entries named ``*.chrislink``."""
    size: int
    """Bytes of all files."""


def judge(archive: Path, *, limits: Limits, stop: Stop) -> Plan:
    """Read what the archive says of itself, and refuse what is malformed, hostile or too large. Writes nothing.

    :raises InvalidRequest: ``data_file: Bad zip file`` for what is no zip; other reasons for what is a bad one
    :raises TooLarge: over a limit; the message names it
    """
    with _reported(archive) as fd:
        directory = zip_format.read_end(fd)
        if directory.count > limits.entries:
            raise TooLarge(f"{FIELD}: the zip has {directory.count} entries; the limit is {limits.entries}")
        names = Names(limits.entries)
        extents = _Extents(directory.offset)
        size = packed = links = 0
        for entry in zip_format.read_entries(fd, directory):
            stop.check()
            name = checked_name(entry)
            names.add(entry, name)
            extents.add(entry.offset, zip_format.read_local(fd, entry) + entry.packed)
            size += entry.size
            packed += entry.packed
            links += name.endswith(LINK_SUFFIX)
            if size > limits.size:
                raise TooLarge(f"{FIELD}: the zip unpacks to more than {limits.size} bytes, the limit")
        extents.check()
        if size > RATIO_FLOOR and size > packed * limits.ratio:
            raise TooLarge(f"{FIELD}: the zip unpacks to more than {limits.ratio} times its size, the limit")
        return Plan(archive=archive, directory=directory, entries=directory.count, links=links, size=size)


def unpack(plan: Plan, target: Path, *, stop: Stop) -> None:
    """Unpack the archive into an existing, empty directory that nobody else writes to.

    Files get mode 0644 and directories 0755, whatever the archive says. On failure the caller removes the directory.

    :raises InvalidRequest: the data are not what the headers claimed
    :raises OSError: the disk failed, or is full
    """
    with _reported(plan.archive) as fd, opened(target) as root:

        def unpack_batch(batch: list[Entry], stop: Stop) -> None:
            for entry in batch:
                stop.check()
                path = checked_name(entry)
                if is_directory(entry):
                    make_directories(root, path)
                else:
                    _unpack_file(fd, root, entry, path, stop)

        in_batches(unpack_batch, _batches(zip_format.read_entries(fd, plan.directory)), stop=stop)


class _Extents:
    """The parts of the archive that its entries occupy. A bomb lets many entries share one."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._reached = 0
        self._ordered = True
        self._starts = array("Q")
        self._ends = array("Q")

    def add(self, start: int, end: int) -> None:
        """:raises BadZip: it runs into the central directory"""
        if end > self._end:
            raise BadZip
        self._ordered &= start >= self._reached
        self._reached = end
        self._starts.append(start)
        self._ends.append(end)

    def check(self) -> None:
        """:raises BadZip: two of them overlap"""
        if self._ordered:
            return
        starts, ends = sorted(self._starts), sorted(self._ends)
        if any(end > start for end, start in zip(ends, starts[1:], strict=False)):
            raise BadZip("the entries of the zip overlap")


@contextmanager
def _reported(archive: Path) -> Iterator[int]:
    """Open the archive; what is bad in it is the client's fault."""
    fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    except BadZip as bad:
        raise InvalidRequest(FIELD, bad.reason) from bad
    finally:
        os.close(fd)


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Group entries, so that a thread has work worth handing over."""
    batch: list[Entry] = []
    weight = 0
    for entry in entries:
        batch.append(entry)
        weight += entry.packed
        if len(batch) >= _BATCH_FILES or weight >= _BATCH_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _unpack_file(fd: int, root: int, entry: Entry, path: str, stop: Stop) -> None:
    out = _created(root, path)
    try:
        # Not left to open(2): the daemon's umask may be stricter, and the plugin another user.
        os.fchmod(out, 0o644)
        crc = size = 0
        for piece in _pieces(fd, entry, stop):
            crc = deflate.crc32(piece, crc)
            size += len(piece)
            if size > entry.size:
                raise refused(path, "unpacks to more than its header says")
            _write(out, piece)
    finally:
        os.close(out)
    if size != entry.size or crc != entry.crc:
        raise refused(path, "is damaged: its size or checksum is wrong")


def _created(root: int, path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644, dir_fd=root)
    except FileNotFoundError:
        make_directories(root, path.rpartition("/")[0])
        return os.open(path, flags, 0o644, dir_fd=root)


def _pieces(fd: int, entry: Entry, stop: Stop) -> Iterator[bytes]:
    """Yield the entry's content, at most ``_CHUNK`` bytes at a time."""
    at = zip_format.read_local(fd, entry)
    end = at + entry.packed
    if entry.method == zip_format.STORED:
        while at < end:
            stop.check()
            piece = _read(fd, min(_CHUNK, end - at), at)
            at += len(piece)
            yield piece
        return
    inflater = deflate.inflater()
    feed = b""
    try:
        while not inflater.eof:
            stop.check()
            if not feed and at < end:
                feed = _read(fd, min(_CHUNK, end - at), at)
                at += len(feed)
            piece = inflater.decompress(feed, _CHUNK)
            feed = inflater.unconsumed_tail
            if piece:
                yield piece
            elif at >= end and not inflater.eof:
                raise BadZip(f"zip entry {entry.name[:100]!a} is damaged: its data end too early")
    except deflate.Corrupt as corrupt:
        raise BadZip(f"zip entry {entry.name[:100]!a} is damaged: its data cannot be inflated") from corrupt
    if at < end or inflater.unused_data:
        raise BadZip(f"zip entry {entry.name[:100]!a} is damaged: it has more data than it should")


def _read(fd: int, count: int, at: int) -> bytes:
    piece = os.pread(fd, count, at)
    if not piece:
        raise BadZip
    return piece


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]
