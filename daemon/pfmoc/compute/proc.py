"""What ``/proc`` says of processes. Standard library only: the supervisor of a run imports it.

All of it is a snapshot. Whoever kills by it looks again until nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``/proc/<pid>/stat`` (proc(5))."""

    pid: int
    state: str
    parent: int
    session: int
    start_time: int
    """Clock ticks since boot: no change of the wall clock moves it. With the pid it names a process for all time."""

    @property
    def dead(self) -> bool:
        """True when only its entry in the table is left."""
        return self.state in "ZX"


def process(pid: int) -> Process | None:
    """Look at one process; None when there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold blanks and parentheses of its own; nothing after it does.
    fields = text[text.rindex(")") + 2 :].split()
    return Process(pid=pid, state=fields[0], parent=int(fields[1]), session=int(fields[3]), start_time=int(fields[19]))


def processes() -> list[Process]:
    """Look at every process."""
    pids = [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208 - names are wanted, not paths
    return [seen for seen in map(process, pids) if seen is not None]


def descendants(pid: int) -> list[int]:
    """Pids of all living processes below one, nearest first."""
    children: dict[int, list[Process]] = defaultdict(list)
    for seen in processes():
        children[seen.parent].append(seen)
    found: list[int] = []
    generation = [pid]
    while generation:
        below = [child for parent in generation for child in children.get(parent, ())]
        found += [child.pid for child in below if not child.dead]
        generation = [child.pid for child in below]
    return found


def bearing(mark: str) -> list[int]:
    """Pids of all living processes whose environment holds ``mark``, a ``NAME=value``, as far as we may read it."""
    wanted = mark.encode()
    found = []
    for seen in processes():
        with contextlib.suppress(OSError):
            if not seen.dead and wanted in (PROC / str(seen.pid) / "environ").read_bytes().split(b"\0"):
                found.append(seen.pid)
    return found


def kill(pids: Iterable[int]) -> None:
    """Send SIGKILL to each; those that are gone, or not ours to kill, are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def open_pidfd(pid: int, start_time: int) -> int | None:
    """A descriptor that stands for this very process and is readable once it has ended; None when it already has.

    The start time is compared after the descriptor is open: from then on the pid cannot be given to another process unnoticed.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    seen = process(pid)
    if seen is None or seen.start_time != start_time:
        os.close(pidfd)
        return None
    return pidfd
