"""Fetch a job's zip to a file. A download that breaks goes on where it broke, in this run or in the next."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from pfmoc.durable import read_json, write_json
from pfmoc.workflow.patience import Patience
from pfmoc.workflow.server import SLOW_S, Reply, Server, Transient

Progress = Callable[[int, int | None], None]
"""Told how many bytes are here, and of how many where that is known."""

_PIECE = 256 << 10
_SPAN = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.ASCII)


class Download:
    """One archive on its way.

    :param path: of the file; what an earlier attempt left there is gone on with, if the server can
    :param progress: told how far it is
    """

    def __init__(self, server: Server, route: str, path: Path, *, progress: Progress) -> None:
        self._server = server
        self._route = route
        self._path = path
        self._about = path.with_name(path.name + ".json")
        self._progress = progress
        self.resumed = 0
        """Times that it went on in the middle."""

    async def run(self) -> None:
        """Fetch the archive to its end.

        :raises Refused: the server has none
        :raises LostContact: it stopped answering; what came is kept
        """
        patience = self._server.patience()
        await self._server.retried(lambda: self._attempt(patience), patience=patience)

    def discard(self) -> None:
        """Remove what came."""
        self._path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    async def _attempt(self, patience: Patience) -> Reply:
        have, tag, total = self._kept()
        headers: dict[str, str] = {}
        if have:
            headers["Range"] = f"bytes={have}-"
            if tag:
                headers["If-Range"] = tag
        async with self._server.opened("GET", self._route, headers=headers, read_s=SLOW_S) as response:
            if response.status == 416:
                return await self._outside(response, have)
            if response.status not in (200, 206):
                self._server.judge(response, await response.read(), expect=(200, 206))
            at, total = self._begins(response, have, tag, total)
            if at:
                self.resumed += 1
            with self._path.open("r+b" if at else "wb") as target:
                target.seek(at)
                await self._received(response, target, at, total, patience)
            return Reply(status=200, body=b"")

    async def _received(
        self, response: aiohttp.ClientResponse, target: BinaryIO, at: int, total: int | None, patience: Patience
    ) -> None:
        self._progress(at, total)
        async for piece in response.content.iter_chunked(_PIECE):
            target.write(piece)
            at += len(piece)
            patience.renew()
            self._progress(at, total)
        if total is not None and at != total:
            raise Transient(f"the archive ended after {at} of {total} bytes")

    def _begins(self, response: aiohttp.ClientResponse, have: int, tag: str, total: int | None) -> tuple[int, int | None]:
        """Return where the answer begins, and how long the archive is; note both for an attempt after this one."""
        span = _SPAN.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 206:
            whole = None if span is None or span[3] == "*" else int(span[3])
            same = total is None or whole is None or whole == total
            if span is None or int(span[1]) != have or not same or (tag and response.headers.get("ETag", tag) != tag):
                self.discard()
                raise Transient("the server sent another part than was asked for")
            return have, whole
        length = response.headers.get("Content-Length")
        total = int(length) if length is not None and length.isdecimal() else None
        etag = response.headers.get("ETag", "")
        strong = etag if etag.startswith('"') else ""
        # Without a tag only a server that speaks of ranges and lengths is taken at its word; checksums then tell.
        resumable = bool(strong) or (total is not None and response.headers.get("Accept-Ranges") == "bytes")
        self._path.unlink(missing_ok=True)
        write_json(self._about, {"route": self._route, "etag": strong, "total": total, "resumable": resumable})
        return 0, total

    def _kept(self) -> tuple[int, str, int | None]:
        """What an earlier attempt left: bytes, entity tag, length of the whole."""
        about: Any = None
        with suppress(ValueError):
            about = read_json(self._about)
        if not isinstance(about, dict) or not about.get("resumable") or about.get("route") != self._route:
            return 0, "", None
        try:
            return self._path.stat().st_size, str(about["etag"]), about["total"]
        except OSError:
            return 0, "", None

    async def _outside(self, response: aiohttp.ClientResponse, have: int) -> Reply:
        """Nothing lies after what is here: that is all of it, or it is of another archive."""
        await response.read()
        if response.headers.get("Content-Range") == f"bytes */{have}":
            return Reply(status=200, body=b"")
        self.discard()
        raise Transient("the server knows no such part")
