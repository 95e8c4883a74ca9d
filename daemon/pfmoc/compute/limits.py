"""Bounds on what a job may ask for, shared by the environments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pfmoc.compute.base import Limits
from pfmoc.compute.kubernetes_site import gpus_of
from pfmoc.errors import ComputeRefused, InvalidRequest
from pfmoc.settings import Settings

CPU_MILLICORES_MAX = 1_000_000
"""A thousand cores. A limit beyond the machine's cores is no error: it is a bound that nothing can reach."""
MEMORY_MIB_MIN = 6
"""The least that Docker accepts; below it not even the runtime's own first process fits."""
MEMORY_MIB_MAX = 64 << 20
"""64 TiB. As for cores, more than the machine has is a bound that nothing can reach."""
PODS_MAX = 1000
"""Workers of one run in a cluster, a pod each."""
REFERENCE_MAX = 512
"""Characters of an image reference: a name of 255, a tag of 128 and a digest of 71 fit."""

REFERENCE_PATTERN = "[A-Za-z0-9][A-Za-z0-9._/:@+-]*"

_REFERENCE = re.compile(REFERENCE_PATTERN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The most that a run may ask for; memory and cores are each worker's."""

    gpus: int
    """How many the machine has, or the largest of a cluster's, unless the site says otherwise."""
    cpu_millicores: int = CPU_MILLICORES_MAX
    memory_mib: int = MEMORY_MIB_MAX
    workers: int = 1
    gpu_products: Sequence[str] = ()
    """Those that a run may choose among; none where all GPUs are alike to us."""


def bounds_of(settings: Settings) -> Bounds:
    """What a daemon with these settings lets a run ask for."""
    return Bounds(
        gpus=gpus_of(settings) if settings.in_cluster else gpus_here(settings),
        cpu_millicores=min(settings.max_cpu_m or CPU_MILLICORES_MAX, CPU_MILLICORES_MAX),
        memory_mib=min(settings.max_memory_mib or MEMORY_MIB_MAX, MEMORY_MIB_MAX),
        workers=PODS_MAX if settings.in_cluster else 1,
        gpu_products=settings.gpu_products if settings.in_cluster else (),
    )


def check_limits(limits: Limits, bounds: Bounds) -> None:
    """Reject limits that no run here can have.

    :raises ComputeRefused: status 400 with upstream's own sentence, for more than one worker (contract 7.3)
    :raises InvalidRequest: names the field and its bound
    """
    if bounds.workers > 1:
        _within("number_of_workers", limits.number_of_workers, low=1, high=bounds.workers, unit="workers")
    elif limits.number_of_workers != 1:
        raise ComputeRefused(
            "Compute environment only supports number_of_workers=1, got number_of_workers=" + str(limits.number_of_workers),
            engine_status=400,
        )
    _within("cpu_limit", limits.cpu_millicores, low=1, high=bounds.cpu_millicores, unit="millicores")
    _within("memory_limit", limits.memory_mib, low=MEMORY_MIB_MIN, high=bounds.memory_mib, unit="MiB")
    if limits.gpus < 0 or limits.gpus > bounds.gpus:
        there = "this compute environment has no GPU" if bounds.gpus == 0 else f"this compute environment has {bounds.gpus}"
        raise InvalidRequest("gpu_limit", f"must be between 0 and {bounds.gpus}, got {limits.gpus}: {there}")
    if limits.gpu_product is not None and limits.gpu_product not in bounds.gpu_products:
        choice = f"one of {', '.join(bounds.gpu_products)}" if bounds.gpu_products else "absent: there is nothing to choose among"
        raise InvalidRequest("gpu_product", f"must be {choice}, got {limits.gpu_product!a}")


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
