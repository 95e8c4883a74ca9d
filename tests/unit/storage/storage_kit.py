"""Zips that no honest program makes, and what storage's tests look at."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pfmoc.settings import Settings
from pfmoc.storage import zip_format
from pfmoc.storage.zip_format import Entry

MakeSettings = Callable[..., Settings]
MakeZip = Callable[[Mapping[str, bytes]], Path]


def names(path: Path) -> list[str]:
    """What a directory holds."""
    return sorted(entry.name for entry in path.iterdir())


def open_files() -> int:
    """How many descriptors this process has."""
    return len(names(Path("/proc/self/fd")))


@dataclass(frozen=True, kw_only=True)
class Forged:
    """One entry of a forged zip: what its headers say, and what is really there."""

    name: bytes
    content: bytes = b"content"
    packed: bytes | None = None
    method: int = zip_format.DEFLATED
    size: int | None = None
    crc: int | None = None
    flags: int = 0
    mode: int = stat.S_IFREG | 0o644
    local_name: bytes | None = None
    share: int | None = None
    """Offset of another entry, whose data this one shares."""


def forge(path: Path, entries: list[Forged], *, count: int | None = None, large: bool = False, tail: bytes = b"") -> Path:
    """Write a zip as told.

    :param count: number of entries that the end record claims
    :param large: write Zip64 fields throughout
    """
    body, central = b"", b""
    for forged in entries:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = forged.packed
        if packed is None:
            stored = forged.method == zip_format.STORED
            packed = forged.content if stored else deflater.compress(forged.content) + deflater.flush()
        entry = Entry(
            name=forged.name,
            flags=forged.flags,
            method=forged.method,
            crc=zlib.crc32(forged.content) if forged.crc is None else forged.crc,
            packed=len(packed),
            size=len(forged.content) if forged.size is None else forged.size,
            offset=len(body) if forged.share is None else forged.share,
            mode=forged.mode,
        )
        if forged.share is None:
            body += zip_format.local_header(replace(entry, name=forged.local_name or forged.name), large=large) + packed
        central += zip_format.central_record(entry, large=large)
    end = zip_format.end_records(count=len(entries) if count is None else count, size=len(central), offset=len(body))
    path.write_bytes(body + central + end + tail)
    return path
