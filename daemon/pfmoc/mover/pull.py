"""Pull a job's input from the store into a directory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pfmoc.backoff import Backoff
from pfmoc.mover.crew import Crew
from pfmoc.mover.report import Failed, Report, shown
from pfmoc.mover.ticket import PullTicket
from pfmoc.mover.wire import Broken, Missing, Patience, Unauthorized, Wire
from pfmoc.storage import layout
from pfmoc.storage.trees import make_directories
from pfmoc.storage.workers import Stop

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_HOPE = 1 << 20
"""Bytes that show that the store works, if slowly."""
_CHANGED_TRIES = 4
"""A listing may lag behind the object for a moment; one that stays another has been changed."""


class Item(NamedTuple):
    """A file to be."""

    address: str
    """Below the base, with its query."""
    source: str
    target: str
    size: int
    etag: str


def pull(ticket: PullTicket, into: Path, report: Report, *, stop: Stop) -> None:
    """Pull everything.

    :raises Failed: something is not there, not what it was, or cannot be had; what was pulled stays, and no plugin will see it
    """
    patience = Patience(patience_s=ticket.patience_s, until=time.monotonic() + 1e9, halt=stop)
    wire = Wire(ticket.base, patience, expires=ticket.expires, authorities=ticket.authorities, window_s=ticket.window_s)
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        pulling = _Pulling(wire, root, report)
        Crew(ticket.connections, pulling.fetch, stop=stop).run(pulling.items(ticket.target))
    except Missing:
        raise Failed("the job was cancelled, or its input manifest is gone") from None
    finally:
        os.close(root)
        wire.close()


class _Pulling:
    def __init__(self, wire: Wire, root: int, report: Report) -> None:
        self._wire = wire
        self._root = root
        self._report = report
        self._turn = threading.Lock()

    def items(self, ticket: str) -> Iterator[Item]:
        rights = json.loads(self._wire.call("GET", ticket).body)
        for part in rights["parts"]:
            target = f"/{quote(part['name'])}?{part['query']}"
            for line in layout.lines(self._wire.call("GET", target).body):
                yield _item(line, rights["grants"])

    def fetch(self, item: Item) -> None:
        try:
            self._fetch(item)
        except Missing:
            raise Failed(f"{shown(item.source)} vanished from the store before it was pulled") from None
        except OSError as error:
            raise Failed(_of_disk(error, item.target)) from error
        with self._turn:
            self._report.files += 1
            self._report.bytes += item.size

    def _fetch(self, item: Item) -> None:
        make_directories(self._root, item.target.rpartition("/")[0])
        file = os.open(item.target, _NEW, 0o644, dir_fd=self._root)
        try:
            os.fchmod(file, 0o644)  # the plugin may be another user
            _Fetch(self._wire, item, file).run()
        finally:
            os.close(file)


class _Fetch:
    """One object on its way. After a break it goes on where it was, as long as it is still the same object."""

    def __init__(self, wire: Wire, item: Item, file: int) -> None:
        self._wire = wire
        self._item = item
        self._file = file
        self._changed = 0
        self._restart()

    def _restart(self) -> None:
        self._at = self._hopeful = 0
        self._digest = hashlib.md5(usedforsecurity=False)
        os.ftruncate(self._file, 0)

    def run(self) -> None:
        pauses = Backoff(first_s=0.2, longest_s=10.0, factor=2.0).pauses()
        while True:
            try:
                self._attempt()
            except Broken as broken:
                self._wire.patience.wait(broken, next(pauses), unauthorized=isinstance(broken, Unauthorized))
            else:
                self._wire.patience.encourage()
                return

    def _attempt(self) -> None:
        item = self._item
        # A dynamic large object is listed with no bytes and the digest of nothing.
        headers = {"If-Match": f'"{item.etag}"'} if item.size else {}
        if self._at:
            headers["Range"] = f"bytes={self._at}-"
        with self._wire.request("GET", item.address, headers) as response:
            if response.status == 412:
                self._other("it is another by now")
            if response.status not in (200, 206):
                self._wire.refuse(response.status, response.headers)
            if self._at and response.status != 206:
                self._restart()
            segmented = "X-Static-Large-Object" in response.headers or "X-Object-Manifest" in response.headers
            encrypted = "aws:kms" in response.headers.get("x-amz-server-side-encryption", "")
            etag = response.headers.get("ETag", "").strip('"')
            for piece in self._wire.body(response):
                _write(self._file, piece, self._at)
                self._digest.update(piece)
                self._at += len(piece)
                if self._at - self._hopeful >= _HOPE:
                    self._wire.patience.encourage()
                    self._hopeful = self._at
            dynamic = "X-Object-Manifest" in response.headers
        if self._at != item.size and not dynamic:
            self._other(f"it has {self._at} bytes, and had {item.size}")
        if not segmented and not encrypted and _is_md5(etag) and self._digest.hexdigest() != etag:
            self._restart()
            raise Broken(f"{shown(item.source)} arrived damaged: its digest is not the store's")

    def _other(self, reason: str) -> None:
        self._restart()
        self._changed += 1
        if self._changed >= _CHANGED_TRIES:
            raise Failed(f"{shown(self._item.source)} changed after the job was staged: {reason}")
        raise Broken(f"{shown(self._item.source)} changed after the job was staged: {reason}")


def _item(line: dict[str, Any], grants: list[str]) -> Item:
    query = line["query"] if "query" in line else grants[line["grant"]]
    if reason := layout.unfit(line["target"]):  # the daemon has checked it; this is the last line
        raise Failed(f"{shown(line['source'])} {reason}")
    return Item(f"/{quote(line['source'])}?{query}", line["source"], line["target"], line["size"], line["etag"])


def _is_md5(etag: str) -> bool:
    return len(etag) == 32 and "-" not in etag


def _write(file: int, piece: bytes, at: int) -> None:
    view = memoryview(piece)
    while view:
        done = os.pwrite(file, view, at)
        view, at = view[done:], at + done


def _of_disk(error: OSError, target: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the pod's disk is full: the input needs more ephemeral storage than the job's limit"
    return f"{shown(target)} cannot be written: {error.strerror}"
