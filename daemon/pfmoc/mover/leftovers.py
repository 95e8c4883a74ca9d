"""Outputs that cannot be published, while all others are."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

from pfmoc.mover.report import Failed, shown

_NAMED = 5
"""Names that the error tells for each reason. Of the rest it is only kept how many there are: it may be a million."""


class Leftovers:
    """Notes what stays in the pod. Threadsafe."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._names: defaultdict[str, list[str]] = defaultdict(list)
        self._turn = threading.Lock()

    @property
    def count(self) -> int:
        """How many there are."""
        return self._counts.total()

    def add(self, path: str, reason: str) -> None:
        """Note a file; or, by a slash at its end, a directory with all that is in it."""
        with self._turn:
            self._counts[reason] += 1
            if len(self._names[reason]) < _NAMED:
                self._names[reason].append(shown(path))

    def check(self) -> None:
        """:raises Failed: there are some"""
        if self.count:
            groups = "; ".join(f"{self._listed(reason)} ({reason})" for reason in self._counts)
            raise Failed(f"{self.count} of the outputs could not be published: {groups}")

    def _listed(self, reason: str) -> str:
        names = self._names[reason]
        more = self._counts[reason] - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")
