"""What fakes that are servers have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web


async def listen(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> tuple[web.ServerRunner, str]:
    """Serve on a free port of loopback; returns what ends it by its ``cleanup``, and the URL."""
    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


class Freezable:
    """May be told to give no answer."""

    def __init__(self) -> None:
        self._thawed = asyncio.Event()
        self._thawed.set()

    @property
    def frozen(self) -> bool:
        """True: no answer, and no event."""
        return not self._thawed.is_set()

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self._thawed.clear() if value else self._thawed.set()
