"""A pid file that at most one live daemon holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pfmoc.errors import StartError


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the pid file: complete from the moment it is there, locked while the daemon lives, removed when it ends.

    The lock decides, not the number in the file: the kernel drops it with the process, and pids are reused.

    :raises StartError: another live daemon holds it, or it cannot be written
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StartError(f"--pid-file: {path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        _link(fresh, path)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
    finally:
        with suppress(OSError):
            fresh.unlink()
        os.close(descriptor)


def _link(fresh: Path, path: Path) -> None:
    """Give the finished file its name; a name that a dead daemon left is taken over."""
    while True:
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            _remove_stale(path)
        except OSError as error:
            raise StartError(f"--pid-file: {path} cannot be written: {error.strerror}") from error
        else:
            fresh.unlink()
            return


def _remove_stale(path: Path) -> None:
    """Remove the file of a dead daemon.

    :raises StartError: its daemon lives
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"--pid-file: {path} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:  # else somebody else has just replaced it
            path.unlink()
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode(errors="replace").strip()
        raise StartError(f"--pid-file: {path} is held by a running daemon (pid {pid})") from None
    except FileNotFoundError:
        return
    finally:
        os.close(descriptor)
