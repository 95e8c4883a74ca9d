"""What the node pools of a cluster have, and what its tenants are granted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from infra.spec.site import Site


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """Amounts of what jobs need.

    :param known: False when nothing is known of the machines, so that nothing can be said
    :param cpu: cores; None when a pool does not tell its shape
    :param memory_mib: MiB; None likewise
    :param gpus: GPUs, by product
    """

    known: bool
    cpu: int | None
    memory_mib: int | None
    gpus: Counter[str] = field(default_factory=Counter)


def capacity(site: Site) -> Headroom:
    """Add up what the node pools have. Servers of Nova count too: they join the cluster."""
    pools = site.node_pools
    shapes = [(pool.size, pool.shape) for pool in pools]
    whole = bool(pools) and all(shape for _, shape in shapes)
    products: Counter[str] = Counter()
    for pool in pools:
        if pool.gpu:
            products[pool.gpu.product] += pool.gpu_sum
    return Headroom(
        known=bool(pools),
        cpu=sum(size * shape.vcpus for size, shape in shapes if shape) if whole else None,
        memory_mib=sum(size * shape.ram_mib for size, shape in shapes if shape) if whole else None,
        gpus=products,
    )


def granted(site: Site) -> Headroom:
    """Add up what the tenants may use on OpenShift."""
    quotas = [tenant.openshift.quotas for tenant in site.tenants if tenant.openshift]
    products: Counter[str] = Counter()
    for quota in quotas:
        products.update(quota.gpus)
    return Headroom(
        known=True,
        cpu=sum(quota.limits_cpu for quota in quotas),
        memory_mib=sum(quota.limits_memory_mib for quota in quotas),
        gpus=products,
    )
