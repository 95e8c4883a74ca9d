#!/usr/bin/env python3
"""Dynamic inventory: ``scenario_port``, the first of 16 TCP ports in a row that were free on loopback when the scenario began.

It is chosen once, and remembered in the scenario's ephemeral directory. The range lies below the kernel's own choices for
outgoing connections, and meets neither the daemon's port nor the box's. Standard library only.
"""
# ruff: noqa: T201 - Ansible runs it by its path, for what it prints

from __future__ import annotations

import json
import os
import random
import socket
from pathlib import Path

RANGE = range(20000, 27000, 16)
COUNT = 16


def is_free(port: int) -> bool:
    """Try it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def main() -> None:
    """Print the inventory."""
    memory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "port")
    if not memory.exists():
        first = next(first for first in random.sample(RANGE, len(RANGE)) if all(map(is_free, range(first, first + COUNT))))
        memory.write_text(str(first))
    print(json.dumps({"all": {"vars": {"scenario_port": int(memory.read_text())}}, "_meta": {"hostvars": {}}}))


if __name__ == "__main__":
    main()
