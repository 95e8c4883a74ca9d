"""What the mover says: one line at the end for the daemon, and a log for people."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

_MESSAGE_MAX = 4096
"""Bytes of a termination message that Kubernetes keeps."""


class Failed(Exception):
    """The work failed for good. The text is meant for the user: it names the cause, and no secret."""


class BadTicket(Exception):
    """The file that the daemon has given is no ticket that this mover understands."""


@dataclass(kw_only=True, slots=True)
class Report:
    """How far it has come, and how it ended."""

    phase: str
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    error: str | None = None
    allocated: int = 0
    """Bytes that the outputs really occupy: far below ``bytes`` when they are sparse."""
    dropped_links: int = 0
    """``.chrislink`` files that the plugin wrote: never published."""
    skipped: int = 0
    """Symbolic links, fifos, sockets and devices: never published either."""

    def write(self, path: Path, *, since: float) -> None:
        """Write the message where Kubernetes reads it.

        :param since: when the work began, on the monotonic clock
        """
        self.seconds = round(time.monotonic() - since, 3)
        text = json.dumps(asdict(self), separators=(",", ":"))
        while self.error is not None and len(text) > _MESSAGE_MAX:
            self.error = self.error[: len(self.error) * 3 // 4]
            text = json.dumps(asdict(self), separators=(",", ":"))
        try:
            path.write_text(text)
        except OSError as error:
            say("error", f"the termination message cannot be written: {error.strerror}")
            say("info", text)


def say(level: str, message: str, **more: object) -> None:
    """Write a record, one line of JSON as the daemon's own are."""
    record = {"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "message": message, **more}
    sys.stderr.write(json.dumps(record) + "\n")
    sys.stderr.flush()


def shown(name: str) -> str:
    """A name for a message: control characters and half characters are written out, and a long one is cut."""
    text = ascii(name)[1:-1] if not name.isprintable() else name
    return text if len(text) <= 200 else f"{text[:200]}..."
