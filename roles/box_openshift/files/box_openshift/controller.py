"""What all controllers are: a queue of keys, and one worker that brings what a key names to its wanted state."""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from abc import ABC, abstractmethod

from .cluster import ClusterError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0

_log = logging.getLogger(__name__)


class Queue:
    """Keys to work on, each at most once, each not before its time."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._changed = threading.Condition()

    def add(self, key: str, delay_s: float = 0.0) -> None:
        """Put a key in; one that waits already is taken at the earlier time."""
        due = time.monotonic() + delay_s
        with self._changed:
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._heap, (due, key))
                self._changed.notify()

    def take(self) -> str:
        """Wait for the next key."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._heap and self._heap[0][0] <= now:
                    due, key = heapq.heappop(self._heap)
                    if self._due.get(key) == due:
                        del self._due[key]
                        return key
                else:
                    self._changed.wait(self._heap[0][0] - now if self._heap else None)


class Controller(ABC):
    """One worker, so that no key is worked on twice at once; a key that failed comes again, later each time."""

    # How long a key waits for further changes before it is worked on, in seconds.
    patience_s = 0.0

    def __init__(self) -> None:
        self._queue = Queue()
        self._failures: dict[str, int] = {}

    def enqueue(self, key: str) -> None:
        """Have a key worked on."""
        self._queue.add(key, self.patience_s)

    @abstractmethod
    def reconcile(self, key: str) -> None:
        """Compare what is with what shall be, and change what differs. It may be called at any time, and again.

        :raises ClusterError: try again later
        """

    def run(self) -> None:
        """Work for ever."""
        while True:
            key = self._queue.take()
            try:
                self.reconcile(key)
            except (ClusterError, OSError) as error:
                self._again(key, str(error))
            except Exception:  # noqa: BLE001 - one bad object must not end the work on the others
                _log.exception("%s %s", type(self).__name__, key)
                self._again(key, "see above")
            else:
                self._failures.pop(key, None)

    def _again(self, key: str, why: str) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        _log.warning("%s %s: %s; again in %.1f s", type(self).__name__, key, why, pause)
        self._queue.add(key, pause)
