"""A memory cgroup for each run of the ``process`` environment, where this process may make one. Standard library only.

It bounds the run as a whole, counts what is really used, and knows every process of the run however it hides. Where there is
none (no right to, or cgroup v2 without delegation) the caller falls back on rlimits, which bound each process for itself.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PREFIX = "pfmoc-"


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """One cgroup, version 1 or 2."""

    path: Path

    @classmethod
    def create(cls, name: str, *, limit: int | None) -> Self | None:
        """Make a cgroup below our own; None when that is not to be had.

        :param limit: bytes; None bounds nothing and only keeps the run's processes together
        """
        own = _own()
        if own is None:
            return None
        group = cls(own / f"{PREFIX}{name}")
        try:
            group.path.mkdir(exist_ok=True)
            group._bound(limit)
        except OSError:
            group.remove()
            return None
        return group

    def join(self) -> None:
        """Put the calling process in."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self) -> list[int]:
        """The processes in it."""
        try:
            return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]
        except (FileNotFoundError, OSError):
            return []

    def out_of_memory(self) -> bool:
        """True when the kernel has killed a process of the run because of the limit."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                words = [line.split() for line in (self.path / name).read_text().splitlines()]
                return any(key == "oom_kill" and int(count) > 0 for key, count in words)
        return False

    def remove(self) -> None:
        """Remove it. One that still has a process, or is gone already, is left as it is."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _bound(self, limit: int | None) -> None:
        if (self.path / "memory.max").exists():
            self._write("memory.max", "max" if limit is None else limit)
            if limit is not None and (self.path / "memory.swap.max").exists():
                self._write("memory.swap.max", 0)
            return
        # Version 1. The sum with swap can only be set after, and to no less than, the limit itself.
        self._write("memory.limit_in_bytes", -1 if limit is None else limit)
        if limit is not None and (self.path / "memory.memsw.limit_in_bytes").exists():
            self._write("memory.memsw.limit_in_bytes", limit)

    def _write(self, name: str, value: object) -> None:
        with os.fdopen(os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC), "w") as file:
            file.write(str(value))


def _own() -> Path | None:
    """The directory below which this process may make memory cgroups; None when there is none."""
    try:
        memberships = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, own in memberships:
        for before, after in mounts:
            kind, _, options = after.split(" ", 2)
            v1 = "memory" in controllers.split(",") and kind == "cgroup" and "memory" in options.split(",")
            v2 = not controllers and kind == "cgroup2"
            root, target = before.split()[3:5]
            if not (v1 or v2) or not Path(own).is_relative_to(root):
                continue
            path = Path(target) / Path(own).relative_to(root)
            for base in (path,) if v1 else (path, path.parent):
                if os.access(base, os.W_OK) and (v1 or _hands_memory_down(base)):
                    return base
    return None


def _hands_memory_down(base: Path) -> bool:
    """True for a cgroup v2 whose children are ours to bound.

    Version 2 wants processes in the leaves only, so this is the root, or a service's cgroup that systemd has delegated to it
    (``Delegate=yes``, ``DelegateSubgroup=``) and marked so. Others' cgroups are left alone, though root could write there.
    """
    try:
        ours = os.getxattr(base, "user.delegate") == b"1"
    except OSError:
        ours = not (base / "cgroup.events").exists()  # only the root lacks this file
    try:
        return ours and "memory" in (base / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False
