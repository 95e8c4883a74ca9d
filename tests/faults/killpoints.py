"""``python killpoints.py POINT [pfmoc's arguments]``: a daemon that is killed with SIGKILL when it first reaches a point.

The points lie inside the daemon, between two steps that a test cannot tell apart from outside.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from pfmoc.__main__ import main
from pfmoc.compute.process import ProcessCompute
from pfmoc.jobs.board import Board
from pfmoc.storage import copying, zip_in
from pfmoc.storage.fslink import FslinkStorage
from pfmoc.storage.zipfile import ZipfileStorage


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str) -> None:
    """Die instead of making a call."""
    setattr(owner, name, die)


def after(owner: Any, name: str) -> None:
    """Die when a call has been made."""
    original: Callable[..., Any] = getattr(owner, name)

    async def patched(*args: Any, **kwargs: Any) -> Any:
        await original(*args, **kwargs)
        die()

    setattr(owner, name, patched)


def after_sync(owner: Any, name: str) -> None:
    """Die when a call that is no coroutine has been made."""
    original: Callable[..., Any] = getattr(owner, name)

    def patched(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        die()

    setattr(owner, name, patched)


def at_phase(phase: str) -> None:
    """Die when a job has been written down in a phase."""
    original = Board.save

    async def patched(board: Board, job: Any, **kwargs: Any) -> None:
        await original(board, job, **kwargs)
        if job.phase == phase:
            die()

    setattr(Board, "save", patched)  # noqa: B010 - a method, replaced on purpose


POINTS: dict[str, Callable[[], None]] = {
    "claimed": lambda: at_phase("staging"),
    "unpacked": lambda: after_sync(zip_in, "unpack"),
    "staged": lambda: after(ZipfileStorage, "stage"),
    "starting": lambda: before(ProcessCompute, "start"),
    "started": lambda: after(ProcessCompute, "start"),
    "answered": lambda: at_phase("running"),
    "ended": lambda: after(ZipfileStorage, "seal"),
    "copying": lambda: after_sync(copying, "bring"),
    "copied": lambda: after(FslinkStorage, "stage"),
    "deleting": lambda: after(ZipfileStorage, "discard"),
}

if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
