"""The spool: uploads on their way from the socket to storage, each a fresh file of its own.

A file is locked while its request lives. The kernel drops the lock with the process, so a daemon that starts can tell what its
predecessor left behind from what a neighbour on the same storeBase is receiving right now.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pfmoc.errors import PfmocError, StorageFull, StorageUnavailable

FLUSH_BYTES = 1 << 20
"""Bytes gathered before a write is handed to a thread: one hop of 100 us per MiB, where one per socket read would cost more
than the write itself."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SpoolFile:
    """One upload being written. Use it from one task."""

    def __init__(self, *, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = 0
        self._descriptor = descriptor
        self._chunks: list[bytes | bytearray] = []
        self._waiting = 0

    def append(self, chunk: bytes | bytearray) -> None:
        """Take bytes; they reach the file with the next ``flush``."""
        self._chunks.append(chunk)
        self._waiting += len(chunk)
        self.size += len(chunk)

    async def flush(self, *, at_least: int = 1) -> None:
        """Write what was taken, off the event loop.

        :param at_least: do nothing while fewer bytes wait
        :raises StorageFull: no space is left
        :raises StorageUnavailable: the file cannot be written
        """
        if self._waiting < at_least:
            return
        chunks, self._chunks, self._waiting = self._chunks, [], 0
        try:
            await asyncio.to_thread(_write_all, self._descriptor, b"".join(chunks))
        except OSError as error:
            raise _storage_error(error) from error


class Spool:
    """The directory of all uploads under way.

    :param storebase: the root of storage. The spool lies within it, so that what was received is on the file system where it is
        going; an absent one is never made here: it is more likely one that is not mounted
    """

    def __init__(self, storebase: Path) -> None:
        self._directory = storebase / ".pfmoc" / "spool"

    def clear(self) -> int:
        """Remove what requests of a dead daemon left behind. Returns how many files that were."""
        try:
            return sum(_remove_abandoned(path) for path in self._directory.iterdir())
        except OSError:
            return 0

    @asynccontextmanager
    async def file(self) -> AsyncIterator[SpoolFile]:
        """A fresh file, mode 0600, which is gone when the context ends.

        :raises StorageFull: no space or inode is left
        :raises StorageUnavailable: the directory cannot be written
        """
        path = self._directory / f"{secrets.token_hex(16)}.part"
        try:
            descriptor = await asyncio.to_thread(_create, path)
        except OSError as error:
            raise _storage_error(error) from error
        try:
            yield SpoolFile(path=path, descriptor=descriptor)
        finally:
            await asyncio.shield(asyncio.to_thread(_discard, path, descriptor))


def _create(path: Path) -> int:
    for directory in (path.parent.parent, path.parent):
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _discard(path: Path, descriptor: int) -> None:
    """Remove the file before its lock goes, so that nobody takes it for abandoned."""
    with suppress(OSError):
        path.unlink()
    os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _remove_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _storage_error(error: OSError) -> PfmocError:
    if error.errno in _FULL:
        return StorageFull("No space is left for the upload.")
    return StorageUnavailable(f"The upload cannot be stored: {error.strerror}.")
