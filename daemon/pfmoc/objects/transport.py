"""Requests to an object store over aiohttp: bounded, retried, and resumed where they broke."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from pfmoc.backoff import Backoff
from pfmoc.connections import Connector
from pfmoc.errors import NoSuchData, PfmocError, StorageFull, StorageUnavailable

AGAIN = frozenset({408, 409, 422, 425, 429, 498, 500, 502, 503, 504})
"""Answers after which the same request may succeed. 422: a body did not arrive as it was sent; 409 comes of two writers."""
FULL = frozenset({413, 507})
_PIECE = 256 << 10
_RETRY_AFTER_MAX_S = 30.0
_DAMAGED = "its data arrived damaged"


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long an object store is waited for."""

    attempts: int = 6
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.3, longest_s=8.0, factor=2.0))
    connect_s: float = 10.0
    silence_s: float = 60.0
    """Seconds without a byte after which a connection counts as dead."""
    window_s: float = 30.0
    """The span over which the pace of a body is looked at ..."""
    window_bytes: int = 256 << 10
    """... and the least that must come in it; a store that drips would else hold a job for days."""

    def pauses(self) -> Iterator[float]:
        """Yield one pause for each attempt but the first."""
        pauses = self.backoff.pauses()
        return (next(pauses) for _ in range(self.attempts - 1))


