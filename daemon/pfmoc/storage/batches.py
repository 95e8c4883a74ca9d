"""Do many small things at once: a list of files in batches, by a few threads."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pfmoc.storage.workers import Stop

T = TypeVar("T")

_THREADS = 4
"""What one job may occupy. Most of the time of a small file is spent in system calls, on a file server nearly all of it."""


def in_batches(work: Callable[[list[T], Stop], None], batches: Iterable[list[T]], *, stop: Stop) -> None:
    """Do work on each batch; a single one is done right here. No more batches are held than threads can soon take.

    The first failure stops the others, and is raised when all threads have ended.
    """
    stop = Stop(stop)
    batches = iter(batches)
    first, second = next(batches, None), next(batches, None)
    if first is None:
        return
    if second is None:
        work(first, stop)
        return
    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="pfmoc-files") as pool:
        running: deque[Future[None]] = deque()
        try:
            for batch in itertools.chain([first, second], batches):
                if len(running) >= 2 * _THREADS:
                    running.popleft().result()
                running.append(pool.submit(work, batch, stop))
            while running:
                running.popleft().result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
