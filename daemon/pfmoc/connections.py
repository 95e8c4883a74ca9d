"""Connections of the daemon's own clients."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler


class Connector(aiohttp.TCPConnector):
    """A pool of connections that cuts what is given up midway, at once.

    aiohttp would begin TLS's farewell and forget the connection, which lingers for up to 30 s with a silent peer, and
    outlives its loop.
    """

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if (should_close or protocol.should_close) and protocol.transport is not None:
            protocol.transport.abort()
        super()._release(key, protocol, should_close=should_close)
