"""Names and kinds of zip entries: which may be unpacked, and where to."""

from __future__ import annotations

import re
import stat
from hashlib import blake2b

from pfmoc.errors import InvalidRequest, TooLarge
from pfmoc.storage import zip_format
from pfmoc.storage.paths import NAME_MAX, PATH_MAX
from pfmoc.storage.zip_format import Entry

FIELD = "data_file"
"""Where a client sends a zip."""
_PATH_LIMIT = PATH_MAX - 511
"""Bytes of an entry's name; the rest is for the directories that it is unpacked and mounted below."""
_DRIVE = re.compile(r"[A-Za-z]:")


def refused(name: str | bytes, reason: str) -> InvalidRequest:
    """The error that names an entry, and says why the archive is refused because of it."""
    return InvalidRequest(FIELD, f"zip entry {name[:100]!a} {reason}")


def checked_name(entry: Entry) -> str:
    """Return the entry's path: relative, ``.`` and doubled slashes dropped, no slash at its end.

    :raises InvalidRequest: the name, or what the entry is, could do harm where it is unpacked
    """
    try:
        if entry.utf8_name is not None:
            name = entry.utf8_name.decode()
        else:
            name = entry.name.decode("utf-8" if entry.flags & zip_format.UTF8 else "cp437")
    except UnicodeDecodeError:
        raise refused(entry.name, "has a name that is not UTF-8") from None
    if "\0" in name or "\\" in name or name.startswith("/") or _DRIVE.match(name):
        raise refused(name, "has a name that is absolute or holds a backslash or NUL")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refused(name, "has a name that leads upwards")
    path = "/".join(parts)
    if len(path.encode()) > _PATH_LIMIT or any(len(part.encode()) > NAME_MAX for part in parts):
        raise refused(name, "has a name that is too long")
    if not (path or is_directory(entry)):
        raise refused(name, "has no name")
    _check_kind(entry, name)
    return path


def _check_kind(entry: Entry, name: str) -> None:
    kind = stat.S_IFMT(entry.mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise refused(name, "is neither a file nor a directory")
    if is_directory(entry) and entry.size:
        raise refused(name, "is a directory that has data")
    if kind == stat.S_IFDIR and not is_directory(entry):
        raise refused(name, "is a directory by its mode and a file by its name")
    if entry.flags & zip_format.ENCRYPTED:
        raise refused(name, "is encrypted")
    if entry.method not in (zip_format.STORED, zip_format.DEFLATED):
        raise refused(name, f"uses compression method {entry.method}; only stored (0) and deflated (8) are supported")
    if entry.method == zip_format.STORED and entry.packed != entry.size:
        raise refused(name, "is stored, but of two sizes")


def is_directory(entry: Entry) -> bool:
    """True for a directory entry: its name ends in a slash."""
    return entry.name.endswith(b"/")


class Names:
    """All names of an archive, as 16-byte digests: a name may have thousands of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: set[bytes] = set()
        self._directories: set[bytes] = set()

    def add(self, entry: Entry, path: str) -> None:
        """:raises InvalidRequest: the name is there already, or is a file here and a directory there"""
        digest = _digest(path)
        if is_directory(entry):
            if digest in self._files:
                raise self._both(path)
            self._add_directory(path)
            return
        if digest in self._files:
            raise refused(path, "is there twice")
        if digest in self._directories:
            raise self._both(path)
        self._files.add(digest)
        self._add_directory(path.rpartition("/")[0])

    def _add_directory(self, path: str) -> None:
        while path:
            digest = _digest(path)
            if digest in self._directories:
                return
            if digest in self._files:
                raise self._both(path)
            self._directories.add(digest)
            path = path.rpartition("/")[0]
        if len(self._directories) > self._limit:
            raise TooLarge(f"{FIELD}: the zip has more than {self._limit} directories, the limit")

    @staticmethod
    def _both(path: str) -> InvalidRequest:
        return refused(path, "is a file and a directory")


def _digest(path: str) -> bytes:
    return blake2b(path.encode(), digest_size=16).digest()
