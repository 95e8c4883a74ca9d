"""Ports for servers that a test starts."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Below those that the system hands out, and those of the box: minutes may pass until one is bound, and others ask for any port.
_PORTS = range(20_000, 27_000)


def free_port() -> int:
    """One of 127.0.0.1 that nobody listens on."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
