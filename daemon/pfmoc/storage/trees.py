"""Walk, measure and remove directory trees that a plugin may have shaped to do harm.

Nothing here follows a symbolic link, at any depth, even one that appears while the walk goes on: each directory is opened from
its parent's descriptor, component by component. At most three descriptors are open at any time, however deep the tree.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import secrets
import stat
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pfmoc.storage.paths import PATH_MAX
from pfmoc.storage.workers import Stop

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""For files that are expected to be regular: a fifo in their place does not block the opener."""
LINK_SUFFIX = ".chrislink"

_log = logging.getLogger(__name__)

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_PASSES = 20
"""How often a directory is emptied that somebody fills meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One directory of a walk."""

    path: str
    """Relative to where the walk began; ``""`` there."""
    fd: int
    """The directory, open until the next step of the walk."""
    files: list[str]
    """Names of its regular files, sorted."""
    others: int = 0
    """Entries that are neither file nor directory: symbolic links, fifos, sockets, devices."""

    def join(self, name: str) -> str:
        """The file's path, relative to where the walk began."""
        return f"{self.path}/{name}" if self.path else name


def open_directory(base: Path | int, relative: str = "") -> int:
    """Open ``base/relative``; no component of ``relative`` may be a symbolic link.

    :raises OSError: ENOENT, ENOTDIR or ELOOP when there is no such directory
    """
    fd = os.dup(base) if isinstance(base, int) else os.open(base, DIRECTORY)
    try:
        for part in filter(None, relative.split("/")):
            below = os.open(part, DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def opened(base: Path | int, relative: str = "") -> Iterator[int]:
    """``open_directory`` for the length of a block."""
    fd = open_directory(base, relative)
    try:
        yield fd
    finally:
        os.close(fd)


def walk(base: Path, relative: str = "", *, stop: Stop, prune: bool = False) -> Generator[Level]:
    """Yield every directory from ``base/relative`` down, in the order of ``os.walk`` with sorted names.

    A directory that vanishes meanwhile is not there; one that cannot be read is an error, lest files be missed in silence.

    :param prune: leave out what lies deeper than a path can name, and what may not be read, instead of failing
    :raises OSError: there is no such directory; or it cannot be read
    """
    with opened(base, relative) as top:
        pending = [""]
        while pending:
            stop.check()
            path = pending.pop()
            if len(os.fsencode(path)) > PATH_MAX:
                if prune:
                    continue
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            try:
                fd = open_directory(top, path)
            except OSError as error:
                if path and (error.errno in _GONE or (prune and error.errno == errno.EACCES)):
                    continue
                raise
            try:
                files, directories, others = _scanned(fd)
                level = Level(path=path, fd=fd, files=files, others=others)
                pending += [level.join(name) for name in reversed(directories)]
                yield level
            finally:
                os.close(fd)


def _scanned(fd: int) -> tuple[list[str], list[str], int]:
    files, directories, others = [], [], 0
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                files.append(entry.name)
            else:
                others += 1
    return sorted(files), sorted(directories), others


@dataclass(kw_only=True, slots=True)
class Measure:
    """Sums over a tree's regular files."""

    files: int = 0
    size: int = 0
    allocated: int = 0
    links: int = 0
    """Files named ``*.chrislink``; not counted in the other sums."""


def measure(base: Path, relative: str = "", *, stop: Stop, drop_links: bool = False) -> Measure:
    """Add up the regular files of a tree, as far as they can be reached; an absent tree is empty.

    :param drop_links: remove each ``*.chrislink``
    """
    sums = Measure()
    try:
        os.close(open_directory(base, relative))
    except OSError as error:
        if error.errno in _GONE or error.errno == errno.EACCES:
            return sums
        raise
    with closing(walk(base, relative, stop=stop, prune=True)) as levels:
        for level in levels:
            for name in level.files:
                if name.endswith(LINK_SUFFIX):
                    sums.links += 1
                    if drop_links:
                        _drop(level, name)
                    continue
                with suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                    sums.files += 1
                    sums.size += found.st_size
                    sums.allocated += found.st_blocks * 512
    return sums


def _drop(level: Level, name: str) -> None:
    try:
        os.unlink(name, dir_fd=level.fd)
    except FileNotFoundError:
        pass
    except PermissionError:
        # The plugin ran as another user, and the daemon is not root. The job has ended all the same.
        _log.warning("a link that a plugin wrote cannot be removed", extra={"path": level.join(name)})


def make_directories(root: int, path: str) -> None:
    """Make ``path`` below an open directory, and what is missing above it, with mode 0755 whatever the umask.

    For a tree that is the caller's alone. Several threads may do so at once.
    """
    missing = []
    while path:
        try:
            os.mkdir(path, 0o755, dir_fd=root)
        except FileExistsError:
            pass
        except FileNotFoundError:
            missing.append(path)
            path = path.rpartition("/")[0]
            continue
        else:
            os.chmod(path, 0o755, dir_fd=root)  # noqa: S103 - the plugin may be another user, and must read it
        if not missing:
            return
        path = missing.pop()


def remove(path: Path, *, stop: Stop | None = None) -> None:
    """Remove a file or a whole tree; an absent one is fine, and so is another removal of it at the same time.

    Directories that lost their permissions get them back first; files are only unlinked, never changed, because a staged file may
    be a hard link to a user's. Every directory below the second level is first moved up, so that neither depth nor length of
    paths matters.
    """
    stop = stop or Stop()
    try:
        parent = os.open(path.parent, DIRECTORY)
    except FileNotFoundError:
        return
    try:
        for _ in range(_PASSES):
            try:
                if not stat.S_ISDIR(os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode):
                    os.unlink(path.name, dir_fd=parent)
                    return
                with _unlocked(parent, path.name) as top:
                    _empty(top, stop)
                os.rmdir(path.name, dir_fd=parent)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
            else:
                return
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
    finally:
        os.close(parent)


def _empty(top: int, stop: Stop) -> None:
    """Remove all that is in the directory, as far as nobody adds to it meanwhile."""
    tag = secrets.token_hex(4)
    names = (f".removed-{tag}-{number}" for number in itertools.count())
    pending = _clear(top, top, names, stop)
    while pending:
        name = pending.pop()
        with suppress(FileNotFoundError):
            with _unlocked(top, name) as fd:
                pending += _clear(fd, top, names, stop)
            try:
                os.rmdir(name, dir_fd=top)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise


def _clear(fd: int, top: int, names: Iterator[str], stop: Stop) -> list[str]:
    """Unlink the files of a directory and lift its directories into the top one; returns their names there."""
    lifted = []
    with os.scandir(fd) as entries:
        for entry in entries:
            stop.check()
            with suppress(FileNotFoundError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=fd)
                elif fd == top:
                    lifted.append(entry.name)
                else:
                    if entry.stat(follow_symlinks=False).st_mode & stat.S_IRWXU != stat.S_IRWXU:
                        with _unlocked(fd, entry.name):
                            pass
                    name = next(names)
                    os.rename(entry.name, name, src_dir_fd=fd, dst_dir_fd=top)
                    lifted.append(name)
    return lifted


@contextmanager
def _unlocked(parent: int, name: str) -> Iterator[int]:
    """Open a directory, after giving its owner's permissions back. O_PATH needs none, and chmod through it follows no link."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            with suppress(PermissionError):
                Path(f"/proc/self/fd/{handle}").chmod(mode | stat.S_IRWXU)
        fd = os.open(".", DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        yield fd
    finally:
        os.close(fd)
