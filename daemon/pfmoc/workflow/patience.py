"""How long a server that does not answer is asked again, and when it wants to be."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER_S = 300.0
"""A server that asks for more than this is asked again all the same: it may have been restarted."""


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
