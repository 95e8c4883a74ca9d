"""What a person sees while things are made: a file whose last line says how far it is, and how long it will take."""

from __future__ import annotations

import os
import time
from pathlib import Path

_INTERVAL_S = 1.0  # readers look every few seconds


class Progress:
    """The file.

    :param file: is there while something is done, and gets a line whenever there is news; without one nothing is written
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._last = ""
        self._said = 0.0

    def say(self, line: str) -> None:
        """Add a line, unless it is the last one again."""
        if self._file and line != self._last:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a" if self._last else "w") as stream:
                stream.write(f"{line}\n")
            self._last, self._said = line, time.monotonic()

    def tick(self, line: str) -> None:
        """Add a line, unless one was added a moment ago."""
        if time.monotonic() - self._said >= _INTERVAL_S:
            self.say(line)

    def end(self) -> None:
        """Nothing more is done."""
        if self._file:
            self._file.unlink(missing_ok=True)


def minutes_to_build(cpu_minutes: float) -> float:
    """How long work takes on this machine when nothing else runs.

    :param cpu_minutes: as recorded on the machine that the pins were measured on
    """
    return cpu_minutes / max(1, len(os.sched_getaffinity(0)))


def remaining(done: float, spent: float, expected: float) -> float:
    """Minutes that are left.

    At first it is what was expected; the further the work is, the more its own pace counts.

    :param done: which part is done, 0 to 1
    :param spent: minutes spent so far
    :param expected: minutes that the whole was expected to take
    """
    left = 1.0 - done
    return left * (left * expected + spent)


def span(spent: float, total: float) -> str:
    """``3 of 20 min``, or seconds where it is soon over."""
    if total < 2:
        return f"{spent * 60:.0f} of {max(total, spent) * 60:.0f} s"
    return f"{spent:.0f} of {max(total, spent):.0f} min"
