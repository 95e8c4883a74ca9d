#!/usr/bin/env python3
"""Hold the mount and the network namespace that a Kubernetes of one's own runs in.

    sandbox.py SPECIFICATION

SPECIFICATION is a JSON file, see ``Specification``. The namespaces are ready once the network's name is in ``/run/netns``
inside; other programs enter them by way of this process, which waits for SIGTERM.

Nothing of the machine changes: inside there is a ``/run`` and a ``/var`` of its own, the settings of the kernel that a
kubelet would change for the whole machine are files, and the network is one loopback interface with the node's address on
it. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SHARED = 0x100000

CGROUPS = Path("/sys/fs/cgroup")
# What a kubelet sets for the whole machine, with the values that it wants to find.
SYSCTLS = {
    "kernel/keys/root_maxbytes": 25_000_000,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
}

MACHINE = "machine"
"""What the machine's own network namespace is called in the ``/run/netns`` inside, for what listens there."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Specification:
    """What to set up.

    :param directory: holds what outlasts the sandbox: ``var`` is the ``/var`` inside, ``hosts`` and ``resolv.conf`` are those
        of ``/etc``; gets ``sandbox.pid``
    :param keep: directories that must be seen inside, even where they lie below ``/var`` or ``/run``
    :param cgroup: the cgroup, below the root of each hierarchy, for all containers
    :param network: name of the network namespace in the ``/run/netns`` inside
    :param address: the node's address
    :param services: network of the Services' addresses, which needs a route for the node itself to reach them
    """

    directory: Path
    keep: list[Path]
    cgroup: str
    network: str
    address: str
    services: str

    @classmethod
    def read(cls, file: Path) -> Specification:
        """The specification of ``file``."""
        document = json.loads(file.read_text())
        document["directory"] = Path(document["directory"])
        document["keep"] = [Path(path) for path in document["keep"]]
        return cls(**document)


def mount(source: str | Path, target: str | Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Have the kernel mount something.

    :raises OSError: the kernel refuses
    """
    words = [os.fsencode(source), os.fsencode(target), kind.encode()]
    if _libc.mount(*words, ctypes.c_ulong(flags), data.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount: {os.strerror(number)}", str(target))


def leave_the_machine() -> int:
    """Put this process into namespaces of its own; return a descriptor of the network that it was in."""
    machine = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    return machine


def furnish(specification: Specification) -> None:
    """Cover what belongs to the machine."""
    hidden = [path for path in specification.keep if path.is_relative_to("/var") or path.is_relative_to("/run")]
    kept = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in hidden}
    resolver = Path("/etc/resolv.conf").resolve()
    var = specification.directory / "var"
    for directory in ("lib", "log", "tmp"):
        (var / directory).mkdir(parents=True, exist_ok=True)
    if not (var / "run").is_symlink():
        (var / "run").symlink_to("/run")
    mount(var, "/var", flags=MS_BIND)
    mount("tmpfs", "/run", "tmpfs", data="mode=755")
    for directory in ("lock", "netns", "sysctl"):
        Path("/run", directory).mkdir()
    for path, descriptor in kept.items():
        path.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{descriptor}", path, flags=MS_BIND | MS_REC)
        os.close(descriptor)
    for name, value in SYSCTLS.items():
        if Path("/proc/sys", name).exists():
            shadow = Path("/run/sysctl", name.replace("/", "."))
            shadow.write_text(f"{value}\n")
            mount(shadow, Path("/proc/sys", name), flags=MS_BIND)
    mount(specification.directory / "hosts", "/etc/hosts", flags=MS_BIND)
    # Often a link into /run, which is empty now.
    resolver.parent.mkdir(parents=True, exist_ok=True)
    resolver.touch()
    mount(specification.directory / "resolv.conf", resolver, flags=MS_BIND)
    # From here on mounts propagate among those inside: a kubelet and its containers' volumes rely on it.
    mount("none", "/", flags=MS_REC | MS_SHARED)


def make_the_network(specification: Specification, machine: int) -> None:
    """Bring up loopback with the node's address. There is no way out but for who enters the machine's network by its name.

    :param machine: descriptor of that network
    """
    commands = f"""\
link set lo up
address add {specification.address}/32 dev lo
route add {specification.services} dev lo src {specification.address}
"""
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)  # noqa: S607 - wherever iproute2 put it
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # Its own comes last: it tells that all is ready.
    for name, source in ((MACHINE, f"/proc/self/fd/{machine}"), (specification.network, "/proc/self/ns/net")):
        place = Path("/run/netns", name)
        place.touch()
        mount(source, place, flags=MS_BIND)
    os.close(machine)


def hierarchies() -> Iterator[Path]:
    """Where cgroups are mounted: one place with cgroup v2, one for each controller with v1."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, kind = line.split()[4], line.partition(" - ")[2].split()[0]
        if kind in {"cgroup", "cgroup2"} and Path(place).is_relative_to(CGROUPS):
            yield Path(place)


def make_the_cgroup(name: str) -> None:
    """Make the containers' cgroup in every hierarchy, with every controller: a kubelet wants to find it, and nothing in it.

    It would try for seconds to make sense of each cgroup that a container of an earlier sandbox left.
    """
    offered = CGROUPS / "cgroup.controllers"
    if offered.exists():
        wanted = {"cpu", "cpuset", "hugetlb", "io", "memory", "pids"}.intersection(offered.read_text().split())
        (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in sorted(wanted)))
    for hierarchy in hierarchies():
        for left, _, _ in os.walk(hierarchy / name, topdown=False):
            Path(left).rmdir()
        (hierarchy / name).mkdir()


def main() -> None:
    """Run the command line."""
    specification = Specification.read(Path(sys.argv[1]))
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    (specification.directory / "sandbox.pid").write_text(str(os.getpid()))
    try:
        make_the_cgroup(specification.cgroup)
        machine = leave_the_machine()
        furnish(specification)
        make_the_network(specification, machine)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"sandbox: {error}")
    signal.sigwait(ends)


if __name__ == "__main__":
    main()
