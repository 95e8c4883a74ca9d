"""One compute resource over HTTP: its token, its faults, and nothing of what is said to it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from pfmoc.backoff import Backoff
from pfmoc.workflow.patience import Patience, retry_after
from pfmoc.workflow.problems import LostContact, Refused, WorkflowError
from pfmoc.workflow.resources import Resource
from pfmoc.workflow.text import plain

_log = logging.getLogger(__name__)

CONNECT_S = 15.0
READ_S = 60.0
"""Seconds without a byte after which an answer is given up."""
SLOW_S = 1000.0
"""The same where the server works before it answers: pfcon 5 copies data meanwhile. python-pfconclient waits as long."""
TOKEN_FRESH_S = 3600.0
"""A token older than this is renewed before something large is sent with it: it lives for two days."""
_RETRIED = frozenset({408, 429, 502, 503, 504})
_TRIES_500 = 3
"""Times that a bare 500 is believed to be passing."""
_MESSAGE_CHARS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A whole answer; only small ones are read like this."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body.

        :raises ValueError: is no JSON
        """
        return json.loads(self.body)


class Transient(Exception):
    """An attempt that may be made again.

    :param pause_s: how long the server asked us to wait
    """

    def __init__(self, reason: str, *, pause_s: float | None = None, status: int = 0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        self.status = status


class TokenRefused(Transient):
    """The server does not know the token any more."""

    def __init__(self) -> None:
        super().__init__("the token was not accepted")


class Server:
    """Requests to one compute resource.

    :param resource: where it is, and who we are
    :param session: shared by all requests; follows no redirects
    :param backoff: pauses between attempts
    """

    def __init__(self, resource: Resource, session: aiohttp.ClientSession, *, backoff: Backoff) -> None:
        self.resource = resource
        self.name = resource.name
        self.backoff = backoff
        self._session = session
        self._token = ""
        self._token_at = 0.0
        self._logging_in = asyncio.Lock()

    def patience(self, seconds: float | None = None) -> Patience:
        """A deadline of the resource's own length, or a shorter one."""
        most = self.resource.entry.patience
        return Patience(most if seconds is None else min(seconds, most))

    async def call(
        self,
        method: str,
        path: str,
        *,
        expect: Collection[int] = (200,),
        query: Mapping[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        patience: Patience | None = None,
        before_retry: Callable[[], Awaitable[Reply | None]] | None = None,
        slow: bool = False,
    ) -> Reply:
        """Send a request until it is answered.

        :param expect: statuses that are an answer; any other is a refusal or, if it may pass, tried again
        :param body: makes the body anew for each attempt
        :param before_retry: asked before each further attempt; what it returns is taken for the answer
        :param slow: the body is large and the answer may take long: make sure beforehand that the token will be good
        :raises Refused: the server said no
        :raises LostContact: it did not answer while we were patient
        """
        patience = patience or self.patience()
        if slow and time.monotonic() - self._token_at > TOKEN_FRESH_S:
            self._token = ""

        async def attempt() -> Reply:
            async with self.opened(
                method, path, query=query, data=body and body(), read_s=SLOW_S if slow else READ_S
            ) as response:
                data = await response.read()
                self.judge(response, data, expect=expect)
                return Reply(status=response.status, body=data)

        return await self.retried(attempt, patience=patience, before_retry=before_retry)

    async def retried(
        self,
        attempt: Callable[[], Awaitable[Reply]],
        *,
        patience: Patience,
        before_retry: Callable[[], Awaitable[Reply | None]] | None = None,
    ) -> Reply:
        """Make attempts, with growing pauses, as long as they fail in ways that may pass and there is patience.

        :raises LostContact: there is none left
        """
        pauses = self.backoff.pauses()
        failed = tokens = bare = 0
        while True:
            try:
                if failed and before_retry is not None and (known := await before_retry()) is not None:
                    return known
                return await attempt()
            except TokenRefused:
                tokens += 1
                if tokens > 1:
                    raise Refused(f"{self.name} does not accept the token that it issued", status=401) from None
            except Transient as error:
                failed += 1
                bare += error.status == 500
                pause = error.pause_s if error.pause_s is not None else next(pauses)
                if patience.left() < pause or bare >= _TRIES_500:
                    raise LostContact(f"{self.name} does not answer as it should: {error}") from error
                _log.debug("%s: %s; again in %.1f s", self.name, error, pause)
                await asyncio.sleep(pause)

    @asynccontextmanager
    async def opened(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        read_s: float = READ_S,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One attempt. Within ``retried`` it brings a token, and a new one once should the server no longer know the old.

        :raises Transient: no answer came, or it broke off within the block
        """
        with transport_errors():
            token = await self._current_token()
            async with self._session.request(
                method,
                self.resource.url + path,
                params=query,
                data=data,
                headers={**(headers or {}), "Authorization": f"Bearer {token}"},
                **self._manner(read_s),
            ) as response:
                if response.status == 401:
                    if self._token == token:
                        self._token = ""
                    raise TokenRefused
                yield response

    def judge(self, response: aiohttp.ClientResponse, body: bytes, *, expect: Collection[int]) -> None:
        """Tell answers from faults that may pass and from refusals.

        :raises Transient: the first
        :raises Refused: the second
        """
        status = response.status
        if status in expect:
            return
        message = _message(body)
        if status in _RETRIED or status == 500:
            pause = retry_after(response.headers.get("Retry-After"))
            raise Transient(f"status {status}: {message}", pause_s=pause, status=status)
        if 300 <= status < 400:
            where = response.headers.get("Location", "elsewhere")
            message = f"the server redirects to {where}; correct its url in the resources file"
        raise Refused(f"{self.name} refused {response.method} {response.url.path}: status {status}: {message}", status=status)

    def _manner(self, read_s: float) -> dict[str, Any]:
        return {
            "ssl": self.resource.tls if self.resource.tls is not None else True,
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=read_s),
            "allow_redirects": False,
        }

    async def _current_token(self) -> str:
        """Return the token; get one first when there is none.

        :raises Refused: user or password is wrong
        """
        async with self._logging_in:
            if not self._token:
                self._token = await self._log_in()
                self._token_at = time.monotonic()
            return self._token

    async def _log_in(self) -> str:
        document = {"pfcon_user": self.resource.user, "pfcon_password": self.resource.password.get_secret_value()}
        async with self._session.post(self.resource.url + "auth-token/", json=document, **self._manner(READ_S)) as response:
            body = await response.read()
            if response.status in (400, 401, 403):
                raise Refused(
                    f"{self.name} does not accept user {self.resource.user!r} with this password: {_message(body)}",
                    status=response.status,
                )
            self.judge(response, body, expect=(200,))
        try:
            return str(json.loads(body)["token"])
        except (ValueError, KeyError, TypeError):
            raise Refused(f"{self.name} answered a login with something else than a token", status=200) from None


@contextmanager
def transport_errors() -> Iterator[None]:
    """Tell what the network did from what we did ourselves.

    :raises Transient: the connection failed, or broke
    :raises WorkflowError: what stopped us while we were sending
    """
    try:
        yield
    except aiohttp.ClientSSLError as error:
        raise Refused(f"the server cannot be trusted: {error}", status=0) from error
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, WorkflowError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise Transient(str(error) or type(error).__name__) from error


def _message(body: bytes) -> str:
    """What an error answer says, as one line."""
    try:
        document = json.loads(body)
        found = document["message"] if isinstance(document, dict) and "message" in document else document
        text = "; ".join(f"{name}: {what}" for name, what in found.items()) if isinstance(found, dict) else str(found)
    except ValueError:
        text = body.decode(errors="replace") if b"<" not in body[:200] else "no reason given"
    text = plain(" ".join(text.split()))
    return text if len(text) <= _MESSAGE_CHARS else text[:_MESSAGE_CHARS] + "..."
