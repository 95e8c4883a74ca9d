"""A connection to one cluster's API server: each question has a deadline, and no answer is never taken for a no."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp

from pfmoc import __version__
from pfmoc.cluster.access import Access
from pfmoc.cluster.errors import ClusterRefused, ClusterUnavailable, TooBusy, of_answer
from pfmoc.connections import Connector

CONNECTIONS = 32
"""Questions under way at once; the rest wait their turn, within their deadlines."""
STREAMS = 256
"""Watches and followed logs at once."""
PULSE_S = 10.0
"""Seconds between two questions that only ask whether the API server is there."""
PULSE_DEADLINE_S = 5.0
TOKEN_LIFE_S = 60.0
"""Seconds for which a token that was read from its file is used. Kubernetes renews one when a fifth of its hour is left."""
CLOCK_LIFE_S = 60.0
"""Seconds for which the API server's clock is taken to run as ours."""

_ERROR_MAX = 64 << 10
_PAUSE_MIN_S = 0.1


class Cluster:
    """One cluster. Entered once, within an event loop.

    :param deadline_s: seconds that the API server may take to answer a question, unless its asker says otherwise
    :param pulse_s: seconds between two looks whether it is there
    """

    def __init__(self, access: Access, *, deadline_s: float = 30.0, pulse_s: float = PULSE_S) -> None:
        self._access = access
        self._deadline_s = deadline_s
        self._pulse_s = pulse_s
        self._token = access.token
        self._token_until = float("-inf")
        self._heard = time.monotonic()
        self._silent = False
        self._clock = (time.time(), time.monotonic())
        self._clock_read = float("-inf")

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": f"pfmoc/{__version__}", "Accept": "application/json", "Accept-Encoding": "identity"}
        tls: Any = self._access.tls or True
        self._questions = aiohttp.ClientSession(
            headers=headers, connector=Connector(ssl=tls, limit=CONNECTIONS, keepalive_timeout=60)
        )
        self._streams = aiohttp.ClientSession(headers=headers, connector=Connector(ssl=tls, limit=STREAMS))
        self._pulse = asyncio.create_task(self._beat(), name="pulse of the cluster")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pulse.cancel()
        await asyncio.wait([self._pulse])
        await self._streams.close()
        await self._questions.close()

    @property
    def silent_s(self) -> float | None:
        """Seconds since the API server was last heard, once a look at it has failed; None while it is well."""
        return time.monotonic() - self._heard if self._silent else None

    @property
    def now(self) -> float:
        """Seconds since 1970 by the API server's clock, to the second. Ours may be set to anything."""
        told, at = self._clock
        return told + time.monotonic() - at

    async def request(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """Ask, and return the answer. A PATCH is a JSON merge patch.

        An answer of 429 was no answer yet: the question is asked again after the time that it names, within the deadline.

        :param path: from the root, such as ``/apis/batch/v1/namespaces/x/jobs``
        :raises ClusterUnavailable: no answer, or not now. Whether a write was done is then unknown
        :raises ClusterRefused: its subclasses tell the statuses apart
        """
        deadline_s = deadline_s or self._deadline_s
        end = time.monotonic() + deadline_s
        data = None if body is None else json.dumps(body).encode()
        while True:
            try:
                raw = await self._asked(verb, path, query=query, data=data, deadline_s=end - time.monotonic())
                answer: dict[str, Any] = json.loads(raw)
            except TooBusy as busy:
                pause = max(float(busy.retry_after), _PAUSE_MIN_S)
                if time.monotonic() + pause >= end:
                    raise
                await asyncio.sleep(pause)
            except TimeoutError:
                raise ClusterUnavailable(f"the cluster's API server did not answer within {deadline_s:g} s") from None
            except ValueError as error:
                raise ClusterUnavailable("the cluster's API server gave half an answer") from error
            else:
                return answer

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str] | None = None, deadline_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Read an answer as it comes: a watch, a log. Once it has begun, without a deadline: that is the caller's.

        :param deadline_s: seconds until it begins
        :raises ClusterUnavailable: as ``request``; or the line broke meanwhile
        :raises ClusterRefused: as ``request``
        """
        deadline_s = deadline_s or self._deadline_s
        try:
            async with asyncio.timeout(deadline_s) as patience:
                async with self._answer(self._streams, "GET", path, query=query) as response:
                    patience.reschedule(None)
                    yield response
        except TimeoutError:
            if not patience.expired():
                raise
            raise ClusterUnavailable(f"the cluster's API server did not answer within {deadline_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error

    async def _asked(
        self, verb: str, path: str, *, query: Mapping[str, str] | None, data: bytes | None, deadline_s: float
    ) -> bytes:
        try:
            async with asyncio.timeout(deadline_s):
                async with self._answer(self._questions, verb, path, query=query, data=data) as response:
                    return await response.read()
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error

    @asynccontextmanager
    async def _answer(
        self,
        session: aiohttp.ClientSession,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of less than 400. A token that was renewed before its time is read anew once."""
        for last in (False, True):
            headers = {"Authorization": f"Bearer {token}"} if (token := await self._own_token()) else {}
            if data is not None:
                headers["Content-Type"] = "application/merge-patch+json" if verb == "PATCH" else "application/json"
            async with session.request(
                verb,
                self._access.server + path,
                params=query,
                data=data,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:
                self._tell_time(response)
                if response.status < 400:
                    self._is_well()
                    yield response
                    return
                if response.status == 401 and self._access.token_file is not None and not last:
                    self._token_until = float("-inf")
                    continue
                raise self._error(response, await _beginning(response))

    def _error(self, response: aiohttp.ClientResponse, body: bytes) -> Exception:
        error = of_answer(response.status, body, retry_after=response.headers.get("Retry-After"))
        if isinstance(error, ClusterRefused | TooBusy):
            self._is_well()
        return error

    async def _own_token(self) -> str:
        path = self._access.token_file
        if path is not None and time.monotonic() >= self._token_until:
            try:
                self._token = (await asyncio.to_thread(path.read_text)).strip()
            except OSError as error:
                raise ClusterUnavailable("the token for the cluster cannot be read") from error
            self._token_until = time.monotonic() + TOKEN_LIFE_S
        return self._token

    def _tell_time(self, response: aiohttp.ClientResponse) -> None:
        if time.monotonic() - self._clock_read >= CLOCK_LIFE_S and "Date" in response.headers:
            with suppress(ValueError):
                self._clock_read = time.monotonic()
                self._clock = parsedate_to_datetime(response.headers["Date"]).timestamp(), self._clock_read

    def _is_well(self) -> None:
        self._heard = time.monotonic()
        self._silent = False

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._pulse_s)
            try:
                await self.request("GET", "/version", deadline_s=PULSE_DEADLINE_S)
            except ClusterRefused:
                pass  # an answer, for all that
            except ClusterUnavailable:
                self._silent = True


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The answer, as far as it is not longer than any error need be."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _ERROR_MAX:
            break
    return body


def _unreachable(error: Exception) -> ClusterUnavailable:
    return ClusterUnavailable(f"the cluster's API server cannot be reached: {type(error).__name__}")
