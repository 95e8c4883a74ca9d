"""The listening side: sockets, connections and their deadlines. Everything here is below requests.

aiohttp closes a connection that stays idle, or does not finish the head of its request, for ``keepalive_timeout``. What it lacks
is added: a deadline for clients that do not read their answer, and answers in the daemon's own words to what is not HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from typing import Any, Self

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import LineTooLong

from pfmoc import logs
from pfmoc.errors import StartError
from pfmoc.http import INTERNAL, MALFORMED, SERVER, json_body
from pfmoc.settings import Settings

_log = logging.getLogger(__name__)
_access_log = logging.getLogger("pfmoc.access")

_BACKLOG = 4096
"""Connections that the kernel holds while the loop is busy. Linux bounds it by net.core.somaxconn, 4096 by default."""
_LINGER_S = 2.0
"""Seconds for which a client that was given up is still heard, so that it gets to read its answer."""
_IDLE_FACTOR = 1.25
"""An idle connection lives a little longer than a silent client within a request: 75 s by default, longer than the usual 60 s
of the balancers in front, so that it is they who close first."""
_READ_BYTES = 256 << 10
"""Bytes of a body that are buffered before the client is made to wait; twice this at most. What one recv() of asyncio brings:
with less, reading stops and starts at each, which costs a quarter of the throughput."""
_DESCRIPTORS = 1 << 16
"""Descriptors to ask for: six times the 10,000 idle connections that must not hurt. Not all there may be, which is a thousand
million in some containers: plugins inherit the limit, and old programs walk through it."""
_SHUTDOWN_S = 1.0
"""Seconds that handlers get to end once they are cancelled. They had their time to finish before that."""


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_deaf", "_linger_s", "_lost", "_stall", "_stall_s")

    def __init__(self, server: web.Server, *, stall_s: float, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._stall: asyncio.TimerHandle | None = None
        self._stall_s = stall_s
        self._linger_s = min(_LINGER_S, stall_s)
        self._deaf = False
        self._lost: asyncio.Future[None] = loop.create_future()

    def pause_writing(self) -> None:
        """Start the clock: the client does not take what it is sent."""
        super().pause_writing()
        self._stall = self._loop.call_later(self._stall_s, self._abort)

    def resume_writing(self) -> None:
        """Stop the clock."""
        self._calm()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser, unless there is nothing left to hear from this client."""
        if not self._deaf:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the clock, and whoever waits for the client to leave."""
        self._calm()
        if not self._lost.done():
            self._lost.set_result(None)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what never became a request. Says nothing of the cause, which may quote the client's bytes back at it."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; there is no way to take it back")
        name = logs.name_request()
        if status >= 500:
            _log.error("request failed below the routes", exc_info=exc)
            document = {"message": INTERNAL}
        else:
            status = 431 if isinstance(exc, LineTooLong) else status
            extra = {"status": status, "cause": type(exc).__name__, "detail": message, "peer": request.remote}
            _log.info("not a request", extra=extra)
            document = {"message": MALFORMED}
        self._deaf = True
        response = _LastWords(self, body=json_body(document), status=status, content_type="application/json")
        response.headers.update({"Server": SERVER, "X-Request-ID": name})
        response.force_close()
        return response

    async def linger(self) -> None:
        """Say that no more will come, and wait a little for the client to leave: closing on what it still sends would reset the
        connection, and the kernel on its side would drop the answer.
        """
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
            await asyncio.wait([self._lost], timeout=self._linger_s)

    def _abort(self) -> None:
        if self.transport is not None:
            _log.info("client does not read its answer", extra={"peer": str(self.peername), "seconds": self._stall_s})
            self.transport.abort()

    def _calm(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


class AccessLog(AbstractAccessLogger):
    """One record for each request: what was asked for, what came of it, and how long it took."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the record. The query is left out: it may hold a user's paths."""
        self.logger.info(
            "request",
            extra={
                "method": request.method,
                "path": request.rel_url.raw_path,
                "status": response.status,
                "ms": round(time * 1000, 1),
                "bytes": response.body_length,
                "peer": request.remote,
            },
        )


class _LastWords(web.Response):
    """The answer that ends a connection which is not HTTP."""

    def __init__(self, connection: Connection, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._connection = connection

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        await self._connection.linger()


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket that does not listen yet.

    :raises StartError: the address is taken, not ours, or not to be had without privileges
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Of a name's addresses the IPv4 one: whoever says localhost expects 127.0.0.1 to answer.
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"PFMOC_HOST: {host} cannot be bound: {error.strerror}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise StartError(f"PORT: cannot listen on {host}:{port}: {error.strerror}") from error
    sock.setblocking(False)  # noqa: FBT003 - the standard library has no keyword here
    return sock


def url_of(sock: socket.socket) -> str:
    """The URL of a bound socket, without a path."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Listener:
    """An application on a bound socket, as an async context.

    :param sock: owned and closed by the context
    """

    def __init__(self, app: web.Application, sock: socket.socket, *, settings: Settings) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_S)
        self._sock = sock
        self._settings = settings
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        server = self._runner.server
        if server is None:  # pragma: no cover - setup() has just made it
            raise StartError("the HTTP server did not start")
        self._server = await loop.create_server(lambda: self._connection(server, loop), sock=self._sock, backlog=_BACKLOG)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, and cancel what still runs. A second call does nothing."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._runner.cleanup()

    def _connection(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> Connection:
        return Connection(
            server,
            loop=loop,
            stall_s=self._settings.body_idle_s,
            keepalive_timeout=self._settings.body_idle_s * _IDLE_FACTOR,
            lingering_time=min(_LINGER_S, self._settings.body_idle_s),
            read_bufsize=_READ_BYTES,
            auto_decompress=False,
            access_log_class=AccessLog,
            access_log=_access_log,
            logger=_log,
        )


def raise_descriptor_limit() -> None:
    """Let the process have as many descriptors as it may: each idle connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft >= wanted:
        return
    with contextlib.suppress(ValueError, OSError):  # a container may forbid it; then the soft limit stands
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
