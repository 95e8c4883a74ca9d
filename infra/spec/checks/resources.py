"""Names in the engine's state that are one, though they are two in the file.

Pulumi tells resources of one type apart by name, and the program names what a tenant has ``TENANT-ITEM``: so `dev-data` of the
tenant `chris` and `data` of `chris-dev` would be one, and the engine ends in the midst of its work. What has the tenant's name
alone, or with an ending that is the program's own, cannot be another's and is not looked at; nor are subnets and router
interfaces, which have the name of their network, and rules of security groups, which have that of their group and a number.
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.spec.checks.found import Found, error
from infra.spec.checks.names import roles
from infra.spec.problems import ITEMS, Path, shown
from infra.spec.site import Site
from infra.spec.tenant import Tenant

Named = tuple[str, tuple[str, str], Path]
"""Kind of a resource, owner and item that its name is made of, and the place that they come from."""


def are_told_apart(site: Site) -> Iterator[Found]:
    """Names that are made of two, and are the same."""
    seen: dict[tuple[str, str], tuple[tuple[str, str], Path]] = {}
    for kind, parts, path in named(site):
        name = "-".join(parts)
        before, where = seen.setdefault((kind, name), (parts, path))
        # The same parts from the same place are a name that is there twice, which is told elsewhere.
        if (before, where) != (parts, path):
            cause = f"is the {kind} '{name}' to the engine, and so is {shown(where)}: names are TENANT-NAME there"
            yield error(path, cause, "rename one of them"), ((path[0], ITEMS),)


def named(site: Site) -> Iterator[Named]:
    """What the program gives a name of two parts."""
    for tenant in site.tenants:
        path: Path = ("tenants", tenant.name)
        for kind, item, place in (*_on_openstack(tenant), *_on_openshift(tenant)):
            yield kind, (tenant.name, item), (*path, *place)
    for pool in site.node_pools:
        for node in pool.nodes:
            yield "NodePatch", (pool.name, node), ("node_pools", pool.name, "nodes")


def _people(tenant: Tenant) -> Iterator[tuple[str, str, Path]]:
    for user in tenant.users:
        if user.source == "local":
            yield "User", user.name, ("users", user.name)
        for role in user.openstack_roles:
            yield "UserMembershipV3", f"{role}-{user.name}", ("users", user.name)
    for role in roles(tenant):
        yield "GroupV3", role, ()
        yield "RoleAssignment", role, ()


def _on_openstack(tenant: Tenant) -> Iterator[tuple[str, str, Path]]:
    spec = tenant.openstack
    if spec is None:
        return
    inner: Path = ("openstack",)
    yield "User", "service", inner
    for role in dict.fromkeys(spec.service_roles):
        yield "RoleAssignment", f"service-{role}", (*inner, "service_roles")
    yield from _people(tenant)
    for network in spec.networks:
        yield "Network", network.name, (*inner, "networks", network.name)
    for group in spec.security_groups:
        yield "SecGroup", group.name, (*inner, "security_groups", group.name)
    if spec.application_credential:
        credential = "-".join(["pfmoc", *spec.application_credential.roles])
        yield "ApplicationCredential", credential, (*inner, "application_credential")
    for container in tenant.containers:
        yield "Container", container.name, ("containers", container.name)


def _on_openshift(tenant: Tenant) -> Iterator[tuple[str, str, Path]]:
    spec = tenant.openshift
    if spec is None:
        return
    inner: Path = ("openshift",)
    bound = {user.openshift_role for user in tenant.users if user.openshift_role} | {each.role for each in spec.role_bindings}
    for role in sorted(bound):
        yield "RoleBinding", role, (*inner, "role_bindings")
    for constraint in spec.scc:
        yield "RoleBinding", f"scc-{constraint.name}", (*inner, "scc", constraint.name)
        yield "Role", f"scc-{constraint.name}", (*inner, "scc", constraint.name)
    for secret in spec.image_pull_secrets:
        yield "Secret", secret.name, (*inner, "image_pull_secrets", secret.name)
