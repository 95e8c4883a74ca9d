"""Bring files from one tree into another: as hard links where that is safe and possible, else as copies that share blocks or
keep holes where the file system can do that.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pfmoc.storage.batches import in_batches
from pfmoc.storage.trees import REGULAR, make_directories, open_directory, opened
from pfmoc.storage.workers import Stop

_BATCH = 64
_FICLONE = 0x40049409
"""ioctl_ficlone(2): share the blocks of another file."""
_STEP = 16 << 20
"""Bytes between two looks at the stop flag."""
_PIECE = 1 << 20
_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.ENOTSUP})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
"""What opening a name says when there is no such file, or something else by now."""
_CANNOT_CLONE = frozenset({errno.EXDEV, errno.ENOTTY, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.ETXTBSY})


class Gone(Exception):
    """A file that was to be copied is there no more, or is no file any more.

    :param path: relative to the tree that it was in
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def bring(placed: Mapping[str, str], *, source: Path, target: Path, hard_links: bool, stop: Stop) -> None:
    """Bring files into an existing, empty directory that nobody else writes to.

    :param placed: for each path below ``target`` the path below ``source``; no component of either may be a symbolic link
    :param hard_links: try these first. A link is the user's own file: only for a plugin that cannot write to its input
    :raises Gone: a file is missing
    """

    def place(batch: list[tuple[str, str]], stop: Stop) -> None:
        with opened(source) as from_root, opened(target) as to_root:
            for directory, files in itertools.groupby(batch, key=lambda item: item[1].rpartition("/")[0]):
                with _opened(from_root, directory) as from_fd:
                    for path, origin in files:
                        stop.check()
                        make_directories(to_root, path.rpartition("/")[0])
                        _bring_one(from_fd, origin, to_root, path, hard_links=hard_links, stop=stop)

    in_batches(place, _chunks(iter(placed.items())), stop=stop)


@contextmanager
def _opened(root: int, directory: str) -> Iterator[int]:
    try:
        fd = open_directory(root, directory)
    except OSError as error:
        if error.errno in _GONE:
            raise Gone(directory) from error
        raise
    try:
        yield fd
    finally:
        os.close(fd)


def _chunks(items: Iterable[tuple[str, str]]) -> Iterable[list[tuple[str, str]]]:
    items = iter(items)
    while chunk := list(itertools.islice(items, _BATCH)):
        yield chunk


def _bring_one(from_fd: int, origin: str, to_root: int, path: str, *, hard_links: bool, stop: Stop) -> None:
    name = origin.rpartition("/")[2]
    try:
        if not (hard_links and _linked(from_fd, name, to_root, path)):
            _copied(from_fd, name, to_root, path, stop)
    except OSError as error:
        if error.errno in _GONE:
            raise Gone(origin) from error
        raise


def _linked(from_fd: int, name: str, to_root: int, path: str) -> bool:
    try:
        os.link(name, path, src_dir_fd=from_fd, dst_dir_fd=to_root, follow_symlinks=False)
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            return False
        raise
    if not stat.S_ISREG(os.stat(path, dir_fd=to_root, follow_symlinks=False).st_mode):
        os.unlink(path, dir_fd=to_root)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return True


def _copied(from_fd: int, name: str, to_root: int, path: str, stop: Stop) -> None:
    source = os.open(name, REGULAR, dir_fd=from_fd)
    try:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=to_root)
        try:
            os.fchmod(target, 0o644)
            if not _cloned(source, target):
                _copy(source, target, found.st_size, stop)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _cloned(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
        return False
    return True


def _copy(source: int, target: int, size: int, stop: Stop) -> None:
    """Copy the parts of a file that hold data."""
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            raise
        hole = min(size, os.lseek(source, at, os.SEEK_HOLE))
        while at < hole:
            stop.check()
            done = _copy_step(source, target, min(_STEP, hole - at), at)
            if not done:
                return
            at += done


def _copy_step(source: int, target: int, count: int, at: int) -> int:
    try:
        return os.copy_file_range(source, target, count, at, at)
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
    data = os.pread(source, min(count, _PIECE), at)
    return os.pwrite(target, data, at)
