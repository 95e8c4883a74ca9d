"""What tenants and pools want of a cloud that the site does not have."""

from __future__ import annotations

from collections.abc import Iterator

from infra.spec.checks.found import Found, error, warning
from infra.spec.problems import Path
from infra.spec.site import Site
from infra.spec.tenant import Tenant

CLOUDS: tuple[Path, ...] = (("clouds",),)


def tenants_have_theirs(site: Site) -> Iterator[Found]:
    """Each tenant has a project, on clouds that the site has."""
    for tenant in site.tenants:
        base: Path = ("tenants", tenant.name)
        rests: tuple[Path, ...] = ((*base, "openstack"), (*base, "openshift"), (*base, "containers"), *CLOUDS)
        for field, cloud in (("openstack", "OpenStack"), ("openshift", "OpenShift")):
            if getattr(tenant, field) and not getattr(site.clouds, field):
                yield error((*base, field), f"the site has no {cloud}", f"set clouds.{field}, or remove this"), rests
        if not tenant.openstack and not tenant.openshift:
            yield error(base, "has no project on either cloud", "set openstack or openshift; {} takes all defaults"), rests
        if tenant.containers and not tenant.openstack:
            cause = "containers are in a project on OpenStack, and the tenant has none"
            yield error((*base, "containers"), cause, "set openstack: {}"), rests
        yield from _object_store(site, tenant)


def _object_store(site: Site, tenant: Tenant) -> Iterator[Found]:
    if not (tenant.openstack and site.clouds.openstack) or "object-store" in site.clouds.openstack.services:
        return
    fix = "add object-store to clouds.openstack.services, or remove this"
    base: Path = ("tenants", tenant.name)
    if tenant.containers:
        yield error((*base, "containers"), "the cloud has no object store", fix), CLOUDS
    if tenant.openstack.quotas.object_bytes is not None:
        yield error((*base, "openstack", "quotas", "object_bytes"), "the cloud has no object store", fix), CLOUDS


def pools_have_theirs(site: Site) -> Iterator[Found]:
    """Each pool's nodes come from a cloud that the site has, and what is set of them is theirs to have."""
    openstack, openshift = site.clouds.openstack, site.clouds.openshift
    for pool in site.node_pools:
        at: Path = ("node_pools", pool.name, "source")
        if pool.source == "nova" and not (openstack and {"compute", "network"} <= set(openstack.services)):
            cause = "the site has no OpenStack with compute and network"
            yield error(at, cause, "set clouds.openstack, or choose another source"), CLOUDS
        if pool.source != "nova" and not openshift:
            yield error(at, "the site has no OpenShift", "set clouds.openshift, or choose source nova"), CLOUDS
        if pool.source == "machineset" and openshift and not openshift.machine_cluster:
            cause = "MachineSets need the cluster's infrastructure name"
            yield error(at, cause, "set clouds.openshift.machine_cluster"), CLOUDS
        for field in ("labels", "taints"):
            if pool.source == "nova" and getattr(pool, field):
                path: Path = ("node_pools", pool.name, field)
                cause = "nobody sets them on servers of Nova, which are no nodes of the cluster yet"
                yield warning(path, cause, "set them where the servers join a cluster"), (path, at)
