"""Make the box's directory: programs, settings, the supervisor's configuration; and take it away."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from boxkit import processes
from boxkit.layout import Layout, write
from boxkit.settings import Settings, as_text, settings
from boxkit.supervisor import Supervisor, configuration

HERE = Path(__file__).resolve().parents[1]


def look(layout: Layout) -> dict[str, object]:
    """What has to be known before anything is made."""
    there = next(path for path in (layout.root, *layout.root.parents) if path.exists())
    return {
        "root": os.getuid() == 0,
        "user": os.getuid(),
        "made": (layout.conf / "box.json").exists(),
        "room_mb": shutil.disk_usage(there).free >> 20,
    }


def prepare(layout: Layout, wanted: Settings, path: Sequence[str], *, check: bool) -> dict[str, object]:
    """Make what the supervisor needs.

    :param path: directories of client programs
    :param check: only tell whether something would change
    :returns: ``changed``, and the ``fingerprint`` of what the supervisor has to be restarted for
    """
    texts = {
        **{layout.programs / file.relative_to(HERE): file.read_text() for file in sorted(HERE.rglob("*.py"))},
        layout.supervisor_conf: configuration(layout, os.getuid()),
        layout.conf / "box.json": as_text(wanted),
        layout.root / "env.sh": shell(layout, wanted, path),
    }
    fingerprint = hashlib.sha256(texts[layout.supervisor_conf].encode()).hexdigest()[:16]
    if check:
        changed = any(not file.exists() or file.read_text() != text for file, text in texts.items())
        return {"changed": changed, "fingerprint": fingerprint}
    layout.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    for directory in (layout.conf, layout.groups, layout.run, layout.log):
        directory.mkdir(mode=0o700, exist_ok=True)
    (layout.root / "bin").mkdir(exist_ok=True)
    changed = _forget(layout, wanted)
    for file, text in texts.items():
        changed |= write(file, text)
    return {"changed": changed, "fingerprint": fingerprint}


def _forget(layout: Layout, wanted: Settings) -> bool:
    """Remove what was true of an earlier box only; True if there was such a thing."""
    before = settings(layout)
    runs = _is_kept(layout)
    # On other ports nothing of the old configuration is right.
    stale = [
        path
        for path in layout.groups.iterdir()
        if path.stem not in wanted.groups or (before.port_base and before.port_base != wanted.port_base)
    ]
    for path in stale:
        path.unlink()
    if runs and stale:
        supervisor = Supervisor(layout)
        supervisor.wait()
        supervisor.take_up()
        processes.end(layout, before.cgroup, walled_only=True)
    if not runs:
        # After kill -9 or a reboot: sockets and numbers of processes that may be somebody else's by now.
        processes.end(layout, before.cgroup)
        shutil.rmtree(layout.run)
        layout.run.mkdir(mode=0o700)
    return bool(stale)


def _is_kept(layout: Layout) -> bool:
    """True while the role background_process keeps the supervisor running: it holds a lock on its pid file."""
    try:
        with (layout.root / "box.pid").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def shell(layout: Layout, wanted: Settings, path: Sequence[str]) -> str:
    """What to source for using the box."""
    lines = [f"# Clients of the box: . {layout.root}/env.sh"]
    if "openstack" in wanted.groups:
        lines += [f"export OS_CLIENT_CONFIG_FILE={shlex.quote(str(layout.root / 'clouds.yaml'))}", "export OS_CLOUD=box"]
    if "kubernetes" in wanted.groups:
        lines += [f"export KUBECONFIG={shlex.quote(str(layout.root / 'kubeconfig'))}"]
    directories = ":".join([str(layout.root / "bin"), *path])
    lines += [f"export PATH={shlex.quote(directories)}:$PATH"]
    return "\n".join(lines) + "\n"


def remove(layout: Layout) -> bool:
    """Remove the box from the disk; False if there was none.

    :raises OSError: something is in the way
    """
    if not layout.root.exists():
        return False
    shutil.rmtree(layout.root)
    return True
