"""Waiting for a condition. No test sleeps for a while and hopes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")

DEADLINE_S = 20.0
_PAUSE_S = 0.01


async def eventually(ask: Callable[[], Awaitable[Value] | Value], *, deadline_s: float = DEADLINE_S) -> Value:
    """Ask until the answer is true, and return it; fail at the deadline with the last answer."""
    until = time.monotonic() + deadline_s
    while True:
        answer = ask()
        value: Value = await answer if isinstance(answer, Awaitable) else answer
        if value:
            return value
        assert time.monotonic() < until, f"not within {deadline_s} s; the last answer was {value!r}"
        await asyncio.sleep(_PAUSE_S)


def eventually_sync(ask: Callable[[], Value], *, deadline_s: float = DEADLINE_S) -> Value:
    """``eventually`` for tests that have no event loop."""
    until = time.monotonic() + deadline_s
    while True:
        value = ask()
        if value:
            return value
        assert time.monotonic() < until, f"not within {deadline_s} s; the last answer was {value!r}"
        time.sleep(_PAUSE_S)
