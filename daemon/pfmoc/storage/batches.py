"""Do many small things at once: files in batches, by a few threads."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import TypeVar

from pfmoc.storage.workers import FILES, Stop

T = TypeVar("T")

_AT_ONCE = 4
"""Batches of one job that are under way or waiting. On a file server nearly all of a small file's time is spent waiting."""


def in_batches(work: Callable[[list[T], Stop], None], batches: Iterable[list[T]], *, stop: Stop) -> None:
    """Do work on each batch; a single one is done right here.

    The first failure stops the others, and is raised when all have ended.
    """
    stop = Stop(stop)
    batches = iter(batches)
    first, second = next(batches, None), next(batches, None)
    if first is None:
        return
    if second is None:
        work(first, stop)
        return
    running: deque[Future[None]] = deque()
    try:
        for batch in itertools.chain([first, second], batches):
            if len(running) >= _AT_ONCE:
                running.popleft().result()
            running.append(FILES.submit(work, batch, stop))
        while running:
            running.popleft().result()
    finally:
        stop.set()
        wait([future for future in running if not future.cancel()])
