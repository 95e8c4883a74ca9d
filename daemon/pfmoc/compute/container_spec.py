"""The body of ``POST /containers/create`` for a run: a pure function (contract 7.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pfmoc.compute.base import INCOMING, OUTGOING, Run
from pfmoc.compute.container_status import JID_LABEL
from pfmoc.settings import MIB, Settings

JOB_TYPE_LABEL = "org.chrisproject.job_type"
DAEMON_LABEL = "org.chrisproject.pfmoc.daemon"
"""Tells this daemon's runs from those of others on the same engine."""

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
"""What programs that run as root need to write where they may, and images that begin as root need to become someone else. The
rest of an engine's default (raw sockets, device nodes, chroot, ports, file capabilities) no plugin needs."""

LOG_SIZE = "4m"
"""Size at which a log is turned over. Docker keeps the part before, Podman does not."""

MILLICORES_MIN = 10
"""The kernel's shortest quota, 1 ms in each 100 ms."""


def container_spec(
    run: Run, *, settings: Settings, incoming: Path, outgoing: Path, daemon: str, cpus_there: int | None
) -> dict[str, Any]:
    """Describe the container of a run.

    :param incoming: as the engine's host sees it
    :param outgoing: as the engine's host sees it
    :param daemon: value of ``DAEMON_LABEL``
    :param cpus_there: Docker refuses a limit above what the machine has, which would limit nothing; None: the engine does not
    """
    uid, gid = settings.container_user.draw()
    env = [f"{name}={value}" for name, value in run.env.items()]
    spec: dict[str, Any] = {
        "Image": run.image,
        "Cmd": list(run.argv),
        "Env": [*env, "HOME=/tmp"] if settings.home_workaround else env,
        "Labels": {
            **settings.job_labels,
            JOB_TYPE_LABEL: "plugin",
            JID_LABEL: run.jid,
            DAEMON_LABEL: daemon,
        },
        "HostConfig": {
            "RestartPolicy": {"Name": "no"},
            "NetworkMode": settings.plugin_network,
            # Whatever the engine's default is: a log that can be read back, and cannot fill the disk.
            "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_SIZE, "max-file": "2"}},
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES),
            "Mounts": [
                {"Type": "bind", "Source": str(incoming), "Target": INCOMING, "ReadOnly": True},
                {"Type": "bind", "Source": str(outgoing), "Target": OUTGOING, "ReadOnly": False},
            ],
        },
    }
    host = spec["HostConfig"]
    if uid is not None:
        spec["User"] = str(uid)
    if gid is not None:
        host["GroupAdd"] = [str(gid)]  # supplementary, as upstream has it
    if not settings.ignore_limits:
        memory = run.limits.memory_mib * MIB
        # Upstream sets only the reservation, which bounds nothing. Swap equal to memory means: no swap.
        host |= {"Memory": memory, "MemorySwap": memory, "MemoryReservation": memory}
        millicores = max(run.limits.cpu_millicores, MILLICORES_MIN)
        host["NanoCpus"] = (millicores if cpus_there is None else min(millicores, cpus_there * 1000)) * 1_000_000
    if run.limits.gpus:
        host["DeviceRequests"] = [{"Driver": "", "Count": run.limits.gpus, "Capabilities": [["gpu"]]}]
    if settings.shm_size_mib is not None:
        host["ShmSize"] = settings.shm_size_mib * MIB  # upstream takes a mebibyte for 1.048576 of one
    return spec
