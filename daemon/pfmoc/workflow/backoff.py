"""When to ask again: pauses that grow, and how long they go on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER_S = 300.0
"""A server that asks for more than this is asked again all the same: it may have been restarted."""


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


class Patience:
    """A deadline that progress moves.

    :param seconds: how long it is from now, and from each ``renew``
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def renew(self) -> None:
        """Something went forward: begin anew."""
        self._end = self._clock() + self.seconds

    def left(self) -> float:
        """Seconds that are left; below zero when it is over."""
        return self._end - self._clock()


def retry_after(header: str | None, *, now: datetime | None = None) -> float | None:
    """Read a ``Retry-After`` header, in either of its forms.

    :returns: seconds from now, within ``LONGEST_RETRY_AFTER_S``; None when there is none or it makes no sense
    """
    if header is None:
        return None
    text = header.strip()
    if text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return min(max((then - (now or datetime.now(UTC))).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)
