"""Kubernetes' notation of amounts: ``500m``, ``16Gi``, ``2``."""

from __future__ import annotations

import re

_UNITS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_UNITS |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)}
_QUANTITY = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([numkMGTPE]|[KMGTPE]i)?")


def amount(quantity: str | float) -> float:
    """The number that a quantity stands for.

    :raises ValueError: when it is none
    """
    found = _QUANTITY.fullmatch(str(quantity).strip())
    if not found:
        raise ValueError(f"{quantity!r} is not a quantity")
    return float(found[1]) * _UNITS[found[2] or ""]
