"""What the engine does, one line for each resource, as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from infra.failures import explained
from infra.plan import NO_RESOURCES

VERBS = {
    "create": "created",
    "create-replacement": "created anew",
    "update": "changed",
    "delete": "deleted",
    "delete-replaced": "deleted, the old one",
    "import": "taken over",
    "refresh": "looked at",
}
"""Operations that are told; the rest changes nothing."""

Write = Callable[[str], None]


class Progress:
    """Tells operations and errors of an event stream.

    :param write: takes the lines
    :param verbose: tell also what the engine and its providers say beside
    :param clock: seconds, from anywhere
    """

    def __init__(self, write: Write, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._verbose, self._clock = write, verbose, clock
        self._began: dict[tuple[str, str], float] = {}
        self._failed: set[str] = set()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take an event."""
        if "resourcePreEvent" in event:
            metadata = event["resourcePreEvent"]["metadata"]
            self._began[metadata["urn"], metadata["op"]] = self._clock()
        elif "resOutputsEvent" in event and not event["resOutputsEvent"].get("planning"):
            self._done(event["resOutputsEvent"]["metadata"], VERBS)
        elif "resOpFailedEvent" in event:
            metadata = event["resOpFailedEvent"]["metadata"]
            self._done(metadata, {metadata["op"]: f"FAILED to {metadata['op']}"})
        elif "diagnosticEvent" in event:
            self._said(event["diagnosticEvent"])

    def _done(self, metadata: Mapping[str, Any], verbs: Mapping[str, str]) -> None:
        verb = verbs.get(metadata["op"])
        urn = metadata["urn"]
        kind = urn.split("::")[2].rpartition("$")[2]
        if not verb or kind.startswith(NO_RESOURCES) or (metadata["op"] == "refresh" and not self._verbose):
            return
        seconds = self._clock() - self._began.get((urn, metadata["op"]), self._clock())
        self._write(f"  {verb:<20} {kind.rpartition(':')[2]:<24} {urn.split('::', 3)[3]:<40} {seconds:6.1f} s")

    def _said(self, diagnostic: Mapping[str, Any]) -> None:
        severity, urn = diagnostic.get("severity"), str(diagnostic.get("urn") or "")
        text = str(diagnostic.get("message") or "").strip()
        if not text or diagnostic.get("ephemeral"):
            return
        name = urn.split("::", 3)[3] if urn.count("::") > 2 else ""
        if self._verbose:
            self._write(f"  {severity}: {name}: {text}")
        elif severity == "error" and urn not in self._failed:
            self._failed.add(urn)
            found = explained(text)
            self._write(f"  error: {name + ': ' if name else ''}{found.cause}")
        elif severity == "warning" and "::pulumi:pulumi:Stack::" not in urn:  # the program's are those of the site file
            self._write(f"  warning: {name + ': ' if name else ''}{text.splitlines()[0]}")
