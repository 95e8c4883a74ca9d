"""A small API server with fault switches: objects by path, listings in pages, watches. Driven over HTTP like the real one.

::

    async with ApiServer() as server, Cluster(server.access) as cluster:
        server.create("/api/v1/namespaces/x/pods", {"metadata": {"name": "a"}})
        server.frozen = True             # no answer, and no event, until it is False again
        server.answers = [(429, "1")]    # status and Retry-After of the next answers
        server.refuses = {("POST", "/jobs"): (403, "Forbidden")}    # by method and end of the path, until it is taken away
        await server.stop()              # ... and start() again, at the same address
        server.forget_history()          # every older resource version is 410 Gone
        server.cut_watches()             # ... within an object
        server.mute_watches = True       # watches stay open and say nothing, not even at their end
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from fakes.listening import Freezable

from pfmoc.cluster.access import Access

Thing = dict[str, Any]


class ApiServer(Freezable):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 100
        self.things: dict[str, dict[str, Thing]] = {}
        self.history: list[tuple[int, str, str, Thing]] = []
        """Version, path, type and object of every event."""
        self.oldest = 0
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        """Method, path and query of everything that was asked."""
        self.repeats = 1
        """How often each event is sent."""
        self.answers: list[tuple[int, str]] = []
        self.refuses: dict[tuple[str, str], tuple[int, str]] = {}
        self.loses_answers = False
        """Writes are done, and the line is cut before the answer."""
        self.proxy_says: int | None = None
        """Status with which something that is not an API server answers instead."""
        self.token = ""
        """What a bearer token must be; empty for any."""
        self.watching = 0
        self._port = 0
        self._news = asyncio.Event()
        self._cut = 0
        self._unmuted = asyncio.Event()
        self._unmuted.set()

    @property
    def mute_watches(self) -> bool:
        """True: watches stay open and say nothing, not even at their end."""
        return not self._unmuted.is_set()

    @mute_watches.setter
    def mute_watches(self, value: bool) -> None:
        self._unmuted.clear() if value else self._unmuted.set()

    async def __aenter__(self) -> Self:
        await self.start()
        host, port = self._runner.addresses[0][:2]
        self.access = Access(server=f"http://{host}:{port}", namespace="x", tls=None)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serve; where it has served before, if it has."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Serve nothing any more; what was made is kept."""
        self.frozen = False
        self._tell()
        await self._runner.cleanup()

    # What a test does.

    def create(self, path: str, thing: Thing) -> Thing:
        """Put an object there, new or in place of another."""
        name = thing["metadata"]["name"]
        there = self.things.setdefault(path, {})
        kind = "MODIFIED" if name in there else "ADDED"
        self.version += 1
        metadata = {
            "uid": there[name]["metadata"]["uid"] if name in there else f"uid-{self.version}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "namespace": "x",
            **thing["metadata"],
            "resourceVersion": str(self.version),
        }
        there[name] = {**thing, "metadata": metadata}
        self._note(path, kind, there[name])
        return there[name]

    def delete(self, path: str, name: str) -> None:
        """Take an object away."""
        thing = self.things[path].pop(name)
        self.version += 1
        self._note(path, "DELETED", {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(self.version)}})

    def send(self, path: str, kind: str, thing: Thing) -> None:
        """Send an event about nothing that has happened."""
        self.history.append((self.version, path, kind, thing))
        self._tell()

    def forget_history(self) -> None:
        """Make every version before now too old."""
        self.oldest = self.version
        self.history.clear()
        self.cut_watches()

    def cut_watches(self) -> None:
        """Cut every watch off, within an object."""
        self._cut += 1
        self._tell()

    def asked(self, *, watch: bool, path: str = "") -> int:
        """How many watches, or listings and other reads, were asked for."""
        return sum(
            1
            for method, asked, query in self.requests
            if method == "GET" and path in asked and (query.get("watch") == "true") is watch and asked != "/version"
        )

    # What it answers.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query)))
        await self._thawed.wait()
        instead = self._instead(request)
        if instead is not None:
            return instead
        if request.query.get("watch") == "true":
            return await self._watch(request)
        answer = await self._plain(request)
        if self.loses_answers and request.method != "GET" and request.transport is not None:
            request.transport.abort()
        return answer

    def _instead(self, request: web.Request) -> web.Response | None:
        """What is said before anybody looks at what is asked."""
        if self.proxy_says is not None:
            return web.Response(status=self.proxy_says, text="<html>not here</html>")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        if request.path == "/version":
            return web.json_response({"major": "1"})
        if self.answers:
            status, retry_after = self.answers.pop(0)
            return _status(status, "InternalError", headers={"Retry-After": retry_after} if retry_after else {})
        refused = (
            said for (method, end), said in self.refuses.items() if method == request.method and request.path.endswith(end)
        )
        return next((_status(*said) for said in refused), None)

    async def _plain(self, request: web.Request) -> web.Response:
        path, _, name = request.path.rpartition("/")
        body = json.loads(await request.read() or b"{}")
        if request.method == "POST":
            if body["metadata"]["name"] in self.things.get(request.path, {}):
                return _status(409, "AlreadyExists")
            return web.json_response(self.create(request.path, body), status=201)
        if request.method == "GET" and (request.path in self.things or name in _COLLECTIONS):
            return self._list(request)
        thing = self.things.get(path, {}).get(name)
        return _status(404, "NotFound") if thing is None else self._one(request.method, path, thing, body)

    def _one(self, method: str, path: str, thing: Thing, body: Thing) -> web.Response:
        if method == "PATCH":
            return web.json_response(self.create(path, _merged(thing, body)))
        if method == "PUT":
            if body["metadata"].get("resourceVersion") not in (None, thing["metadata"]["resourceVersion"]):
                return _status(409, "Conflict")
            return web.json_response(self.create(path, body))
        if method == "DELETE":
            if not (body.get("preconditions") or {}).items() <= thing["metadata"].items():
                return _status(409, "Conflict")
            self.delete(path, thing["metadata"]["name"])
        return web.json_response(thing)

    def _list(self, request: web.Request) -> web.Response:
        things = sorted(self.things.get(request.path, {}).values(), key=lambda thing: thing["metadata"]["name"])
        things = [thing for thing in things if _selected(thing, request.query.get("labelSelector", ""))]
        start = 0
        if place := request.query.get("continue"):
            version, start = map(int, place.split("-"))
            if version < self.oldest:
                return _status(410, "Expired")
        limit = int(request.query.get("limit") or len(things) or 1)
        metadata: Thing = {"resourceVersion": str(self.version)}
        if start + limit < len(things):
            metadata["continue"] = f"{self.version}-{start + limit}"
        return web.json_response({"metadata": metadata, "items": things[start : start + limit]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        if since < self.oldest:
            return _status(410, "Expired")
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        self.watching += 1
        with suppress(ConnectionError, asyncio.TimeoutError):
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                await self._events(request, response, since)
        self.watching -= 1
        await self._unmuted.wait()
        return response

    async def _events(self, request: web.Request, response: web.StreamResponse, since: int) -> None:
        cut, at = self._cut, 0
        while True:
            await self._thawed.wait()
            if cut != self._cut:
                await response.write(b'{"type": "MODIFIED", "object"')
                if request.transport is not None:
                    request.transport.abort()
                return
            at = min(at, len(self.history))
            for version, path, kind, thing in self.history[at:]:
                if path == request.path and version > since and not self.mute_watches:
                    line = json.dumps({"type": kind, "object": thing}).encode() + b"\n"
                    for _ in range(self.repeats):
                        await response.write(line)
            at = len(self.history)
            self._news.clear()
            await self._news.wait()

    def _note(self, path: str, kind: str, thing: Thing) -> None:
        self.history.append((self.version, path, kind, thing))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


_COLLECTIONS = ("configmaps", "events", "jobs", "pods", "secrets")


def _status(code: int, reason: str, *, headers: Mapping[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": f"the fake says {reason}"}
    return web.json_response(body, status=code, headers=headers)


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(patch, dict):
        return patch
    merged = {**old, **{key: _merged(old.get(key), value) for key, value in patch.items()}}
    return {key: value for key, value in merged.items() if value is not None}


def _selected(thing: Thing, selector: str) -> bool:
    labels = thing["metadata"].get("labels") or {}
    parts = (part.partition("=") for part in selector.split(",") if part)
    return all(labels.get(key) == value if equals else key in labels for key, equals, value in parts)
