"""Threads that do the blocking work of storage, and of ``pfmoc run``; and how such work is told to stop.

There are several pools beside asyncio's default one, so that work never waits behind work of a longer kind: a probe behind a
listing, a listing behind a copy. How many threads touch files at once is bounded over all jobs: each takes turns with the event
loop for Python's lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

LONG = ThreadPoolExecutor(max_workers=16, thread_name_prefix="pfmoc-stage")
"""For work of any length: staging, removing, packing only to measure. Most of it waits for ``FILES``."""

QUICK = ThreadPoolExecutor(max_workers=4, thread_name_prefix="pfmoc-look")
"""For work that reads directories and no files."""

CHUNKS = ThreadPoolExecutor(max_workers=6, thread_name_prefix="pfmoc-chunk")
"""For the next piece of a download: milliseconds each. No thread is held while a client is slow."""

FILES = ThreadPoolExecutor(max_workers=8, thread_name_prefix="pfmoc-files")
"""For batches of files of all jobs that are being staged. Work in it submits no other work."""


class Stopped(Exception):
    """The work was told to stop, and did."""


class Stop:
    """A flag that long work looks at between files and chunks."""

    def __init__(self, parent: Stop | None = None) -> None:
        self._event = threading.Event()
        self._parent = parent

    def set(self) -> None:
        """Tell the work to stop. Threadsafe."""
        self._event.set()

    def check(self) -> None:
        """:raises Stopped: this flag, or the one above it, is set"""
        if self._event.is_set():
            raise Stopped
        if self._parent is not None:
            self._parent.check()


async def run(work: Callable[[Stop], T], *, pool: ThreadPoolExecutor = LONG) -> T:
    """Run blocking work in a thread. On cancellation the work is stopped, and has cleaned up, before this returns."""
    stop = Stop()
    job = pool.submit(copy_context().run, work, stop)
    future = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        if not job.cancel():
            await settled(future)
        raise


async def settled(future: asyncio.Future[Any]) -> None:
    """Wait until the future is done, however often the waiting task is cancelled. Its result is dropped."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()
