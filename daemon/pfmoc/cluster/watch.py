"""One watch: a stream of JSON objects, one to a line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import aiohttp

from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import ClusterUnavailable, WatchStalled, of_event

OBJECT_MAX = 32 << 20
"""Bytes of an event. etcd stores at most 1.5 MiB, and no escape in JSON makes six bytes of less than one."""
BEGINS_S = 10.0
"""Seconds until a watch must have begun."""
GRACE_S = 10.0
"""Seconds after its time that a watch has to end in."""


async def watch(cluster: Cluster, path: str, *, query: Mapping[str, str], lasts_s: int) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the events of a watch; first, once the server has agreed to it, an event of type ``OPENED``.

    The server is asked to end it after ``lasts_s``: so a line that has fallen silent is known from one on which nothing happens.

    :param query: selectors and the resource version to go on from
    :raises WatchStalled: the server did not end it in time
    :raises ClusterUnavailable: it was cut off, or what came is no JSON
    :raises ClusterRefused: ``Gone`` when the resource version is too old
    """
    words = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(lasts_s)}
    try:
        async with asyncio.timeout(lasts_s + GRACE_S) as patience:
            async with cluster.stream(path, query=words, deadline_s=BEGINS_S) as response:
                yield {"type": "OPENED"}
                async with aclosing(_lines(response)) as lines:
                    async for line in lines:
                        yield _event(line)
    except TimeoutError:
        if not patience.expired():
            raise
        raise WatchStalled("a watch on the cluster has fallen silent") from None


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Split at line feeds. aiohttp's own reader of lines has a limit that one large object exceeds."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        at = len(rest)
        rest += chunk
        while (end := rest.find(b"\n", at)) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            at = 0
            if line.strip():
                yield line
        if len(rest) > OBJECT_MAX:
            raise ClusterUnavailable("a watch on the cluster sends an object without end")
    if rest.strip():
        raise ClusterUnavailable("a watch on the cluster was cut off within an object")


def _event(line: bytes) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
        if event["type"] == "ERROR":
            raise of_event(event["object"])
        event["object"]["metadata"]["resourceVersion"]
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterUnavailable("a watch on the cluster sends what is no event") from error
    return event
