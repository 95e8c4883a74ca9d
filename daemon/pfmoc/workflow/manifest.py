"""Manifests: which files there are, and the digest of each. What is sent on is held against what was fetched."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import Any

from pfmoc.durable import read_json, write_json
from pfmoc.storage.workers import Stop
from pfmoc.workflow.problems import Damaged

CHUNK = 1 << 20
"""Bytes read at once."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One regular file."""

    name: str
    """Relative, with forward slashes."""
    size: int
    sha256: str
    crc32: int


@dataclass(frozen=True)
class Manifest:
    """The files of a directory tree, in the order of their names."""

    files: tuple[FileEntry, ...]

    @cached_property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, sizes and digests: equal for equal trees."""
        total = hashlib.sha256()
        for file in self.files:
            total.update(f"{file.sha256} {file.size} {file.name}\0".encode())
        return total.hexdigest()

    def save(self, path: Path) -> None:
        """Write the manifest, atomically."""
        write_json(path, {"files": [[file.name, file.size, file.sha256, file.crc32] for file in self.files]})

    @classmethod
    def load(cls, path: Path, *, digest: str) -> Manifest:
        """Read a manifest.

        :param digest: what it must be the manifest of
        :raises Damaged: it is not there, or another one
        """
        try:
            document: Any = read_json(path)
            manifest = cls(tuple(FileEntry(*fields) for fields in document["files"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Damaged(f"{path}: the list of files cannot be read: {error}") from None
        if manifest.digest != digest:
            raise Damaged(f"{path}: the list of files is not the one that was written")
        return manifest


class Hashing:
    """Size, SHA-256 and CRC-32 of bytes as they pass."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._crc32 = 0
        self._size = 0

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._sha256.update(data)
        self._crc32 = zlib.crc32(data, self._crc32)
        self._size += len(data)

    def entry(self, name: str) -> FileEntry:
        """What passed, as a file of this name."""
        return FileEntry(name, self._size, self._sha256.hexdigest(), self._crc32)


def hashed(path: Path, name: str, stop: Stop) -> FileEntry:
    """Read a file through."""
    hashing = Hashing()
    with path.open("rb") as stream:
        while data := stream.read(CHUNK):
            stop.check()
            hashing.update(data)
    return hashing.entry(name)


def survey(root: Path, stop: Stop) -> Manifest:
    """List and hash the files of a directory tree.

    Symbolic links to files count as the files; empty directories vanish, as everywhere in ChRIS.

    :raises Damaged: something in it is no file, or cannot be named on the wire
    """
    return Manifest(tuple(hashed(root / name, name, stop) for name in sorted(_names(root, stop))))


def verify(root: Path, manifest: Manifest, stop: Stop) -> None:
    """Read every file of the manifest and hold it against its digest. Files beside them do not matter.

    :raises Damaged: names the first that is missing or another
    """
    for file in manifest.files:
        path = root / file.name
        try:
            found = hashed(path, file.name, stop)
        except OSError as error:
            raise Damaged(f"{path}: {error.strerror or error}") from None
        if found != file:
            raise Damaged(f"{path}: changed since it was fetched")


def _names(root: Path, stop: Stop) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise Damaged(f"{error.filename}: {error.strerror}")

    for directory, directories, names in os.walk(root, onerror=fail):
        stop.check()
        here = Path(directory)
        for name in directories:
            if (here / name).is_symlink():
                raise Damaged(f"{here / name}: is a symbolic link to a directory; put the directory itself there")
        for name in names:
            path = here / name
            try:
                mode = path.stat().st_mode
            except OSError as error:
                raise Damaged(f"{path}: {error.strerror}") from None
            if not S_ISREG(mode):
                raise Damaged(f"{path}: is no regular file")
            yield wire_name(path.relative_to(root).as_posix(), where=str(path))


def wire_name(name: str, *, where: str) -> str:
    """Check that a relative name can travel.

    :raises Damaged: it is not UTF-8, leaves its directory, or holds what no zip may
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Damaged(f"{where!a}: the name is not UTF-8") from None
    parts = name.split("/")
    if "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise Damaged(f"{where!a}: not a name that a file in an archive may have")
    return name
