"""The body of a request: read in chunks, under a cap and a deadline, and drained when nobody wanted it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from pfmoc.http import TOO_LARGE, Refusal, malformed

CHUNK_BYTES = 64 << 10
"""Most bytes handed out at once. Parsing as much takes 3 ms at worst (small multipart fields), and then the loop turns."""
_FLOOR_BYTES_PER_S = 1024
"""A client slower than this is no slow link but one that holds a connection open on purpose."""
_LINGER_S = 2.0
"""Seconds for which more is read and forgotten from a client that was told to come again: it may send first and read then."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Body:
    """The body of one request.

    :param limit: most bytes that are read
    :param idle_s: seconds in which the client must send a minimum, ``idle_s`` times 1 KiB, or the rest of the body
    :param count: told of every chunk's size, for the metrics
    """

    def __init__(self, request: web.Request, *, limit: int, idle_s: float, count: Callable[[int], object]) -> None:
        self._request = request
        self._limit = limit
        self._idle_s = idle_s
        self._count = count
        self._taken = 0
        self._given_up = False
        self._cut = False
        self._linger_until = float("inf")
        self._patience: asyncio.Timeout | None = None
        self._expects = request.headers.get("Expect", "").lower() == "100-continue"

    @property
    def unread(self) -> bool:
        """True while the client has not sent all of it. What it sent is ours to forget."""
        return not self._request.content.is_eof()

    @property
    def draining(self) -> bool:
        """False for a client that still waits for leave to send, and for one that was given up: their connection is closed."""
        return not (self._expects or self._given_up)

    def cut(self) -> None:
        """Stop waiting for the client: it is to come again when this server, or its successor, is there."""
        if self._cut:
            return
        self._cut = True
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the rest of the body. A client that waits for leave to send gets it with the first chunk that is asked for.

        :raises Refusal: 413 over the limit, 408 when the client is too slow, 400 when the transfer is broken, 503 after ``cut``
        :raises ConnectionError: the client is gone
        """
        if (self._request.content_length or 0) > self._limit:
            raise self._refusal(413, TOO_LARGE)
        await self._continue()
        clock = asyncio.get_running_loop().time
        quota = int(_FLOOR_BYTES_PER_S * self._idle_s)
        received, since = 0, clock()
        while True:
            chunk = await self._read(since + self._idle_s)
            if not chunk:
                return
            self._taken += len(chunk)
            self._count(len(chunk))
            if self._taken > self._limit:
                raise self._refusal(413, TOO_LARGE)
            received += len(chunk)
            handed = clock()
            yield chunk
            since += clock() - handed  # the time that the server itself takes is not the client's
            if received >= quota:
                received, since = 0, clock()

    async def read(self, limit: int) -> bytes:
        """Return the whole rest of the body, for bodies that are small by their nature.

        :raises Refusal: as ``chunks`` does; 413 over ``limit``
        """
        data = bytearray()
        async for chunk in self.chunks():
            data += chunk
            if len(data) > limit:
                raise Refusal(413, TOO_LARGE)
        return bytes(data)

    async def drain(self) -> None:
        """Read what is left and forget it, so that a client which sends first and reads then gets to read its answer."""
        try:
            async for _ in self.chunks():
                pass
        except (Refusal, ConnectionError):
            self._given_up = True

    async def _read(self, deadline: float) -> bytes:
        loop = asyncio.get_running_loop()
        lingering = self._linger_until < float("inf")
        if self._cut and not lingering:
            deadline = loop.time()
        try:
            async with asyncio.timeout_at(min(deadline, self._linger_until)) as self._patience:
                return await self._request.content.read(CHUNK_BYTES)
        except TimeoutError:
            if self._cut and not lingering:
                self._linger_until = loop.time() + _LINGER_S
                headers = {"Retry-After": "5", "Connection": "close"}
                raise Refusal(503, "The server stops before the request has arrived. Try again.", headers=headers) from None
            raise self._refusal(408, "The request body did not arrive in time.") from None
        except RequestPayloadError as error:
            self._given_up = True
            raise malformed(f"transfer: {error}") from error
        finally:
            self._patience = None

    async def _continue(self) -> None:
        if self._expects:
            self._expects = False
            await self._request.writer.write(_CONTINUE)
            self._request.writer.output_size = 0  # this was no part of the answer

    def _refusal(self, status: int, message: str) -> Refusal:
        self._given_up = True
        return Refusal(status, message, headers={"Connection": "close"})
