"""Processes of the box, found in /proc: which they are, in which namespaces, and their certain end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from boxkit.layout import MARK, Layout

PROC = Path("/proc")
NAMESPACES = ("net", "uts", "ipc", "cgroup", "mnt")
"""Those that a process may enter by itself; the mounts last, because the others are found through them."""
END_S = 20.0
_libc = ctypes.CDLL(None, use_errno=True)


class EndError(Exception):
    """Something of the box does not end."""


@dataclass(frozen=True)
class Stat:
    """What /proc says of a process; ``start`` (clock ticks since boot) tells it from a later one of the same number."""

    parent: int
    group: int
    start: int


def stat_of(pid: int) -> Stat | None:
    """None for one that is not there, or dead and not yet buried."""
    try:
        words = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else Stat(int(words[1]), int(words[2]), int(words[19]))


def table() -> dict[int, Stat]:
    """Every live process."""
    found = ((int(path.name), stat_of(int(path.name))) for path in PROC.iterdir() if path.name.isdigit())
    return {pid: stat for pid, stat in found if stat}


def descendants(pid: int, processes: Mapping[int, Stat]) -> set[int]:
    """The process and all that it started, as far as they are still its children."""
    children = defaultdict(list)
    for child, stat in processes.items():
        children[stat.parent].append(child)
    found, pending = set[int](), [pid]
    while pending:
        found.add(pending[-1])
        pending += children[pending.pop()]
    return found


def memory_kib(pids: set[int]) -> int:
    """What the processes hold in memory, shared pages divided among those that share them (PSS)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def marked(pid: int, layout: Layout) -> bool:
    """True if the process has the box's mark in its environment."""
    try:
        return f"{MARK}={layout.root}".encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # ended meanwhile, or another user's
        return False


def namespace(pid: int | str, kind: str) -> str:
    """Its name, such as ``net:[4026531840]``; empty for a process that is gone or another user's."""
    try:
        return str((PROC / str(pid) / "ns" / kind).readlink())
    except OSError:
        return ""


def _mounts(pid: int | str) -> set[tuple[str, ...]]:
    """Root, mount point and source with options, of every mount that the process sees."""
    try:
        lines = (PROC / str(pid) / "mountinfo").read_text().splitlines()
    except OSError:
        return set()
    return {(*line.split(" ", 5)[3:5], line.partition(" - ")[2]) for line in lines}


def walled(layout: Layout) -> set[int]:
    """Processes in mount namespaces of the box's own: the sandbox, and containers in it.

    Such a namespace shows the box's directory in a mount that ours does not have: the sandbox's mark, or the lower
    directories and volumes of a container.
    """
    own, here = namespace("self", "mnt"), _mounts("self")
    path = str(layout.root).replace(" ", "\\040") + "/"

    @cache
    def is_ours(name: str, pid: int) -> bool:  # noqa: ARG001 - the name is what the answer is kept for
        return any(path in word for mount in _mounts(pid) - here for word in mount)

    first: dict[str, int] = {}
    found = set()
    for pid in table():
        name = namespace(pid, "mnt")
        if name not in ("", own) and is_ours(name, first.setdefault(name, pid)):
            found.add(pid)
    return found


def cgroup_directories(name: str) -> Iterator[Path]:
    """The cgroup of that name in every hierarchy, with all below it, deepest first."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for top in {Path(words[1], name) for words in mounts if name and words[2] in ("cgroup", "cgroup2")}:
        if top.is_dir():
            yield from (Path(path) for path, _, _ in os.walk(top, topdown=False))


def in_cgroup(name: str) -> set[int]:
    """Processes in the cgroup, or below it."""
    found = set[int]()
    for directory in cgroup_directories(name):
        with contextlib.suppress(OSError):
            found |= {int(word) for word in (directory / "cgroup.procs").read_text().split()}
    return found


def of_box(layout: Layout, cgroup: str) -> set[int]:
    """Every process of the box, however it got away from its parent; never ourselves or what started us."""
    processes = table()
    found = {pid for pid in processes if marked(pid, layout)} | walled(layout) | in_cgroup(cgroup)
    for pid in set(found):
        found |= descendants(pid, processes)
    ancestor = os.getpid()
    while ancestor in processes:
        found.discard(ancestor)
        ancestor = processes[ancestor].parent
    return found & processes.keys()


def end(layout: Layout, cgroup: str, *, walled_only: bool = False) -> set[int]:
    """Kill what is left of the box until nothing is; return what was killed.

    :param walled_only: spare what runs in our own mount namespace
    :raises EndError: something survives
    """
    killed = set[int]()
    deadline = time.monotonic() + END_S
    while left := walled(layout) | in_cgroup(cgroup) if walled_only else of_box(layout, cgroup):
        if time.monotonic() > deadline:
            msg = f"processes {sorted(left)} of the box do not end"
            raise EndError(msg)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= left
        time.sleep(0.05)
    return killed


def end_group(number: int, layout: Layout) -> None:
    """Kill what is left of a process group, if it is the box's."""
    for pid, stat in table().items():
        if stat.group == number and pid != os.getpid() and marked(pid, layout):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def enter(pid: int) -> None:
    """Enter all namespaces of a process that we are not in.

    :raises OSError: it is gone, or we may not
    """
    descriptors = [
        os.open(PROC / str(pid) / "ns" / kind, os.O_RDONLY | os.O_CLOEXEC)
        for kind in NAMESPACES
        if namespace(pid, kind) != namespace("self", kind)
    ]
    for descriptor in descriptors:
        _checked(_libc.setns(descriptor, 0), "setns")
        os.close(descriptor)


def wall_off(layout: Layout) -> None:
    """Give this process mounts of its own, with the box's mark among them.

    :raises OSError: we may not
    """
    clone_newns, ms_bind, ms_private_rec = 0x20000, 0x1000, 0x4000 | 0x40000
    layout.marker.mkdir(parents=True, exist_ok=True)
    marker = str(layout.marker).encode()
    _checked(_libc.unshare(clone_newns), "unshare")
    _checked(_libc.mount(None, b"/", None, ms_private_rec, None), "mount")
    _checked(_libc.mount(marker, marker, None, ms_bind, None), "mount")


def unmount(path: Path) -> None:
    """Detach a mount.

    :raises OSError: we may not
    """
    mnt_detach = 2
    _checked(_libc.umount2(str(path).encode(), mnt_detach), f"umount {path}")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, even by kill -9."""
    pr_set_pdeathsig = 1
    parent = os.getppid()
    _checked(_libc.prctl(pr_set_pdeathsig, signal.SIGKILL), "prctl")
    if os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), signal.SIGKILL)


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
