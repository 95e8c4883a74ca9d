"""A few threads that do many small things."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from pfmoc.storage.workers import Stop, Stopped

T = TypeVar("T")


class Crew(Generic[T]):
    """Does work on each item, in no order. Only a few items wait at any time, however many there are.

    :param size: threads
    """

    def __init__(self, size: int, work: Callable[[T], None], *, stop: Stop) -> None:
        self._size = size
        self._work = work
        self._stop = stop
        self._items: queue.Queue[T | None] = queue.Queue(maxsize=2 * size)
        self._failure: BaseException | None = None

    def run(self, items: Iterable[T]) -> None:
        """Do all, and return when it is done. The first failure ends the work, and is raised when all threads have ended."""
        threads = [threading.Thread(target=self._labour, name=f"mover-{number}") for number in range(self._size)]
        for thread in threads:
            thread.start()
        try:
            for item in items:
                if self._failure is not None:
                    break
                self._items.put(item)
        except BaseException:
            self._stop.set()
            raise
        finally:
            for _ in threads:
                self._items.put(None)
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _labour(self) -> None:
        while (item := self._items.get()) is not None:
            # After a failure the rest is only taken from the queue, so that whoever fills it is never stuck.
            if self._failure is None:
                try:
                    self._stop.check()
                    self._work(item)
                except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for all
                    if self._failure is None and not isinstance(error, Stopped):
                        self._failure = error
                    self._stop.set()
