"""Find the files that a job's input consists of: the input directories, and all that links in them lead to (contract 6.1)."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pfmoc.errors import TooLarge
from pfmoc.storage import links
from pfmoc.storage.links import BadLink, Link
from pfmoc.storage.paths import BadPath, StoreBase, components, is_below
from pfmoc.storage.trees import LINK_SUFFIX, REGULAR, opened, walk
from pfmoc.storage.workers import Stop

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Missing(Exception):
    """There is no such input.

    :param path: as resolved, relative to the storeBase
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(kw_only=True, slots=True)
class Gathered:
    """What was found. All paths are relative to the root of the tree."""

    files: set[str] = field(default_factory=set)
    """Every file once, link files included."""
    links: dict[str, Link] = field(default_factory=dict)


class Gathering:
    """Follows inputs and links in a storeBase.

    :param output: the job's own output, if known: no input and no link may hold it, or the job would be fed with what it makes
    """

    def __init__(self, *, storebase: StoreBase, output: str | None, limit: int, stop: Stop) -> None:
        self.found = Gathered()
        self._storebase = storebase
        self._output = output
        self._limit = limit
        self._stop = stop
        self._walked: set[str] = set()
        self._pending: list[str] = []

    def add(self, path: str) -> bool:
        """Gather an input and all that it leads to.

        :param path: resolved, relative to the storeBase
        :returns: True when it is a directory
        :raises Missing: there is nothing of that name
        :raises BadLink: a link cannot be followed
        :raises TooLarge: there are more files than the limit
        """
        directory = _is_directory(self._storebase.root / path)
        if directory is None:
            raise Missing(path)
        self._pending.append(path)
        while self._pending:
            self._visit(self._pending.pop())
        return directory

    def _visit(self, path: str) -> None:
        above = path
        while above:
            if above in self._walked:
                return
            above = above.rpartition("/")[0]
        directory = _is_directory(self._storebase.root / path)
        if directory is None:
            raise Missing(path)
        if not directory:
            top, _, name = path.rpartition("/")
            with opened(self._storebase.root, top) as fd:
                self._add_file(fd, name, path)
            return
        with closing(walk(self._storebase.root, path, stop=self._stop)) as levels:
            for level in levels:
                for name in level.files:
                    self._add_file(level.fd, name, f"{path}/{level.join(name)}")
        self._walked.add(path)

    def _add_file(self, fd: int, name: str, path: str) -> None:
        if path in self.found.files:
            return
        self.found.files.add(path)
        if len(self.found.files) > self._limit:
            raise TooLarge(f"The input has more than {self._limit} files, the limit")
        if name.endswith(LINK_SUFFIX):
            link, goal = self._read(fd, name, path)
            self.found.links[path] = link
            self._pending.append(goal)

    def _read(self, fd: int, name: str, path: str) -> tuple[Link, str]:
        """Return a link, and the path that it leads to."""
        target = links.parse(path, read_link(fd, name, path))
        try:
            goal = self._storebase.relative(self._storebase.resolve(target))
        except BadPath as bad:
            raise BadLink(path, f"has a target that {bad.reason}") from None
        if goal == path:
            raise BadLink(path, "leads to itself")
        if self._output is not None and is_below(self._output, goal):
            raise BadLink(path, "leads to a directory that holds the job's own output")
        directory = _is_directory(self._storebase.root / goal)
        if directory is None:
            raise BadLink(path, f"leads nowhere: there is no {ascii(target)[1:-1]}")
        return (links.to_directory if directory else links.to_file)(target, goal), goal


def read_link(fd: int, name: str, path: str) -> bytes:
    """Return what a link file holds, or its beginning if that is too much for a link.

    :param path: for the error
    :raises BadLink: it vanished, or is a regular file no more
    """
    try:
        file = os.open(name, REGULAR, dir_fd=fd)
    except OSError as error:
        if error.errno in _ABSENT:
            raise BadLink(path, "vanished while it was read") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise BadLink(path, "vanished while it was read")
        return os.read(file, links.CONTENT_MAX + 1)
    finally:
        os.close(file)


def gather_zip(root: Path, *, stop: Stop) -> tuple[Gathered, list[str]]:
    """Gather an unpacked zip, in which targets are relative to its own root.

    :returns: what was found, and all directories
    :raises BadLink: a link cannot be followed
    """
    found = Gathered()
    written: dict[str, str] = {}
    directories = []
    with closing(walk(root, stop=stop)) as levels:
        for level in levels:
            directories.append(level.path)
            for name in level.files:
                path = level.join(name)
                found.files.add(path)
                if name.endswith(LINK_SUFFIX):
                    written[path] = links.parse(path, read_link(level.fd, name, path))
    known = set(directories)
    for path, target in written.items():
        goal = "/".join(components(target))
        if goal == path:
            raise BadLink(path, "leads to itself")
        if goal in known:
            found.links[path] = links.to_directory(target, goal)
        elif goal in found.files:
            found.links[path] = links.to_file(target, goal)
        else:
            raise BadLink(path, f"leads nowhere: there is no {ascii(target)[1:-1]}")
    return found, directories


def _is_directory(path: Path) -> bool | None:
    """True for a directory, False for a regular file, None for anything else or nothing."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    if stat.S_ISDIR(mode):
        return True
    return False if stat.S_ISREG(mode) else None
