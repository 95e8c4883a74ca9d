"""Routes as data, and their mounting into an application with what upstream's framework does around them (contract 1)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from pfmoc.auth import SharedToken, Tokens
from pfmoc.dialects.fields import FieldSet
from pfmoc.dialects.operations import Operation
from pfmoc.jobs.names import RESERVED

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROOT_JOB = f"{{jid:(?!(?:{'|'.join(map(re.escape, sorted(RESERVED)))})(?:/|$))[^/]+}}"
"""A job id in the place where other generations have the names of their collections."""

_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One method of one path. The path ends in a slash, as all of upstream's do."""

    method: str
    path: str
    handler: Handler
    summary: str
    form: FieldSet | None = None
    """The fields of the body, for a POST."""
    open: bool = False
    """True: no token is asked for."""
    legacy: bool = False
    """True: its clients know no login. The shared token is asked for, where there is one."""
    bare: bool = False
    """True: the path without its last slash is served as well, instead of redirected."""
    operation: Operation | None = None
    """What the API's description says of it; None leaves it out."""
    around: Callable[[Handler], Handler] | None = None
    """Goes around the handler and its guard, for a generation that has its own way of saying no."""


def mount(app: web.Application, routes: Iterable[Route], *, tokens: Tokens, shared: SharedToken) -> None:
    """Add routes, and to each path: HEAD beside GET, OPTIONS, and the redirect from the path without its last slash.

    A path that two dialects share is the first one's.
    """
    by_path: dict[str, dict[str, Route]] = defaultdict(dict)
    for route in routes:
        by_path[route.path].setdefault(route.method, route)
    for path, methods in by_path.items():
        resource = app.router.add_resource(path)
        bare = app.router.add_resource(path.removesuffix("/"))
        names = sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])})
        first = next(iter(methods.values()))
        for method in names:
            source = methods.get("GET" if method == "HEAD" else method)
            handler = source.handler if source is not None else _options(names)
            if not (source or first).open:
                handler = _guarded(handler, shared if (source or first).legacy else tokens)
            if source is not None and source.around is not None:
                handler = source.around(handler)
            resource.add_route(method, handler, expect_handler=_no_expectation)
            bare.add_route(method, handler if (source or first).bare else _add_slash, expect_handler=_no_expectation)


def _guarded(handler: Handler, guard: Tokens | SharedToken) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        guard.admit(request.headers)
        return await handler(request)

    return guarded


def _options(methods: Iterable[str]) -> Handler:
    allow = ", ".join(methods)

    async def options(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Allow": allow}, content_type="text/html")

    return options


async def _add_slash(request: web.Request) -> web.StreamResponse:
    """308, absolute, with its query; ``requests`` sends method and body again."""
    target = request.rel_url.raw_path + "/"
    if request.rel_url.raw_query_string:
        target += "?" + request.rel_url.raw_query_string
    host = request.headers.get("Host", "")
    if _HOST.fullmatch(host):
        target = f"{request.scheme}://{host}{target}"
    return web.Response(status=308, headers={"Location": target}, content_type="text/html")


async def _no_expectation(_: web.Request) -> web.StreamResponse | None:
    """``100 Continue`` is not sent here, before anybody looked at the token, but by whoever reads the body."""
    return None
