"""The state directory: one daemon's at a time, and what that daemon is called."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pfmoc import durable
from pfmoc.errors import StartError


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Make the directory when absent, and hold it; the kernel drops the lock with the process.

    :raises StartError: another daemon holds it
    :raises OSError: it cannot be made
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise StartError(
                f"another pfmoc uses the state directory {directory}; stop it, or set PFMOC_STATE_DIR to another directory"
            ) from taken
        yield
    finally:
        os.close(descriptor)


def identity(directory: Path) -> str:
    """The name of this replica, the same after a restart: whoever holds the directory is the successor of who held it before.

    :raises OSError: it cannot be kept
    """
    path = directory / "replica.json"
    try:
        known = durable.read_json(path)
    except ValueError:
        known = None
    if not isinstance(known, str):
        known = secrets.token_hex(5)
        durable.write_json(path, known)
    return known
