"""Whether GPUs work in their machines, and whether quotas fit what there is."""

from __future__ import annotations

from collections.abc import Iterator

from infra.spec import gpus
from infra.spec.checks.found import Found, error, listed, warning
from infra.spec.headroom import Headroom, capacity, granted
from infra.spec.openshift import OpenShiftQuotas
from infra.spec.problems import Path
from infra.spec.site import Site

POOLS: tuple[Path, ...] = (("node_pools",),)


def gpus_work(site: Site) -> Iterator[Found]:
    """Product, machine, driver and CUDA go together."""
    for pool in site.node_pools:
        if pool.gpu:
            for field, cause, fix in gpus.judge(pool.arch, pool.gpu.product, pool.gpu.driver, pool.gpu.cuda).problems:
                path: Path = ("node_pools", pool.name, "gpu", field)
                yield error(path, cause, fix), (path, ("node_pools", pool.name, "arch"))


def quotas_fit(site: Site) -> Iterator[Found]:
    """No tenant is granted what no pool has; it is told where all together are granted more than there is."""
    have = capacity(site)
    if not have.known:
        return
    for tenant in site.tenants:
        if tenant.openshift:
            yield from _one(tenant.name, tenant.openshift.quotas, have)
    yield from _together(have, granted(site))


def _one(tenant: str, quotas: OpenShiftQuotas, have: Headroom) -> Iterator[Found]:
    base: Path = ("tenants", tenant, "openshift", "quotas")
    for product, count in quotas.gpus.items():
        there = have.gpus.get(product, 0)
        if count and not there:
            cause = f"no node pool has {product}; GPUs of the pools: {listed(have.gpus)}"
            yield error((*base, "gpus", product), cause, "add a pool, or grant another product"), POOLS
        elif count > there:
            cause = f"{count} are granted, and all pools together have {there}"
            yield error((*base, "gpus", product), cause, f"grant {there} or fewer, or enlarge a pool"), POOLS
    for field, count, total in (
        ("limits_cpu", quotas.limits_cpu, have.cpu),
        ("limits_memory_mib", quotas.limits_memory_mib, have.memory_mib),
    ):
        if total is not None and count > total:
            cause = f"{count} are granted, and all pools together have {total}"
            yield warning((*base, field), cause, "jobs of that size wait for ever; grant less, or enlarge a pool"), POOLS


def _together(have: Headroom, given: Headroom) -> Iterator[Found]:
    rests: tuple[Path, ...] = (*POOLS, ("tenants",))
    fix = "who comes late waits; grant less, enlarge a pool, or lend through queueing.borrowing"
    sums: list[tuple[str, int | None, int | None]] = [
        (product, count, have.gpus.get(product)) for product, count in sorted(given.gpus.items())
    ]
    sums += [("cores", given.cpu, have.cpu), ("MiB of memory", given.memory_mib, have.memory_mib)]
    for what, count, total in sums:
        if count is not None and total is not None and count > total:
            cause = f"all together are granted {count} {what}, and the pools have {total}"
            yield warning(("tenants",), cause, fix), rests


def servers_fit(site: Site) -> Iterator[Found]:
    """Servers of pools are in a tenant's project, so its quota must hold them, and it must have a network."""
    for tenant in site.tenants:
        pools = [pool for pool in site.node_pools if pool.source == "nova" and pool.tenant == tenant.name]
        if not pools or not tenant.openstack:
            continue
        quota = tenant.openstack.quotas.compute
        needs = [("instances", sum(pool.size for pool in pools), quota.instances)]
        if all(pool.shape for pool in pools):
            needs.append(("cores", sum(pool.size * pool.shape.vcpus for pool in pools if pool.shape), quota.cores))
            needs.append(("ram_mib", sum(pool.size * pool.shape.ram_mib for pool in pools if pool.shape), quota.ram_mib))
        base: Path = ("tenants", tenant.name, "openstack")
        for field, need, limit in needs:
            if limit != -1 and need > limit:
                path: Path = (*base, "quotas", "compute", field)
                cause = f"is {limit}, and its node pools ({listed(pool.name for pool in pools)}) need {need}"
                yield error(path, cause, f"grant {need} or more, or make the pools smaller"), (*POOLS, path)
        if not tenant.openstack.networks:
            cause = "there is none, and the servers of its node pools need one"
            yield error((*base, "networks"), cause, "add a network"), (*POOLS, (*base, "networks"))
