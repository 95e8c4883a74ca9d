"""On which nodes a run may be: architecture, GPU, the site's settings. Selector and toleration come from one place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pfmoc.errors import InvalidRequest

ARCH_LABEL = "kubernetes.io/arch"
PRODUCT_LABEL = "nvidia.com/gpu.product"
"""Label of NVIDIA's feature discovery; at NERC also the taint that keeps other work off."""
EMULATES = "box.chrisproject.org/emulates-"
"""Label, with an architecture at its end, of a node that runs programs of that one too, as the box's does through qemu."""
DEFAULT_ARCH = "amd64"
"""Of images that nobody says anything about."""

_ARCH = re.compile(r"[a-z0-9]{2,16}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The part of a pod's spec that says where it may be."""

    node_selector: Mapping[str, str]
    affinity: Mapping[str, Any] | None
    tolerations: Sequence[Mapping[str, str]]


def architecture(asked: str | None, image: str, table: Mapping[str, str]) -> str:
    """The architecture of a run: what was asked for, else what the site says of such an image, else the usual one.

    :param table: by pattern of the image's name; the first that fits counts
    :raises InvalidRequest: what was asked for is no architecture
    """
    if asked is not None and not _ARCH.fullmatch(asked):
        raise InvalidRequest("arch", "must be an architecture as Kubernetes spells it, such as amd64 or ppc64le")
    return asked or next((arch for pattern, arch in table.items() if fnmatchcase(image, pattern)), DEFAULT_ARCH)


def placement(arch: str, *, gpus: int, products: Sequence[str], selector: Mapping[str, str]) -> Placement:
    """Where a run may be.

    :param products: GPUs of the site, any of which will do; none when their nodes bear no such label
    :param selector: labels that every job's node must have
    """
    tolerations = []
    if arch != DEFAULT_ARCH:
        tolerations.append({"key": ARCH_LABEL, "operator": "Equal", "value": arch, "effect": "NoSchedule"})
    wanted: list[dict[str, Any]] = []
    if gpus and products:
        wanted.append({"key": PRODUCT_LABEL, "operator": "In", "values": list(products)})
        tolerations += [
            {"key": PRODUCT_LABEL, "operator": "Equal", "value": product, "effect": "NoSchedule"} for product in products
        ]
    elif gpus:
        tolerations.append({"key": PRODUCT_LABEL, "operator": "Exists", "effect": "NoSchedule"})
    if arch == DEFAULT_ARCH:
        return Placement(node_selector={**selector, ARCH_LABEL: arch}, affinity=_required([wanted]), tolerations=tolerations)
    native = [{"key": ARCH_LABEL, "operator": "In", "values": [arch]}, *wanted]
    emulated = [{"key": EMULATES + arch, "operator": "Exists"}, *wanted]
    return Placement(node_selector=dict(selector), affinity=_required([native, emulated]), tolerations=tolerations)


def _required(alternatives: Sequence[Sequence[Mapping[str, Any]]]) -> Mapping[str, Any] | None:
    terms = [{"matchExpressions": list(expressions)} for expressions in alternatives if expressions]
    if not terms:
        return None
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
