"""The end of a box: first asked for, then made sure of."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import time
from pathlib import Path

from boxkit import processes
from boxkit.layout import Layout
from boxkit.settings import settings
from boxkit.supervisor import Supervisor


def stop(layout: Layout) -> bool:
    """Have the supervisor stop all services together; False if none answers."""
    supervisor = Supervisor(layout)
    if not supervisor.answers():
        return False
    with contextlib.suppress(OSError, http.client.HTTPException):  # it ends meanwhile: there is `end`
        supervisor.stop()
    return True


def end(layout: Layout) -> list[str]:
    """Make sure that nothing of the box is left but files; return what there was to do.

    :raises processes.EndError: something survives
    """
    cgroup = settings(layout).cgroup
    killed = processes.end(layout, cgroup)
    done = [f"killed {len(killed)} processes"] if killed else []
    for point in _mounts_below(layout):
        processes.unmount(point)
        done.append(f"unmounted {point}")
    cgroups = list(processes.cgroup_directories(cgroup))
    for directory in cgroups:
        _remove_cgroup(directory)
    if cgroups:
        done.append(f"removed {len(cgroups)} cgroups")
    if layout.run.exists() and any(layout.run.iterdir()):
        shutil.rmtree(layout.run)
        layout.run.mkdir(mode=0o700)
    return done


def _mounts_below(layout: Layout) -> list[Path]:
    """Mounts in our own namespace that were made in the box's directory, the latest first."""
    points = [Path(line.split()[4].replace("\\040", " ")) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if layout.root in point.parents]


def _remove_cgroup(directory: Path) -> None:
    """Remove it; the kernel takes a moment to see that its processes are gone."""
    deadline = time.monotonic() + processes.END_S
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                msg = f"cgroup {directory} does not go: {error.strerror}"
                raise processes.EndError(msg) from error
            time.sleep(0.05)
        else:
            return
