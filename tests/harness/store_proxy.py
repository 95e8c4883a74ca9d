"""A proxy between whoever uses an object store and the store, that fails in the way it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import aiohttp
from aiohttp import web
from fakes.listening import listen
from multidict import CIMultiDict
from yarl import URL

_PIECE = 64 << 10
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(kw_only=True)
class Fault:
    """What goes wrong, for requests that match, some times.

    :param path: part of the quoted path
    :param status: answer this, and do not ask the store
    :param cut: break off after so many bytes of the body; 0: after the store has done it, with no answer at all
    :param drip: after each byte of the body wait so many seconds
    :param damage: change the first byte of the body
    :param headers: set these of the answer
    """

    method: str = ""
    path: str = ""
    times: int = 1
    status: int | None = None
    cut: int | None = None
    drip: float | None = None
    damage: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def matches(self, request: web.BaseRequest) -> bool:
        return self.times > 0 and self.method in ("", request.method) and self.path in request.raw_path


class StoreProxy:
    """Forwards every request, streaming both ways. Use as an asynchronous context."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.url = ""
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str, int]] = []
        """Method, quoted path with query, and status of each request."""
        self.watch: Callable[[web.BaseRequest], None] = lambda _: None

    def fail(self, **fault: object) -> Fault:
        made = Fault(**fault)  # type: ignore[arg-type]
        self.faults.append(made)
        return made

    def count(self, method: str, path: str = "") -> int:
        return sum(1 for seen, where, _ in self.seen if seen == method and path in where)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        self._runner, self.url = await listen(self._handle)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.watch(request)
        fault = next((fault for fault in self.faults if fault.matches(request)), Fault())
        fault.times -= 1
        if fault.status is not None:
            async for _ in request.content.iter_chunked(_PIECE):
                pass
            self.seen.append((request.method, request.raw_path, fault.status))
            return web.Response(status=fault.status, headers=fault.headers)
        body = request.content if request.body_exists else None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP - {"content-length"}}
        url = URL(self.store + request.raw_path, encoded=True)
        try:
            async with self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
                self.seen.append((request.method, request.raw_path, answer.status))
                return await self._answer(request, answer, fault)
        except aiohttp.ClientConnectionError:
            self.seen.append((request.method, request.raw_path, 0))
            _reset(request)
            return web.Response(status=502)

    async def _answer(self, request: web.BaseRequest, answer: aiohttp.ClientResponse, fault: Fault) -> web.StreamResponse:
        if fault.cut == 0:
            _reset(request)
            return web.Response()
        headers = CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in _HOP)
        headers.update(fault.headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        if "Content-Length" in answer.headers:
            response.content_length = int(answer.headers["Content-Length"])
        await response.prepare(request)
        sent = 0
        async for piece in self._pieces(answer, fault):
            room = len(piece) if fault.cut is None else fault.cut - sent
            await response.write(piece[:room])
            sent += len(piece)
            if fault.cut is not None and sent >= fault.cut:
                await asyncio.sleep(0.05)  # lets what was written get out; nothing depends on it
                _reset(request)
                return response
        await response.write_eof()
        return response

    async def _pieces(self, answer: aiohttp.ClientResponse, fault: Fault) -> AsyncIterator[bytes]:
        first = True
        async for piece in answer.content.iter_chunked(1 if fault.drip else _PIECE):
            if fault.drip:
                await asyncio.sleep(fault.drip)
            if first and fault.damage:
                yield bytes([piece[0] ^ 0xFF]) + piece[1:]
            else:
                yield piece
            first = False


def _reset(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


@asynccontextmanager
async def proxied(store: str) -> AsyncIterator[StoreProxy]:
    """A proxy before the store, for the length of a block."""
    async with StoreProxy(store) as proxy:
        yield proxy
