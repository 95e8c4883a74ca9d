"""Waiting for a condition. No test sleeps for a while and hopes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

DEADLINE_S = 20.0
_PAUSE_S = 0.01

T = TypeVar("T")


async def eventually(check: Callable[[], T | Awaitable[T]], *, what: str = "a condition", deadline_s: float = DEADLINE_S) -> T:
    """Poll until a condition holds, and return what it returned."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        result = check()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        assert loop.time() < end, f"waited {deadline_s} s in vain for {what}; the last answer was {result!r}"
        await asyncio.sleep(_PAUSE_S)


def until(check: Callable[[], T], *, what: str = "a condition", deadline_s: float = DEADLINE_S) -> T:
    """The same outside of a loop."""
    end = time.monotonic() + deadline_s
    while not (result := check()):
        assert time.monotonic() < end, f"waited {deadline_s} s in vain for {what}; the last answer was {result!r}"
        time.sleep(_PAUSE_S)
    return result
