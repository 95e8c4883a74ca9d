"""Whether the daemon answers where clients find it: through its Route."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from .rollout import RolloutError

TIMEOUT_S = 10
PAUSE_S = 0.5


class _Connection(http.client.HTTPSConnection):
    """To a name below ``localhost``, which is this machine (RFC 6761), whatever its resolver says."""

    def connect(self) -> None:
        """Connect to the loopback interface, in the name's name."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]  # the library's own


def wait_for_route(url: str, *, authorities: Path | None, timeout_s: float) -> None:
    """Ask the daemon through its Route until it says that it is ready.

    :param url: of the API
    :param authorities: file of those that the router's certificate is signed by; None for the system's
    :raises RolloutError: it does not within ``timeout_s``
    """
    until = time.monotonic() + timeout_s
    while (answer := _ask(url, authorities)) != "200":
        if time.monotonic() > until:
            raise RolloutError(
                f"the daemon's pods are ready, and {url} is not: {answer}; is the Route there, and its name known here?"
            )
        time.sleep(PAUSE_S)


def _ask(url: str, authorities: Path | None) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    kind = _Connection if host.endswith(".localhost") else http.client.HTTPSConnection
    context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
    connection = kind(host, parts.port or 443, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return str(answer.status) if answer.status == 200 else f"{answer.status} {answer.read(300).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