class Answer(NamedTuple):
    """A response, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """:raises StorageUnavailable: it is no JSON, so somebody else answered"""
        try:
            return json.loads(self.body)
        except ValueError:
            raise StorageUnavailable("Storage is unavailable: its answer is no JSON") from None


class Broken(Exception):
    """A connection or body that ended early, an answer that may be another next time."""

    def __init__(self, reason: str, *, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s


class Request(NamedTuple):
    """What is asked, before it is signed."""

    method: str
    path: str
    """Below the account or endpoint, quoted; ``""`` for that itself."""
    query: Mapping[str, str] = MappingProxyType({})
    headers: Mapping[str, str] = MappingProxyType({})


class Signature(ABC):
    """What makes a request one that the store accepts."""

    @abstractmethod
    async def signed(self, request: Request) -> tuple[URL, dict[str, str]]:
        """Return address and headers."""

    async def renew(self, headers: Mapping[str, str]) -> bool:  # noqa: ARG002 - a signature has nothing to renew
        """Sign in anew, when the store refused these headers. False: there is nothing to be renewed."""
        return False


class Unsigned(Signature):
    """Requests that say all in themselves: a login, or an address with a signature. ``path`` is the whole address."""

    async def signed(self, request: Request) -> tuple[URL, dict[str, str]]:
        """Return what was given."""
        return URL(request.path, encoded=True), dict(request.headers)


class Transport:
    """The connections to one store.

    :param connections: at once, over all jobs
    :param trust: whose certificates count; the system's by default
    """

    def __init__(
        self,
        signature: Signature,
        *,
        patience: Patience | None = None,
        connections: int = 64,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self._signature = signature
        self._connections = connections
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        fine: frozenset[int] = frozenset(),
        limit: int | None = None,
    ) -> Answer:
        """Ask, and return an answer of 2xx, or of a status that is fine.

        :param limit: bytes of the body that are read; the rest is left
        """
        request = Request(method, path, query or {}, headers or {})
        attempts = _Attempts(self._signature, self.patience, fine)
        while True:
            url, sent = await self._signature.signed(request)
            try:
                answer = await self._once(method, url, sent, body, limit)
                if not await attempts.repeat(answer.status, answer.headers, sent):
                    return answer
            except Broken as broken:
                await attempts.pause(broken)

    async def _once(self, method: str, url: URL, headers: dict[str, str], body: bytes | None, limit: int | None) -> Answer:
        async with self._request(method, url, headers, body) as response, aclosing(self._paced(response)) as pieces:
            whole = bytearray()
            if limit != 0:
                async for piece in pieces:
                    whole += piece
                    if limit is not None and len(whole) >= limit:
                        break
                else:
                    if method == "GET" and _damaged(response.headers, hashlib.md5(whole, usedforsecurity=False).hexdigest()):
                        raise Broken(_DAMAGED)
            return Answer(response.status, response.headers, bytes(whole[:limit]))

    async def stream(self, path: str, *, etag: str | None = None) -> AsyncGenerator[bytes]:
        """Yield a body as it comes. After a break it goes on from there, if the object is still the same.

        :param etag: of the object that is meant
        :raises StorageUnavailable: in the end, when what was yielded is not what the store has
        """
        at = 0
        digest = hashlib.md5(usedforsecurity=False)
        attempts = _Attempts(self._signature, self.patience, frozenset({412}))
        while True:
            headers = {"if-match": f'"{etag}"'} if etag else {}
            if at:
                headers["range"] = f"bytes={at}-"
            url, sent = await self._signature.signed(Request("GET", path, headers=headers))
            try:
                async with self._request("GET", url, sent, None) as response:
                    if await attempts.repeat(response.status, response.headers, sent):
                        continue
                    if response.status == 412 or (at and response.status != 206):
                        raise NoSuchData("The data in storage have changed meanwhile")
                    etag = etag or response.headers.get("ETag", "").strip('"') or None
                    async with aclosing(self._paced(response)) as pieces:
                        async for piece in pieces:
                            at += len(piece)
                            digest.update(piece)
                            yield piece
                    if _damaged(response.headers, digest.hexdigest()):
                        raise StorageUnavailable(f"Storage is unavailable: {_DAMAGED}")
                    return
            except Broken as broken:
                await attempts.pause(broken)

    async def _paced(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """Yield a body, as long as it comes fast enough. Only waiting for the store counts, not what is done with the pieces."""
        loop = asyncio.get_running_loop()
        waited, count = 0.0, 0
        while True:
            before = loop.time()
            piece = await response.content.read(_PIECE)
            if not piece:
                return
            waited += loop.time() - before
            count += len(piece)
            if waited > self.patience.window_s:
                if count < self.patience.window_bytes:
                    raise Broken("its data come too slowly")
                waited, count = 0.0, 0
            yield piece

    @asynccontextmanager
    async def _request(
        self, method: str, url: URL, headers: dict[str, str], body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            data = None if body is None else io.BytesIO(body)
            async with self._open().request(method, url, headers=headers, data=data, allow_redirects=False) as response:
                yield response
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, aiohttp.ServerTimeoutError) as error:
            raise Broken("the connection broke off" if _began(error) else "it does not answer") from error
        except aiohttp.ClientError as error:
            raise StorageUnavailable(f"Storage is unavailable: {type(error).__name__}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=Connector(limit=self._connections, ssl=self._trust or True),
                timeout=aiohttp.ClientTimeout(sock_connect=self.patience.connect_s, sock_read=self.patience.silence_s),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers={"Content-Type"},
                read_bufsize=_PIECE,
            )
        return self._session


class _Attempts:
    """One request's attempts: when to try again, and after how long."""

    def __init__(self, signature: Signature, patience: Patience, fine: frozenset[int]) -> None:
        self._signature = signature
        self._pauses = patience.pauses()
        self._fine = fine
        self._renewed = False

    async def repeat(self, status: int, headers: Mapping[str, str], sent: Mapping[str, str]) -> bool:
        """True when the request is to be sent once more at once, with a new token; False when the answer is one to go on with.

        :raises Broken: another attempt may do
        :raises PfmocError: no attempt will
        """
        if status // 100 == 2 or status in self._fine:
            return False
        if status == 401 and not self._renewed and await self._signature.renew(sent):
            self._renewed = True
            return True
        if status in AGAIN:
            raise Broken(f"it answered {status}", after_s=retry_after(headers))
        raise refusal(status)

    async def pause(self, broken: Broken) -> None:
        """Wait for the next attempt.

        :raises StorageUnavailable: it was the last
        """
        for pause in self._pauses:
            await asyncio.sleep(max(pause, broken.after_s))
            return
        raise StorageUnavailable(f"Storage is unavailable: {broken.reason}") from broken


def _damaged(headers: Mapping[str, str], digest: str) -> bool:
    """True when a whole body has another digest than the store tells. The tag of a large or an encrypted object is none."""
    large = "X-Static-Large-Object" in headers or "X-Object-Manifest" in headers
    encrypted = "aws:kms" in headers.get("x-amz-server-side-encryption", "")
    etag = headers.get("ETag", "").strip('"')
    return len(etag) == len(digest) and etag != digest and not large and not encrypted


def _began(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionResetError)


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that the store asks for, as far as it may."""
    text = headers.get("Retry-After", "")
    return min(float(text), _RETRY_AFTER_MAX_S) if text.isdecimal() else 0.0


def refusal(status: int) -> PfmocError:
    """Return the error for an answer that no attempt will change."""
    if status == 404:
        return NoSuchData("No such data in storage")
    if status in FULL:
        return StorageFull("Storage is full: the quota is used up, or there is no space left")
    if status in (401, 403):
        return StorageUnavailable(f"Storage is unavailable: it refuses this server's credentials ({status})")
    return StorageUnavailable(f"Storage is unavailable: it refused the request ({status})")
