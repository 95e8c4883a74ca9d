"""Names below ``localhost`` are this machine (RFC 6761), as curl and browsers have it; the system's resolver may not."""

from __future__ import annotations

import socket
from typing import Any

LOOPBACK = "127.0.0.1"


def know_localhost() -> None:
    """Have every name below ``localhost`` resolved to loopback, in this process."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        ours = isinstance(host, str) and host.endswith(".localhost")
        return ask(LOOPBACK if ours else host, *arguments, **options)

    socket.getaddrinfo = getaddrinfo
