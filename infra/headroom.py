"""What tenants are granted, against what there is: for each architecture and each GPU product.

What there is, the site file tells of its node pools, and the clouds of themselves: OpenShift of its nodes, OpenStack of what
Placement counts. Quotas know no architecture, so what is granted stands against the sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.quantities import amount
from infra.spec import Site
from infra.spec.headroom import granted as granted_on_openshift
from infra.spec.node_pools import PRODUCT_LABEL
from infra.spec.openshift import GPU_RESOURCE

CORES, MEMORY = "cores", "memory MiB"
ARCHITECTURES = ("amd64", "ppc64le")
_TRAITS = {"HW_ARCH_X86_64": "amd64", "HW_ARCH_PPC64LE": "ppc64le"}
MIB = 1024**2

Amounts = Counter[tuple[str, str]]
"""How much of what there is, by architecture and what: cores, memory, or a GPU product."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What there is of one thing, and what is granted of it.

    :param there: by architecture; empty when nothing is known
    :param granted: None when somebody has no limit
    """

    cloud: str
    what: str
    there: Mapping[str, int]
    granted: int | None

    @property
    def free(self) -> int | None:
        """What is left; less than nothing when more is granted than there is. None: it cannot be told."""
        return sum(self.there.values()) - self.granted if self.there and self.granted is not None else None

    @property
    def state(self) -> str:
        """``fits``, ``over``, or ``unknown``."""
        if not self.there:
            return "unknown"
        return "over" if self.free is None or self.free < 0 else "fits"

    def document(self) -> dict[str, Any]:
        """The row for programs."""
        there = dict(sorted(self.there.items()))
        total = sum(there.values()) if there else None
        named = {"cloud": self.cloud, "what": self.what, "there": there, "all": total}
        return {**named, "granted": self.granted, "free": self.free, "state": self.state}


def declared(site: Site) -> Amounts | None:
    """What the node pools have; None when the file names none, or does not tell the shape of one."""
    if not site.node_pools or not all(pool.shape for pool in site.node_pools):
        return None
    found: Amounts = Counter()
    for pool in site.node_pools:
        if pool.shape:
            found[pool.arch, CORES] += pool.size * pool.shape.vcpus
            found[pool.arch, MEMORY] += pool.size * pool.shape.ram_mib
        if pool.gpu:
            found[pool.arch, pool.gpu.product] += pool.gpu_sum
    return found


def of_nodes(nodes: Iterable[Mapping[str, Any]]) -> Amounts:
    """What the nodes of a cluster offer to pods: those that are ready and take some.

    :param nodes: as the API has them
    """
    found: Amounts = Counter()
    for node in nodes:
        conditions = {each["type"]: each["status"] for each in node["status"].get("conditions") or ()}
        if conditions.get("Ready") != "True" or node.get("spec", {}).get("unschedulable"):
            continue
        labels, offered = node["metadata"].get("labels") or {}, node["status"].get("allocatable") or {}
        arch = labels.get("kubernetes.io/arch", "")
        found[arch, CORES] += int(amount(offered.get("cpu", "0")))
        found[arch, MEMORY] += int(amount(offered.get("memory", "0")) / MIB)
        gpus = int(amount(offered.get(GPU_RESOURCE, "0")))
        if gpus:
            found[arch, labels.get(PRODUCT_LABEL, "GPU of no known product")] += gpus
    return found


def of_providers(providers: Iterable[tuple[Mapping[str, Mapping[str, Any]], Iterable[str]]]) -> Amounts:
    """What the hypervisors of OpenStack have, with what is overcommitted.

    :param providers: inventories and traits of each of Placement's resource providers
    """
    found: Amounts = Counter()
    for inventories, traits in providers:
        arch = next((_TRAITS[trait] for trait in traits if trait in _TRAITS), "amd64")
        for name, what in (("VCPU", CORES), ("PCPU", CORES), ("MEMORY_MB", MEMORY)):
            each = inventories.get(name)
            if each:
                found[arch, what] += int((each["total"] - each.get("reserved", 0)) * each.get("allocation_ratio", 1.0))
    return found


def compare(site: Site, *, openshift: Amounts | None, openstack: Amounts | None) -> list[Row]:
    """Set what is granted against what there is.

    :param openshift: what the cluster has; None when it is not known
    :param openstack: what the hypervisors have; None when it is not known
    """
    rows = []
    if site.clouds.openshift:
        given = granted_on_openshift(site)
        wanted: dict[str, int | None] = {CORES: given.cpu, MEMORY: given.memory_mib, **given.gpus}
        rows += _rows("openshift", openshift, wanted)
    if site.clouds.openstack and "compute" in site.clouds.openstack.services:
        quotas = [tenant.openstack.quotas.compute for tenant in site.tenants if tenant.openstack]
        cores, memory = [quota.cores for quota in quotas], [quota.ram_mib for quota in quotas]
        rows += _rows("openstack", openstack, {CORES: _sum(cores), MEMORY: _sum(memory)})
    return rows


def _rows(cloud: str, there: Amounts | None, granted: Mapping[str, int | None]) -> list[Row]:
    products = {what for _, what in there or ()} - {CORES, MEMORY}
    rows = []
    for what in (CORES, MEMORY, *sorted(products | (set(granted) - {CORES, MEMORY}))):
        found = {arch: count for (arch, each), count in (there or {}).items() if each == what}
        if there is not None and not found:
            found = dict.fromkeys(ARCHITECTURES, 0)
        rows.append(Row(cloud=cloud, what=what, there=found, granted=granted.get(what, 0)))
    return rows


def _sum(quotas: list[int]) -> int | None:
    return None if any(quota < 0 for quota in quotas) else sum(quotas)
