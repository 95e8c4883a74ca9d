"""HTTP for many threads: each keeps one connection, and every request is tried until it succeeds, is refused, or time is up."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple, NoReturn, Protocol
from urllib.parse import urlsplit

from pfmoc.backoff import Backoff
from pfmoc.mover.report import Failed, say

PIECE = 256 << 10
SILENCE_S = 60.0
WINDOW_BYTES = 256 << 10
"""A body of which less arrives in a ``Wire``'s window is given up: a store that drips would else hold the job for days."""
_AGAIN = frozenset({408, 409, 422, 425, 429, 498, 500, 502, 503, 504})
"""Answers that may be others next time."""
_FULL = frozenset({413, 507})
_LOUD_S = 20.0
"""Seconds between two complaints about the same trouble."""
_RETRY_AFTER_MAX_S = 30.0
_FULL_S = 5.0
"""Pause after an answer that says so: somebody has to make room."""


class Broken(Exception):
    """An attempt that failed; another may do."""

    def __init__(self, reason: str, *, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s


class Missing(Exception):
    """There is no such object."""


class Halt(Protocol):
    """Tells that the work is to stop."""

    def check(self) -> None:
        """:raises Stopped: it is"""


class Patience:
    """How long to go on without success, over all threads: what one of them achieves gives hope to the others.

    :param patience_s: since the last success
    :param until: when all must be over, on the monotonic clock
    :param unauthorized_s: how long a refusal of the rights is not believed: a proxy remembers for a minute which keys a container
        had, and without the container's servers it knows of none
    """

    def __init__(self, *, patience_s: float, until: float, halt: Halt, unauthorized_s: float = 75.0) -> None:
        self._patience_s = patience_s
        self._until = until
        self._halt = halt
        self._unauthorized_s = unauthorized_s
        self._last = time.monotonic()
        self._loud = 0.0
        self._turn = threading.Lock()

    def encourage(self) -> None:
        """Something has worked."""
        self._last = time.monotonic()

    def wait(self, broken: Broken, pause_s: float, *, unauthorized: bool) -> None:
        """Wait for the next attempt.

        :raises Failed: no time is left for one
        """
        self._halt.check()
        limit = min(self._patience_s, self._unauthorized_s) if unauthorized else self._patience_s
        now = time.monotonic()
        end = min(self._last + limit, self._until)
        if now >= end:
            raise Failed(broken.reason)
        self._complain(broken.reason, now)
        time.sleep(max(0.0, min(max(pause_s, broken.after_s), end - now)))
        self._halt.check()

    def _complain(self, reason: str, now: float) -> None:
        with self._turn:
            if now - self._loud < _LOUD_S:
                return
            self._loud = now
        say("warning", f"trying again: {reason}")


class Answer(NamedTuple):
    """A response whose body was read."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Wire:
    """Requests to one host.

    :param base: URL of the container, quoted
    :param expires: when its rights end, in seconds since 1970
    :param authorities: certificates, as PEM, that are trusted besides the system's
    :param window_s: span over which the pace of a body is looked at
    """

    def __init__(
        self, base: str, patience: Patience, *, expires: float, authorities: str | None = None, window_s: float = 30.0
    ) -> None:
        split = urlsplit(base)
        self._expires = expires
        self._window_s = window_s
        self._host, self._tls, self._path = split.netloc, split.scheme == "https", split.path
        self.patience = patience
        self._own = threading.local()
        self._context = ssl.create_default_context() if self._tls else None
        if self._context and authorities:
            self._context.load_verify_locations(cadata=authorities)
        self._open: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close all connections."""
        for connection in self._open:
            connection.close()

    def insist(self, attempt: Callable[[], Answer]) -> Answer:
        """Make attempts until one succeeds.

        :raises Failed: there was no time for more, or the store refused for good
        :raises Missing: there is no such object
        """
        pauses = Backoff(first_s=0.2, longest_s=10.0, factor=2.0).pauses()
        while True:
            try:
                answer = attempt()
                if answer.status // 100 == 2:
                    self.patience.encourage()
                    return answer
                self.refuse(answer.status, answer.headers)
            except Broken as broken:
                self.patience.wait(broken, next(pauses), unauthorized=isinstance(broken, Unauthorized))

    def call(self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a small request, until it succeeds."""

        def attempt() -> Answer:
            with self.request(method, target, headers or {}, (body,) if body else (), len(body)) as response:
                return Answer(response.status, response.headers, b"".join(self.body(response)))

        return self.insist(attempt)

    def venture(self, method: str, target: str, *, silence_s: float) -> None:
        """Send a small request once, over a connection of its own, whatever comes of it."""
        with closing(self._connect(silence_s)) as connection, suppress(OSError, http.client.HTTPException):
            connection.request(method, self._path + target)
            connection.getresponse().read()

    def refuse(self, status: int, headers: http.client.HTTPMessage) -> NoReturn:
        """Raise what an answer that is no success means: ``Broken``, ``Missing`` or ``Failed``."""
        if status == 404:
            raise Missing
        if status in (401, 403):
            if time.time() >= self._expires:
                raise Failed("the job's ticket to the store has expired")
            raise Unauthorized(
                f"the store does not honour the job's ticket ({status}): its key was changed, or its container servers are away"
            )
        if status in _AGAIN:
            after = headers.get("Retry-After", "")
            after_s = min(float(after), _RETRY_AFTER_MAX_S) if after.isdecimal() else 0.0
            raise Broken(f"the store answers {status}", after_s=after_s)
        if status in _FULL:
            raise Broken("the store is full: its quota is used up, or it has no space left", after_s=_FULL_S)
        raise Failed(f"the store refuses the request ({status})")

    @contextmanager
    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: Iterable[bytes] = (), length: int = 0
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request once. The connection is kept when the response was read to its end.

        :param target: below the base, quoted, with its query
        :raises Broken: the connection failed
        """
        connection = self._connection()
        try:
            with _network():
                connection.putrequest(method, self._path + target, skip_accept_encoding=True)
                for name, value in headers.items():
                    connection.putheader(name, value)
                if length or method in ("PUT", "POST"):
                    connection.putheader("Content-Length", str(length))
                connection.endheaders()
            for piece in body:
                if not _sent(connection, piece):
                    break
            with _network():
                response = connection.getresponse()
            with closing(response):
                yield response
                with _network():
                    if not response.isclosed() and response.read1(1):
                        connection.close()
        except BaseException:
            connection.close()
            raise

    def body(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield a body as it comes.

        :raises Broken: it comes too slowly, or ends early
        """
        since, count, left = time.monotonic(), 0, response.length
        while True:
            with _network():
                piece = response.read1(PIECE)
            if not piece:
                break
            yield piece
            count += len(piece)
            left = None if left is None else left - len(piece)
            now = time.monotonic()
            if now - since > self._window_s:
                if count < WINDOW_BYTES:
                    raise Broken("the store's data come too slowly")
                since, count = now, 0
        if left:
            raise Broken("the connection broke off")

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._connect(SILENCE_S)
            self._open.append(connection)
        return connection

    def _connect(self, silence_s: float) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection(self._host, timeout=silence_s, context=self._context)
        return http.client.HTTPConnection(self._host, timeout=silence_s)


class Unauthorized(Broken):
    """The rights are not honoured, at least not yet."""


@contextmanager
def _network() -> Iterator[None]:
    """Tell failures of the network from those of files, which are system errors as well."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"the store does not answer ({type(error).__name__})") from error


def _sent(connection: http.client.HTTPConnection, piece: bytes) -> bool:
    """Send a piece. False when the store listens no more: it has answered early, or reading its answer will tell."""
    with _network():
        try:
            connection.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True
