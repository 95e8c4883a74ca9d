"""A small Swift in memory: its own login, listings in pages, ranges, digests, temporary URLs. Driven over HTTP like the real one.

Faults are those of a proxy before it (``harness.store_proxy``); here are only those that lie in Swift itself::

    async with Swift() as swift, proxied(swift.url) as proxy:
        identity = V1Identity(auth_url=f"{proxy.url}/auth/v1.0", user=swift.user, key=swift.key)
        swift.put("a/b", b"content")
        swift.revoke()               # every token that was given out is refused
        swift.most = 100             # names of a page, whatever is asked for
        swift.deaf = True            # every token is refused, new ones too
        swift.frozen = True          # no answer until it is False again
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web
from fakes.listening import Freezable, listen

_MODIFIED = "2026-01-01T00:00:00.000000"
_EMPTY = hashlib.md5(usedforsecurity=False).hexdigest()


class Swift(Freezable):
    """See the module. One container, ``data``."""

    user = "chris:chris1234"
    key = "the key of the account in Swift"

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.logins = 0
        self.most = 10_000
        self.deaf = False
        self.headers: dict[str, str] = {}
        """Metadata of the container."""
        self._names: list[str] | None = None
        self._tokens: set[str] = set()

    async def __aenter__(self) -> Self:
        self._runner, self.url = await listen(self._handle)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.frozen = False
        await self._runner.cleanup()

    def put(self, name: str, content: bytes) -> None:
        """Put an object there."""
        self.objects[name] = content
        self._names = None

    def fill(self, names: Iterable[str]) -> None:
        """Put empty objects there."""
        self.objects.update(dict.fromkeys(names, b""))
        self._names = None

    def revoke(self) -> None:
        """Refuse every token that was given out."""
        self._tokens.clear()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await self._thawed.wait()
        if request.path == "/auth/v1.0":
            return self._login(request)
        if not self._admitted(request):
            return web.Response(status=401)
        path = unquote(request.raw_path.partition("?")[0]).removeprefix("/v1/AUTH_x")
        if path in ("", "/"):
            return await self._account(request)
        container, _, name = path.removeprefix("/").partition("/")
        if container != "data":
            return web.Response(status=404)
        return await self._object(request, name) if name else self._container(request)

    def _login(self, request: web.BaseRequest) -> web.Response:
        if (request.headers.get("X-Auth-User"), request.headers.get("X-Auth-Key")) != (self.user, self.key):
            return web.Response(status=401)
        self.logins += 1
        token = f"token-of-swift-{self.logins}"
        self._tokens.add(token)
        return web.Response(headers={"X-Storage-Url": f"http://{request.host}/v1/AUTH_x", "X-Auth-Token": token})

    def _admitted(self, request: web.BaseRequest) -> bool:
        if "temp_url_sig" in request.query:
            return True
        return not self.deaf and request.headers.get("X-Auth-Token") in self._tokens

    async def _account(self, request: web.BaseRequest) -> web.Response:
        if request.method != "POST":
            return web.Response(status=204)
        names = [unquote(line).removeprefix("data/") for line in (await request.read()).decode().splitlines()]
        gone = [self.objects.pop(name) for name in names if name in self.objects]
        self._names = None
        return web.json_response({"Number Deleted": len(gone), "Errors": [], "Response Status": "200 OK"})

    def _container(self, request: web.BaseRequest) -> web.Response:
        if request.method == "POST":
            self.headers.update((name, value) for name, value in request.headers.items() if name.startswith("X-Container-Meta-"))
        if request.method != "GET":
            return web.Response(status=204, headers=self.headers)
        rows = [self._row(name) for name in self._page(request)]
        return web.Response(text=json.dumps(rows), content_type="application/json")

    def _page(self, request: web.BaseRequest) -> list[str]:
        if self._names is None:
            self._names = sorted(self.objects, key=str.encode)
        prefix, marker = request.query.get("prefix", ""), request.query.get("marker", "")
        delimiter = request.query.get("delimiter", "")
        limit = min(int(request.query.get("limit", self.most)), self.most)
        found: list[str] = []
        at = bisect_right(self._names, marker.encode(), key=str.encode) if marker else 0
        for name in self._names[at:]:
            if name.startswith(prefix) and not (delimiter and delimiter in name[len(prefix) :]):
                found.append(name)
            if len(found) == limit:
                break
        return found

    def _row(self, name: str) -> dict[str, Any]:
        content = self.objects[name]
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest() if content else _EMPTY
        kind = "application/octet-stream"
        return {"name": name, "bytes": len(content), "hash": digest, "content_type": kind, "last_modified": _MODIFIED}

    async def _object(self, request: web.BaseRequest, name: str) -> web.Response:
        if request.method == "PUT":
            return self._written(request, name, await request.read())
        if name not in self.objects:
            return web.Response(status=404)
        content = self.objects[name]
        if request.method == "DELETE":
            del self.objects[name]
            self._names = None
            return web.Response(status=204)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if request.headers.get("If-Match", digest).strip('"') != digest:
            return web.Response(status=412)
        start = request.http_range.start or 0
        headers = {"ETag": digest, "X-Timestamp": "1767225600.00000"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return web.Response(status=206 if start else 200, body=content[start:], headers=headers)

    def _written(self, request: web.BaseRequest, name: str, content: bytes) -> web.Response:
        if source := request.headers.get("X-Copy-From"):
            content = self.objects[unquote(source).removeprefix("data/")]
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if request.headers.get("ETag", digest) != digest:
            return web.Response(status=422)
        self.put(name, content)
        return web.Response(status=201, headers={"ETag": digest})
