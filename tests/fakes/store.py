"""An object store that has whatever is asked for, and forgets what it is given: for what a real one has no room or time for."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from aiohttp import web
from fakes.listening import listen

_PIECE = bytes(1 << 20)
BROKEN = -1
"""Instead of a status: the connection breaks."""


class BottomlessStore:
    """Serves documents, and any other name as zeros of the size that its query says. Use as an asynchronous context."""

    def __init__(self, documents: Mapping[str, bytes]) -> None:
        self.documents = dict(documents)
        self.received = 0
        self.base = ""

    async def __aenter__(self) -> Self:
        self._runner, url = await listen(self._handle)
        self.base = f"{url}/v1/AUTH_x/data"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            digest = hashlib.md5(usedforsecurity=False)
            async for piece in request.content.iter_chunked(1 << 20):
                digest.update(piece)
                self.received += len(piece)
            return web.Response(status=201, headers={"ETag": digest.hexdigest()})
        name = request.path.removeprefix("/v1/AUTH_x/data/")
        if name in self.documents:
            return web.Response(body=self.documents[name])
        if "size" not in request.query:
            return web.Response(status=404)
        size = int(request.query["size"])
        response = web.StreamResponse(headers={"ETag": request.headers.get("If-Match", "")})
        response.content_length = size
        await response.prepare(request)
        for _ in range(size // len(_PIECE)):
            await response.write(_PIECE)
        await response.write(_PIECE[: size % len(_PIECE)])
        return response


class HalfDeafStore(BottomlessStore):
    """Does not answer who writes ``stalled``, puts off who writes ``busy``, and answers looks for the ticket as it is told."""

    def __init__(self, documents: Mapping[str, bytes], *, looks: Iterable[int] = ()) -> None:
        super().__init__(documents)
        self._looks = iter(looks)
        self.looked: list[int] = []
        self.release = asyncio.Event()
        """From now on it listens."""
        self.wanted: list[str] = []
        """What somebody has begun to write."""
        self.stored: list[str] = []

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        if request.method == "HEAD":
            status = next(self._looks, 0)
            self.looked.append(status)
            if status == BROKEN and request.transport:
                request.transport.close()
            return web.Response(status=max(status, 200)) if status else await super()._handle(request)
        if request.method != "PUT":
            return await super()._handle(request)
        self.wanted.append(name)
        if name == "stalled":
            await self.release.wait()
        if name == "busy" and not self.release.is_set():
            return web.Response(status=503, headers={"Retry-After": "30"})
        self.stored.append(name)
        return await super()._handle(request)


def pull_documents(count: int, size: int, *, part: int = 5000) -> dict[str, bytes]:
    """The documents of a job whose input is so many objects of such a size."""
    digest = hashlib.md5(usedforsecurity=False)
    for _ in range(size // len(_PIECE)):
        digest.update(_PIECE)
    digest.update(_PIECE[: size % len(_PIECE)])
    lines = [
        {
            "query": f"size={size}",
            "source": f"in/{number}",
            "target": f"{number // 100}/{number}",
            "size": size,
            "etag": digest.hexdigest(),
        }
        for number in range(count)
    ]
    parts = {
        f"part-{at}": b"\n".join(json.dumps(line).encode() for line in lines[at : at + part]) for at in range(0, count, part)
    }
    ticket: dict[str, Any] = {"parts": [{"name": name, "query": ""} for name in parts], "grants": []}
    return {"ticket.json": json.dumps(ticket).encode(), **parts}


def tickets(base: str, **more: Any) -> tuple[str, str]:
    """What the pods of that job are given."""
    both = {
        "version": 1,
        "kind": "swift",
        "base": base,
        "authorities": None,
        "ticket": {"name": "ticket.json", "query": ""},
        "expires": 4_000_000_000,
        "connections": 24,
    }
    publish = {
        "jid": "j",
        "root": "out/",
        "segments": ".pfmoc/segments/j/",
        "deadline_s": 600,
        "segment_above": 4 << 30,
        "segment_bytes": 1 << 30,
        "keep_s": None,
        "max_bytes": 1 << 42,
        "grants": [{"prefix": "", "query": ""}],
    }
    return json.dumps({**both, "patience_s": 60, "window_s": 30, **more}), json.dumps({**both, **publish, **more})
