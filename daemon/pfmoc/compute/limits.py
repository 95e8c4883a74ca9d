"""Bounds on what a job may ask for, shared by the environments that run on one machine."""

from __future__ import annotations

import re
from pathlib import Path

from pfmoc.compute.base import Limits
from pfmoc.errors import ComputeRefused, InvalidRequest
from pfmoc.settings import Settings

CPU_MILLICORES_MAX = 1_000_000
"""A thousand cores. A limit beyond the machine's cores is no error: it is a bound that nothing can reach."""
MEMORY_MIB_MIN = 6
"""The least that Docker accepts; below it not even the runtime's own first process fits."""
MEMORY_MIB_MAX = 64 << 20
"""64 TiB. As for cores, more than the machine has is a bound that nothing can reach."""
REFERENCE_MAX = 512
"""Characters of an image reference: a name of 255, a tag of 128 and a digest of 71 fit."""

REFERENCE_PATTERN = "[A-Za-z0-9][A-Za-z0-9._/:@+-]*"

_REFERENCE = re.compile(REFERENCE_PATTERN)


def check_limits(limits: Limits, *, gpus: int) -> None:
    """Reject limits that no run on this machine can have.

    :param gpus: how many GPUs the machine has
    :raises ComputeRefused: status 400 with upstream's own sentence, for more than one worker (contract 7.3)
    :raises InvalidRequest: names the field and its bound
    """
    if limits.number_of_workers != 1:
        raise ComputeRefused(
            "Compute environment only supports number_of_workers=1, got number_of_workers=" + str(limits.number_of_workers),
            engine_status=400,
        )
    _within("cpu_limit", limits.cpu_millicores, low=1, high=CPU_MILLICORES_MAX, unit="millicores")
    _within("memory_limit", limits.memory_mib, low=MEMORY_MIB_MIN, high=MEMORY_MIB_MAX, unit="MiB")
    if limits.gpus < 0 or limits.gpus > gpus:
        there = "this compute environment has no GPU" if gpus == 0 else f"this compute environment has {gpus}"
        raise InvalidRequest("gpu_limit", f"must be between 0 and {gpus}, got {limits.gpus}: {there}")


def _within(field: str, value: int, *, low: int, high: int, unit: str) -> None:
    if not low <= value <= high:
        raise InvalidRequest(field, f"must be between {low} and {high} {unit}, got {value}")


def check_reference(image: str) -> None:
    """Reject what cannot be an image reference: it becomes part of a path in the engine's API.

    :raises InvalidRequest: names the field
    """
    if len(image) > REFERENCE_MAX:
        raise InvalidRequest("image", f"must have at most {REFERENCE_MAX} characters, has {len(image)}")
    if not _REFERENCE.fullmatch(image) or ".." in image.split("/"):
        raise InvalidRequest("image", "must be an image reference such as registry/repository/name:tag")


def gpus_here(settings: Settings) -> int:
    """How many GPUs a job may ask for: what the operator says, else the NVIDIA devices that this process sees."""
    if settings.gpus is not None:
        return settings.gpus
    return sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
