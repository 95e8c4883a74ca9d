from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from pfmoc.backoff import Backoff
from pfmoc.workflow.resources import Resource, ResourceEntry
from pfmoc.workflow.server import Server


class Script:
    """A server that answers what a test tells it to, and notes what it was asked."""

    def __init__(self) -> None:
        self.tokens = 0
        self.accepted: set[str] | None = None
        """Tokens that are good; None for all."""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answer = lambda _: web.json_response({})
        self.login = lambda: None

    def log(self, method: str) -> list[str]:
        return [path for verb, path, _ in self.requests if verb == method]

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        return await self.handle(request)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/api/v1/auth-token/":
            if (refused := self.login()) is not None:
                return refused
            self.tokens += 1
            return web.json_response({"token": f"t{self.tokens}"})
        await request.read()
        self.requests.append((request.method, request.path_qs.removeprefix("/api/v1/"), dict(request.headers)))
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if self.accepted is not None and token not in self.accepted:
            return web.json_response({"message": "Invalid authorization token."}, status=401)
        answer = self.answer(request)
        return await answer if hasattr(answer, "__await__") else answer


@pytest.fixture
async def script():
    script = Script()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", script.dispatch)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/"
    yield script
    await runner.cleanup()


@pytest.fixture
async def server(script):
    entry = ResourceEntry(name="here", url=script.url, user="pfcon", password=SecretStr("pfcon1234"), patience=5)
    async with aiohttp.ClientSession() as session:
        yield Server(Resource(entry, SecretStr("pfcon1234")), session, backoff=Backoff(first_s=0.01, longest_s=0.05))
