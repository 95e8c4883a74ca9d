#!/usr/bin/python
"""Ansible module: tell which TCP ports are free, and whose the others are."""

from __future__ import annotations

import errno
import fcntl
import json
import socket
from collections.abc import Collection
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = """
module: port_owner
short_description: Tell which TCP ports are free, and whose the others are
description:
  - Binds each port for a moment; if that is refused, finds the listening process in /proc, as far as permissions allow.
options:
  host:
    description: The address that is to be bound.
    type: str
    required: true
  ports:
    description: The ports.
    type: list
    elements: int
    required: true
  pid_file:
    description: Pid file of a supervisor of the role background_process; a listener among its descendants is "ours".
    type: path
    required: true
author:
  - ChRIS on MOC
"""

EXAMPLES = """
- name: Look at the ports
  port_owner:
    host: 127.0.0.1
    ports: [5005]
    pid_file: /var/lib/pfmoc/pfmoc.pid
"""

RETURN = """
taken:
  description: The ports that others than the supervisor of I(pid_file) and its descendants listen on.
  type: list
  elements: dict
  returned: always
  contains:
    port:
      description: The port.
      type: int
    owner:
      description: The listening process, for people.
      type: str
"""

COMMAND_CHARACTERS = 120  # of a command, in a message
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


def listeners(ports: Collection[int]) -> dict[int, int]:
    """Processes that listen on the ports. One of another user is missing: its descriptors are not ours to see."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == LISTEN and port in ports:
                sockets[f"socket:[{fields[9]}]"] = port
    found = {}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        try:
            port = sockets.get(str(descriptor.readlink()), 0)
        except OSError:  # ended meanwhile, or not ours to see
            continue
        if port:
            found[port] = int(descriptor.parts[2])
    return found


def supervisor(pid_file: Path) -> int:
    """The live supervisor of the pid file; 0 if there is none."""
    try:
        with pid_file.open() as file:
            pid = int(json.load(file)["pid"])
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return pid
    except (OSError, ValueError, KeyError):
        pass
    return 0


def descends(pid: int, ancestor: int) -> bool:
    """True if the process is the other, or was started by it or by one that it started."""
    while pid not in (ancestor, 0):
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid != 0


def owner(pid: int | None) -> str:
    """A process for people."""
    if pid is None:
        return "a process of another user"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
    except OSError:
        return f"process {pid}, which has just ended"
    return f"process {pid} ({' '.join(words)[:COMMAND_CHARACTERS]})"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "pid_file": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    host, busy = module.params["host"], []
    for port in module.params["ports"]:
        try:
            if not is_free(host, port):
                busy.append(port)
        except OSError as error:
            module.fail_json(msg=f"cannot listen on {host} port {port}: {error.strerror}")
    found = listeners(busy)
    ours = supervisor(Path(module.params["pid_file"]))
    taken = [port for port in busy if not (ours and port in found and descends(found[port], ours))]
    module.exit_json(changed=False, taken=[{"port": port, "owner": owner(found.get(port))} for port in taken])


if __name__ == "__main__":
    main()
