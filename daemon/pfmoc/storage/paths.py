"""The storeBase, and which of its paths a client may name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

KEY_PREFIX = "key-"
"""Directories of jobs, at the top of the storeBase."""
PRIVATE = ".pfmoc"
"""The daemon's own directory, at the top of the storeBase."""
NAME_MAX = 255
"""Bytes of one component: the limit of every Linux file system."""
PATH_MAX = 4095
"""Bytes of a path: the limit of every system call."""


class BadPath(ValueError):
    """A path that a client may not name.

    :param reason: reads on after the name of a field
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def components(text: str) -> list[str]:
    """Split a relative path into its components, ``.`` and doubled slashes dropped. Touches no disk.

    :raises BadPath: empty, absolute, with ``..``, control characters or surrogates, or too long
    """
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise BadPath("is not UTF-8 text") from None
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise BadPath("must not contain control characters")
    if text.startswith("/"):
        raise BadPath("must be relative")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts:
        raise BadPath("is empty")
    if ".." in parts:
        raise BadPath("must not contain '..'")
    if len(encoded) > PATH_MAX or any(len(part.encode()) > NAME_MAX for part in parts):
        raise BadPath("is too long")
    return parts


def is_below(path: str, top: str) -> bool:
    """True when the relative path is ``top`` or lies below it, component by component. ``""`` is the root, above everything."""
    return not top or path == top or path.startswith(f"{top}/")


class StoreBase:
    """The directory that holds the users' trees, the jobs' ``key-<jid>`` directories and the daemon's ``.pfmoc``.

    :param root: as the daemon sees it; symbolic links in it are the operator's and are resolved once, here
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))

    @property
    def private(self) -> Path:
        """The daemon's own directory."""
        return self.root / PRIVATE

    def key_dir(self, jid: str) -> Path:
        """The job's directory.

        :raises BadPath: the id could leave the storeBase. Ids are checked long before; this is the last line.
        """
        if len(components(jid)) != 1 or jid.strip("/") != jid:
            raise BadPath("is not a job id")
        return self.root / f"{KEY_PREFIX}{jid}"

    def relative(self, path: Path) -> str:
        """A path below the root as text, ``""`` for the root."""
        text = str(path.relative_to(self.root))
        return "" if text == "." else text

    def check(self, text: str, *, own: str | None = None) -> str:
        """Check what a client sends as a directory, as far as that goes without the disk.

        Surrounding slashes are stripped first: upstream does, so that ``/home/u/`` means ``home/u``.

        :param own: id of the one job whose directory may be named
        :raises BadPath: see ``components``; or it lies in the directory of a job, or in the daemon's own
        """
        return checked(text, own=own)

    def resolve(self, text: str, *, own: str | None = None) -> Path:
        """Check a client's path, and where it really leads. The path need not exist.

        :param own: id of the one job whose directory may be named
        :returns: an absolute path without symbolic links
        :raises BadPath: see ``check``; or a symbolic link leads out of the storeBase or into a forbidden part of it
        """
        real = Path(os.path.realpath(self.root / self.check(text, own=own)))
        if not real.is_relative_to(self.root) or real == self.root:
            raise BadPath("leads out of the storage")
        _check_top(real.relative_to(self.root).parts, own)
        return real


def checked(text: str, *, own: str | None = None) -> str:
    """Check a client's path without a disk: see ``StoreBase.check``."""
    parts = components(text.strip("/"))
    _check_top(parts, own)
    return "/".join(parts)


def _check_top(parts: Sequence[str], own: str | None) -> None:
    if own is not None and parts[0] == f"{KEY_PREFIX}{own}":
        return
    if parts[0] == PRIVATE or parts[0].startswith(KEY_PREFIX):
        raise BadPath("lies in a directory that belongs to the compute resource")
