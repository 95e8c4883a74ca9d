"""The directory of one run in the ``process`` environment: what the daemon and the run's supervisor tell each other.

::

    <state_dir>/runs/<engine name>/
        run.json      what was asked, written by the daemon before anything starts; no environment values
        lock          held (flock) from before the supervisor starts until it is gone; holds its pid
        started.json  written by the supervisor once the plugin really executes
        ended.json    written by the supervisor once no process of the run is alive
        log, log.1    output of the plugin, the newer and the older part
        tmp/          the plugin's working directory, HOME and TMPDIR

The lock is the proof of life: the kernel releases it with the supervisor's last breath, be it SIGKILL or a reboot, and no other
process can be mistaken for it, whatever pid it got. Everything here is standard library only: the supervisor imports it, and
there is one supervisor for each run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pfmoc.durable import publish, read_json, write_synced

RUN = "run.json"
LOCK = "lock"
STARTED = "started.json"
ENDED = "ended.json"
LOG = "log"
OLDER_LOG = "log.1"
TMP = "tmp"

ENDED_SPACE = 4096
"""Bytes kept free for ``ended.json`` from the start, so that a full disk cannot swallow the outcome of a run."""


def reserve_ended(rundir: Path) -> None:
    """Claim the disk space of ``ended.json``."""
    write_synced(rundir / f".{ENDED}.new", b" " * ENDED_SPACE, flags=os.O_CREAT | os.O_EXCL)


def write_ended(rundir: Path, document: object) -> None:
    """Write ``ended.json`` into the space reserved for it."""
    new = rundir / f".{ENDED}.new"
    write_synced(new, json.dumps(document).encode().ljust(ENDED_SPACE), flags=0)
    publish(new, rundir / ENDED)


def read_document(path: Path) -> dict[str, Any] | None:
    """Read a JSON document; None when it was never written."""
    document = read_json(path)
    if not (document is None or isinstance(document, dict)):
        raise TypeError(f"{path.name} of a run is not an object")
    return document


def take_lock(rundir: Path) -> int:
    """Create the lock and hold it; returns its descriptor. Waits for a reader that is just trying it."""
    lock = os.open(rundir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def alive(rundir: Path) -> bool:
    """True while the supervisor of this run is alive, or is being started.

    Ask before reading ``ended.json``: when the answer is no, that document will not come any more.
    """
    try:
        lock = os.open(rundir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two who ask do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def read_lock(rundir: Path) -> tuple[int, int] | None:
    """The supervisor's pid and start time; None when it has not said so yet."""
    try:
        words = (rundir / LOCK).read_text().split()
    except FileNotFoundError:
        return None
    return (int(words[0]), int(words[1])) if len(words) == 2 else None


def discard(rundir: Path) -> None:
    """Remove a run's directory, at once for those who look and whatever modes the plugin left in ``tmp``."""
    gone = rundir.with_name(f".{rundir.name}.{os.urandom(4).hex()}")
    with contextlib.suppress(FileNotFoundError):
        rundir.rename(gone)
        remove_tree(gone)


def remove_tree(path: Path) -> None:
    """Remove a tree, opening directories that deny it to their own owner."""

    def open_up(_: Callable[..., Any], failed: str, error: tuple[type[BaseException], BaseException, object]) -> None:
        if isinstance(error[1], FileNotFoundError):
            return
        if not isinstance(error[1], PermissionError):
            raise error[1]
        denied = Path(failed)
        for directory in (denied.parent, denied):
            if stat.S_ISDIR(directory.lstat().st_mode):
                directory.chmod(0o700)
        if stat.S_ISDIR(denied.lstat().st_mode):
            shutil.rmtree(denied)
        else:
            denied.unlink()

    shutil.rmtree(path, onerror=open_up)


def now() -> str:
    """The time as documents give it: RFC 3339, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
