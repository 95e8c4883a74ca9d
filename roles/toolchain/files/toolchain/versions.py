"""Versions, and ranges of them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

_VERSION = re.compile(r"(?<![\d.])v?(\d+(?:\.\d+){1,3})")
_COMPARISONS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<": operator.lt,
    "==": operator.eq,
}


def parse(text: str) -> tuple[int, ...] | None:
    """The first version in what a program says of itself, such as ``Kubernetes v1.35.4``; None if there is none."""
    found = _VERSION.search(text)
    return _numbers(found[1]) if found else None


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split("."))
    return numbers + (0,) * (4 - len(numbers))


@dataclass(frozen=True)
class Range:
    """Versions that are good enough, such as ``>=1.35,<1.36``: comparisons that must all hold."""

    text: str

    def __contains__(self, version: tuple[int, ...]) -> bool:
        for comparison in self.text.split(","):
            sign = next(sign for sign in _COMPARISONS if comparison.startswith(sign))
            if not _COMPARISONS[sign](version, _numbers(comparison.removeprefix(sign))):
                return False
        return True

    def __str__(self) -> str:
        return self.text
