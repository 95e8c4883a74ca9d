"""What a failing disk is called: the one place where an errno becomes an error for the client."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pfmoc.errors import NoSuchData, PfmocError, StorageFull, StorageUnavailable, TooLarge

_FULL = {
    errno.ENOSPC: "Storage is full: no space or inodes left",
    errno.EDQUOT: "Storage is full: the quota is used up",
    errno.EFBIG: "Storage is full: it takes no file of this size",
}
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def translated(error: OSError) -> PfmocError:
    """Return the error to raise for this one. Its text has the system's word for it, and no path of this host."""
    if error.errno in _FULL:
        return StorageFull(_FULL[error.errno])
    if error.errno in _ABSENT:
        return NoSuchData("No such data in storage")
    if error.errno == errno.ENAMETOOLONG:
        return TooLarge("A path in storage is longer than the system takes")
    word = os.strerror(error.errno) if error.errno else "unknown error"
    return StorageUnavailable(f"Storage is unavailable: {word}")


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translate every ``OSError`` of the block."""
    try:
        yield
    except OSError as error:
        raise translated(error) from error
