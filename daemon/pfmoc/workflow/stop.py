"""Work in threads that can be told to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The work was told to stop. Never leaves ``in_thread``."""


class Stop:
    """Asked between two pieces of work; set from the outside."""

    def __init__(self) -> None:
        self._told = threading.Event()

    def set(self) -> None:
        """Tell the work to stop."""
        self._told.set()

    def check(self) -> None:
        """Go on, or not.

        :raises Stopped: told to
        """
        if self._told.is_set():
            raise Stopped


async def in_thread(work: Callable[[Stop], T]) -> T:
    """Run work in a thread. When the caller is cancelled the work is told to stop, and waited for."""
    stop = Stop()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: nobody waits for it any more
        raise
