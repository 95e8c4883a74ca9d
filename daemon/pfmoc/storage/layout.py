"""Where a job's things are in an object store, and how its manifests are written. The daemon and the mover agree by this.

::

    key-<jid>/ticket.json          signed rights to read; made last, deleted first: without it the job is cancelled
    key-<jid>/input.json           head of the input manifest;   key-<jid>/input/00000.jsonl ...    its parts
    key-<jid>/output.json          head of the output manifest;  key-<jid>/output/00000.jsonl ...   its parts
    key-<jid>/output-1.json        the same of worker 1 and on;  key-<jid>/output-1/00000.jsonl ...
    key-<jid>/output/<attempt>/00000.jsonl ...   journal: what an attempt was about to send; the head names the last attempt
    key-<jid>/outgoing/...         the output of a job that was given no place for it
    .pfmoc/segments/<jid>/...      of outputs that are too large for one object

A manifest is JSON Lines in parts, so that nobody ever holds a million lines; its head says how many, and is written last.
Standard library only: the mover imports it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pfmoc.storage.paths import KEY_PREFIX, NAME_MAX, PATH_MAX, PRIVATE

VERSION = 1
PART_BYTES = 4 << 20
"""Bytes at which a part is closed: some 20,000 lines."""
SEGMENTS_MAX = 1000
"""Segments of one object: the most that Swift takes by default."""


@dataclass(frozen=True, slots=True)
class Places:
    """Names of one job's things."""

    jid: str

    @property
    def key(self) -> str:
        """What the names of all of them begin with, but for segments."""
        return f"{KEY_PREFIX}{self.jid}/"

    @property
    def ticket(self) -> str:
        """Of the rights to read."""
        return f"{self.key}ticket.json"

    @property
    def input(self) -> str:
        """Of the input manifest, without ``.json``: see ``head`` and ``part``."""
        return f"{self.key}input"

    def output(self, index: int = 0) -> str:
        """Of a worker's output manifest, without ``.json``."""
        return f"{self.outputs}-{index}" if index else self.outputs

    @property
    def outputs(self) -> str:
        """What the names of all output manifests begin with."""
        return f"{self.key}output"

    @property
    def outgoing(self) -> str:
        """What the names of the outputs begin with that have no other place."""
        return f"{self.key}outgoing/"

    @property
    def uploaded(self) -> str:
        """There once the outputs have been copied to another place."""
        return f"{self.key}uploaded.json"

    @property
    def segments(self) -> str:
        """What the names of segments begin with."""
        return f"{PRIVATE}/segments/{self.jid}/"


def head(manifest: str) -> str:
    """Name of a manifest's head."""
    return f"{manifest}.json"


def part(manifest: str, number: int) -> str:
    """Name of one of its parts."""
    return f"{manifest}/{number:05}.jsonl"


def unfit(path: str) -> str | None:
    """Say why an object cannot become a file of that relative path; None when it can. Reads on after its name."""
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts:
        return "has empty parts, '.' or '..' in its name"
    if "\0" in path:
        return "has a NUL in its name"
    if len(path.encode()) > PATH_MAX or any(len(each.encode()) > NAME_MAX for each in parts):
        return "has a name that is too long for a file"
    return None


class Parts:
    """Gathers lines into parts."""

    def __init__(self) -> None:
        self.count = 0
        """Parts that were handed out."""
        self._lines = bytearray()

    def add(self, line: Mapping[str, Any]) -> bytes | None:
        """Add a line. Returns the part that it has filled, if so."""
        self._lines += document(line) + b"\n"
        return self.rest() if len(self._lines) >= PART_BYTES else None

    def rest(self) -> bytes | None:
        """Return what was gathered since the last part; None when that is nothing."""
        if not self._lines:
            return None
        self.count += 1
        filled = bytes(self._lines)
        self._lines.clear()
        return filled


def lines(content: bytes) -> Iterator[dict[str, Any]]:
    """Read a part."""
    return (json.loads(line) for line in content.splitlines())


def document(value: object) -> bytes:
    """Write a head, or a line. ASCII, so that a line separator of Unicode within a name ends no line."""
    return json.dumps(value, separators=(",", ":")).encode()
