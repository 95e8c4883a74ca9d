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
from pfmoc.compute.kubernetes import KubernetesCompute
from pfmoc.compute.process import ProcessCompute
from pfmoc.jobs.board import Board
from pfmoc.jobs.cluster_board import ClusterBoard
from pfmoc.jobs.local_board import LocalBoard
from pfmoc.storage import copying, zip_in
from pfmoc.storage.fslink import FslinkStorage
from pfmoc.storage.object_storage import ObjectStorage
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
    """Die when a plugin job has been written down in a phase."""
    for board in (LocalBoard, ClusterBoard):
        for name in ("claim", "save"):
            _dies_after(board, name, phase)


def _dies_after(board: type[Board], name: str, phase: str) -> None:
    original: Callable[..., Any] = getattr(board, name)

    async def patched(self: Board, job: Any, **kwargs: Any) -> Any:
        result = await original(self, job, **kwargs)
        if (job.kind, job.phase) == ("plugin", phase):
            die()
        return result

    setattr(board, name, patched)


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
    "pods.staged": lambda: after(ObjectStorage, "stage"),
    "pods.starting": lambda: before(KubernetesCompute, "start"),
    "pods.started": lambda: after(KubernetesCompute, "start"),
    "pods.ended": lambda: after(ObjectStorage, "seal"),
    "pods.uploaded": lambda: after(ObjectStorage, "upload"),
    "pods.withdrawn": lambda: after(ObjectStorage, "withdraw"),
    "pods.deleted": lambda: after(ObjectStorage, "discard"),
}

if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
