#!/usr/bin/python
"""Ansible module: tell whether a TCP port is free, and if not, whose it is."""

from __future__ import annotations

import errno
import fcntl
import json
import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = """
module: port_owner
short_description: Tell whether a TCP port is free, and if not, whose it is
description:
  - Binds the port for a moment; if that is refused, finds the listening process in /proc, as far as permissions allow.
options:
  host:
    description: The address that is to be bound.
    type: str
    required: true
  port:
    description: The port.
    type: int
    required: true
  pid_file:
    description: Pid file of a supervisor; a listener among its children is "ours".
    type: path
    required: true
author:
  - ChRIS on MOC
"""

EXAMPLES = """
- name: Look at the port
  port_owner:
    host: 127.0.0.1
    port: 5005
    pid_file: /var/lib/pfmoc/pfmoc.pid
"""

RETURN = """
free:
  description: Nobody listens there.
  type: bool
  returned: always
ours:
  description: The supervisor of I(pid_file), or a child of it, listens there.
  type: bool
  returned: always
owner:
  description: The listening process, for people.
  type: str
  returned: always
"""

LISTEN = "0A"  # as /proc/net/tcp spells it


def is_free(host: str, port: int) -> bool:
    """Try it: what counts is whether a server could start."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def listener(port: int) -> int | None:
    """Process that listens on the port; None when it is another user's, whose descriptors we may not see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) in inodes:
                return int(descriptor.parts[2])
        except OSError:  # ended meanwhile, or not ours to see
            continue
    return None


def supervised(pid: int, pid_file: Path) -> bool:
    """True if the process is the live supervisor of the pid file, or its child."""
    try:
        with pid_file.open() as file:
            supervisor = json.load(file)["pid"]
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                return supervisor in (pid, parent)
    except (OSError, ValueError, KeyError):
        pass
    return False


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "pid_file": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    port = module.params["port"]
    try:
        free = is_free(module.params["host"], port)
    except OSError as error:
        module.fail_json(msg=f"cannot listen on {module.params['host']} port {port}: {error.strerror}")
    pid = None if free else listener(port)
    owner = "" if free else "a process of another user"
    if pid is not None:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        owner = f"process {pid} ({command})"
    ours = pid is not None and supervised(pid, Path(module.params["pid_file"]))
    module.exit_json(changed=False, free=free, ours=ours, owner=owner)


if __name__ == "__main__":
    main()
