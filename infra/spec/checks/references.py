"""Names that refer to something else in the file."""

from __future__ import annotations

from collections.abc import Iterator

from infra.spec.checks.found import Found, error, listed, tenant_exists
from infra.spec.problems import Path
from infra.spec.site import Site


def to_users(site: Site) -> Iterator[Found]:
    """The investigator is a user; federated users have an identity provider."""
    openstack = site.clouds.openstack
    for tenant in site.tenants:
        base: Path = ("tenants", tenant.name)
        users = {user.name for user in tenant.users}
        if "@" not in tenant.pi and tenant.pi not in users:
            cause = f"'{tenant.pi}' is none of its users: {listed(users)}"
            yield error((*base, "pi"), cause, "name a user, or an e-mail address"), ((*base, "users"), (*base, "pi"))
        for user in tenant.users:
            named = user.federated and user.federated.idp
            if user.source == "federated" and tenant.openstack and openstack and not openstack.federation and not named:
                path: Path = (*base, "users", user.name, "federated")
                cause = "no identity provider is named, here or in clouds.openstack.federation"
                yield error(path, cause, "set one of the two"), (("clouds",), (*base, "users"))


def to_classes(site: Site) -> Iterator[Found]:
    """The priority of a tenant is a class."""
    classes = {each.name for each in site.queueing.priority_classes}
    for tenant in site.tenants:
        if tenant.priority is not None and tenant.priority not in classes:
            path: Path = ("tenants", tenant.name, "priority")
            cause = f"'{tenant.priority}' is none of queueing.priority_classes: {listed(classes)}"
            yield error(path, cause, "add the class, or choose one of them"), (("queueing",), path)


def to_security_groups(site: Site) -> Iterator[Found]:
    """The other side of a rule is a group of the same tenant."""
    for tenant in site.tenants:
        groups = tenant.openstack.security_groups if tenant.openstack else ()
        known = {group.name for group in groups}
        base: Path = ("tenants", tenant.name, "openstack", "security_groups")
        for group in groups:
            for index, rule in enumerate(group.rules):
                if rule.group and rule.group not in known:
                    cause = f"'{rule.group}' is none of its security groups: {listed(known)}"
                    yield error((*base, group.name, "rules", index, "group"), cause, "add it, or name one of them"), (base,)


def to_tenants(site: Site) -> Iterator[Found]:
    """The owner of a pool's servers is a tenant with a project on OpenStack."""
    tenants = {tenant.name: tenant for tenant in site.tenants}
    for pool in site.node_pools:
        if pool.tenant is not None:
            yield from tenant_exists(tenants, pool.tenant, ("node_pools", pool.name, "tenant"), on="openstack")


def to_storage_policies(site: Site) -> Iterator[Found]:
    """The policies of containers are those of the Swift cluster, where it is known which it has."""
    known = site.clouds.openstack.storage_policies if site.clouds.openstack else None
    if known is None:
        return
    for tenant in site.tenants:
        for container in tenant.containers:
            if container.storage_policy and container.storage_policy not in known:
                path: Path = ("tenants", tenant.name, "containers", container.name, "storage_policy")
                cause = f"the Swift cluster has no policy '{container.storage_policy}'"
                yield error(path, cause, f"choose one of {listed(known)}"), (("clouds",), path)
