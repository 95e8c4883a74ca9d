"""The daemon put together: everything long-lived, entered in order and left in reverse."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from types import TracebackType
from typing import Self

from aiohttp import web

from pfmoc import __version__, logs, openapi
from pfmoc.auth import Logins, SharedToken, Tokens
from pfmoc.body import Body
from pfmoc.compute.base import Compute
from pfmoc.compute.registry import open_compute
from pfmoc.coordination.coordination import Coordination
from pfmoc.dialects.base import BODY, PREFIX, Dialect, Services
from pfmoc.dialects.registry import speakers
from pfmoc.dialects.routes import Handler, Route, mount
from pfmoc.errors import StartError
from pfmoc.health import Health, State
from pfmoc.http import SERVER, answered, unavailable
from pfmoc.jobs.board import Board
from pfmoc.jobs.service import Jobs
from pfmoc.listeners import Endpoint
from pfmoc.metrics import Metrics
from pfmoc.server import Listener, bind, raise_descriptor_limit, url_of
from pfmoc.settings import Settings
from pfmoc.spool import Spool
from pfmoc.staged import open_staged
from pfmoc.storage.base import Storage
from pfmoc.storage.registry import open_placed, open_storage

_log = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_READS = frozenset({"GET", "HEAD"})
_FAREWELL_S = 3.0
"""Seconds before the end of the draining, at which requests in flight are told to come again."""
_CLIENT_GONE = 499
"""What nginx logs for a client that did not wait; nobody receives it."""


class Daemon:
    """One daemon. As an async context it serves; ``drain`` before leaving it lets requests in flight finish.

    :param storage: instead of the one that the settings name
    :param compute: instead of the one that the settings name
    :param board: instead of the one that goes with the compute environment
    """

    def __init__(
        self,
        settings: Settings,
        *,
        storage: Storage | None = None,
        compute: Compute | None = None,
        board: Board | None = None,
    ) -> None:
        self.settings = settings
        self.health = Health()
        self.metrics = Metrics()
        self.storage = storage or (open_staged if settings.staged else open_storage)(settings)
        self.compute = compute or open_compute(settings)
        objects = self.storage.objects
        self.jobs = Jobs(
            settings=settings,
            storage=self.storage,
            compute=self.compute,
            placed=None if objects else open_placed(settings),
            board=board,
        )
        self.spool = Spool(settings.state_dir if objects else settings.storebase_mount)
        self.coordination = Coordination(settings=settings, jobs=self.jobs, spool=self.spool)
        self.url = ""
        """Where the main port listens, without a path; known once the context is entered."""
        self.urls: Sequence[str] = ()
        """Of every endpoint of the settings, in their order; the main port is the first."""
        self._draining = asyncio.Event()
        self._bodies: set[Body] = set()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start. The ports are taken first: two daemons on one state directory then fail before they touch it.

        :raises StartError: with the cause, for the operator
        """
        async with AsyncExitStack() as stack:
            endpoints = self.settings.endpoints
            socks = [stack.enter_context(closing(bind(endpoint.host, endpoint.port))) for endpoint in endpoints]
            stack.push_async_callback(self.health.close)
            stack.push_async_callback(self.storage.close)
            await stack.enter_async_context(self.metrics.measured_loop())
            listeners = [
                await stack.enter_async_context(Listener(app, sock, settings=self.settings))
                for app, sock in zip(self._applications(endpoints), socks, strict=True)
            ]
            left = await asyncio.to_thread(self.spool.clear)
            stack.push_async_callback(self.storage.close)
            await stack.enter_async_context(self.compute)
            await stack.enter_async_context(self.jobs)
            await stack.enter_async_context(self.coordination)
            for listener in listeners:
                stack.push_async_callback(listener.close)  # leaving, requests end before what they use does
            stack.callback(self.health.drain)
            self._stack = stack.pop_all()
        self.urls = [url_of(sock) for sock in socks]
        self.url = self.urls[0]
        self.health.serve(self.jobs.probe, age=lambda: self.jobs.age_s)
        _log.info(
            "listening",
            extra={
                "url": self.url,
                "version": __version__,
                "dialects": self.settings.dialects,
                "listeners": {url: each.dialects for url, each in zip(self.urls[1:], self.settings.listeners, strict=True)},
                "storage_env": self.storage.env,
                "container_env": self.compute.env,
                "abandoned_uploads": left,
            },
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()
        _log.info("stopped")

    async def drain(self) -> None:
        """Take no more work, and wait until what is in flight is done, or ``drain_s`` are over.

        Shortly before that, requests that still send or wait are told to come again.
        """
        self.health.drain()
        self._draining.set()
        _log.info("draining", extra={"in_flight": self._in_flight, "seconds": self.settings.drain_s})
        farewell_s = min(_FAREWELL_S, self.settings.drain_s / 2)
        if await self._idle_within(self.settings.drain_s - farewell_s):
            return
        _log.warning("requests are told to come again", extra={"in_flight": self._in_flight})
        for body in list(self._bodies):
            body.cut()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.jobs.give_up())
            idle = group.create_task(self._idle_within(farewell_s))
        if not idle.result():
            _log.warning("requests are cut off", extra={"in_flight": self._in_flight})

    async def _idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    # The application

    def _applications(self, endpoints: Sequence[Endpoint]) -> list[web.Application]:
        """One for each endpoint. What looks after the daemon itself is on the main port only."""
        services = self._services()
        tokens = services.tokens
        shared = SharedToken(self.settings.legacy_token.get_secret_value())
        apps = []
        for endpoint in endpoints:
            app = web.Application(middlewares=[self._gate])
            app.on_response_prepare.append(self._sign)
            dialects = speakers(endpoint, services)
            mount(app, (route for dialect in dialects for route in dialect.routes()), tokens=tokens, shared=shared)
            if described := _described(dialects):
                app.router.add_get(f"{PREFIX}/openapi.json", openapi.answering(openapi.describe(described)))
            apps.append(app)
        apps[0].router.add_get("/livez", self.health.live)
        apps[0].router.add_get("/readyz", self.health.ready)
        apps[0].router.add_get("/metrics", self._show_metrics)
        self.metrics.count_jobs(self._count_jobs)
        self.metrics.show_age(lambda: self.jobs.age_s)
        return apps

    def describe(self) -> openapi.Document:
        """The API's description, of what is described at the main port. The daemon need not have been entered."""
        return openapi.describe(_described(speakers(self.settings.endpoints[0], self._services())))

    def _services(self) -> Services:
        tokens = Tokens(self.settings)
        return Services(
            settings=self.settings,
            jobs=self.jobs,
            tokens=tokens,
            logins=Logins(self.settings, tokens, failed=self._login_failed),
            spool=self.spool,
            coordination=self.coordination,
            draining=self._draining,
        )

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What every request passes: its id, the daemon's state, errors, metrics, and the end of its body."""
        logs.name_request(request.headers.get("X-Request-ID", ""))
        body = request[BODY] = Body(
            request,
            limit=self.settings.max_upload_bytes,
            idle_s=self.settings.body_idle_s,
            count=self.metrics.received.inc,
        )
        started = time.monotonic()
        self._bodies.add(body)
        try:
            response = await self._respond(request, handler)
            if body.unread:
                await _send_and_drain(request, response, body)
        except ConnectionError:
            response = web.Response(status=_CLIENT_GONE)
        finally:
            self._bodies.discard(body)
        self._measure(request, response, time.monotonic() - started)
        return response

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in ("/livez", "/readyz", "/metrics"):
            return await answered(request, handler)
        if self.health.state is not State.SERVING:
            response = unavailable(f"The server is {self.health.state}.", retry_after=5)
            response.force_close()
            return response
        self._enter()
        try:
            return await answered(request, handler)
        finally:
            self._leave()

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()
        self.metrics.in_flight.set(self._in_flight)

    def _leave(self) -> None:
        self._in_flight -= 1
        self.metrics.in_flight.set(self._in_flight)
        if not self._in_flight:
            self._idle.set()

    def _measure(self, request: web.Request, response: web.StreamResponse, seconds: float) -> None:
        method = request.method if request.method in _METHODS else "other"
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "none"
        self.metrics.requests.labels(method, route, str(response.status)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)
        if isinstance(response, web.Response):
            self.metrics.sent.inc(response.content_length or 0)
        else:
            self.metrics.sent.inc(response.body_length)

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Name the request, so that a client can quote it, but not the versions of the libraries that the daemon is made of.

        What is read while the cluster is not heard of says how old it is.
        """
        response.headers["Server"] = SERVER
        request_id = logs.request_id.get()
        if request_id is not None:
            response.headers["X-Request-ID"] = request_id
        age = self.jobs.age_s if request.method in _READS and request.path.startswith(f"{PREFIX}/") else None
        if age is not None and self.health.state is not State.STARTING:
            response.headers["Age"] = f"{age:.0f}"

    async def _show_metrics(self, _: web.Request) -> web.StreamResponse:
        return self.metrics.page()

    def _login_failed(self, reason: str) -> None:
        self.metrics.login_failures.labels(reason).inc()

    def _count_jobs(self) -> Mapping[tuple[str, str], int]:
        return Counter((job.kind.value, job.phase.value) for job in self.jobs.board.live())


def _described(dialects: Sequence[Dialect]) -> dict[str, Sequence[Route]]:
    return {dialect.tag: dialect.routes() for dialect in dialects if dialect.tag}


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then drain, and return. A second signal cuts the draining short.

    :raises StartError: with the cause, for the operator
    """
    raise_descriptor_limit()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = asyncio.current_task()
    if task is None:  # pragma: no cover - asyncio.run() made one
        raise StartError("serve() needs a task")
    try:
        _on_signals(loop, task.cancel)
        async with Daemon(settings) as daemon:
            _on_signals(loop, stop.set)
            await stop.wait()
            _on_signals(loop, task.cancel)
            await daemon.drain()
    except asyncio.CancelledError:
        _log.info("cut short by a signal")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _on_signals(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, action)


async def _send_and_drain(request: web.Request, response: web.StreamResponse, body: Body) -> None:
    """Answer at once, and go on reading: ``requests`` sends a whole zip before it looks for the 401 (contract 8.4)."""
    if not body.draining:
        response.force_close()
        return
    await response.prepare(request)
    await response.write_eof()
    await body.drain()
