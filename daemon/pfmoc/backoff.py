"""Pauses that grow from one attempt to the next."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """Pauses between two questions, in seconds. Each is shortened by up to a third at random, so that clients part ways."""

    first_s: float = 0.2
    longest_s: float = 5.0
    factor: float = 1.6

    def pauses(self) -> Iterator[float]:
        """Yield pauses without end."""
        step = self.first_s
        while True:
            yield step * random.uniform(2 / 3, 1)  # noqa: S311 - nothing secret about it
            step = min(step * self.factor, self.longest_s)
