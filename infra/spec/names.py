"""The names that the clouds give to what a site file names: each is made in one place, so that a retry finds what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.spec.tenant import Tenant

KEYSTONE_NAME = 64
"""Longest name of a Keystone project, group or user that all releases take; NERC keeps to it too."""
SERVICE_SUFFIX = "-pfmoc"


def project(tenant: Tenant) -> str:
    """The Keystone project."""
    return (tenant.openstack.project if tenant.openstack else None) or tenant.name


def namespace(tenant: Tenant) -> str:
    """The OpenShift project, which is a Kubernetes namespace."""
    return (tenant.openshift.project if tenant.openshift else None) or tenant.name


def service_user(tenant: Tenant) -> str:
    """The Keystone user that the program acts as inside the tenant's project."""
    return f"{project(tenant)}{SERVICE_SUFFIX}"


def group(tenant: Tenant, role: str) -> str:
    """The Keystone group of those who have a role in the tenant's project."""
    return f"{project(tenant)}-{role}"


def resource_quota(tenant: Tenant) -> str:
    """The ResourceQuota, as NERC names it."""
    return f"{namespace(tenant)}-project"


def limit_range(tenant: Tenant) -> str:
    """The LimitRange, as NERC names it."""
    return f"{namespace(tenant)}-limits"


def server(pool: str, index: int) -> str:
    """A server of a node pool, from 0."""
    return f"{pool}-{index}"


def ansible_group(pool: str) -> str:
    """The inventory group of a node pool: Ansible takes no ``-`` in groups."""
    return "pool_" + pool.replace("-", "_")


def resource_flavor(product: str) -> str:
    """Kueue's ResourceFlavor of a GPU product; Kubernetes takes no capitals in names."""
    return product.lower()


def cluster_queue(tenant: Tenant) -> str:
    """Kueue's ClusterQueue of a tenant; the LocalQueue in its project has the name too."""
    return tenant.name


def keystone(name: str) -> str:
    """A name as Keystone's database compares it: without regard to case, with MySQL's usual collation."""
    return name.casefold()


def swift(name: str) -> str:
    """A container's name as Swift keeps it: case matters, bytes count."""
    return name
