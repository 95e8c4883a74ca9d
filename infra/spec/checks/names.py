"""Names that are one to a cloud, though they are two in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from infra.spec import names
from infra.spec.checks.found import Found, error
from infra.spec.problems import ITEMS, Path, shown
from infra.spec.site import Site
from infra.spec.tenant import Tenant

Entry = tuple[str, Path]
"""A name as the cloud compares it, and the place that it comes from."""


def _collisions(entries: list[Entry], what: str, rest: Path) -> Iterator[Found]:
    seen: dict[str, Path] = {}
    for name, path in entries:
        if name in seen:
            other = "another of this name" if seen[name] == path else shown(seen[name])
            shortened = name.rpartition("/")[2]
            yield error(path, f"makes {what} '{shortened}', and so does {other}", "rename one of them"), (rest,)
        seen.setdefault(name, path)


def of_tenants(site: Site) -> Iterator[Found]:
    """Projects, groups and users, as Keystone and Kubernetes see them."""
    default = site.clouds.openstack.domain if site.clouds.openstack else "default"
    on_openstack = [each for each in site.tenants if each.openstack]

    def in_domain(tenant: Tenant, name: str) -> str:
        domain = (tenant.openstack.domain if tenant.openstack else None) or default
        return f"{domain}/{names.keystone(name)}"

    lists: tuple[tuple[str, list[Entry]], ...] = (
        ("the tenant", [(each.name, ("tenants", each.name)) for each in site.tenants]),
        ("the Keystone project", [(in_domain(each, names.project(each)), _place(each, "openstack")) for each in on_openstack]),
        (
            "the OpenShift project",
            [(names.namespace(each), _place(each, "openshift")) for each in site.tenants if each.openshift],
        ),
        ("the Keystone user", list(_users(on_openstack, in_domain))),
        ("the Keystone group", list(_groups(on_openstack, in_domain))),
    )
    for what, entries in lists:
        yield from _collisions(entries, what, ("tenants", ITEMS))
    for tenant in on_openstack:
        longest = max([names.service_user(tenant), *(names.group(tenant, role) for role in roles(tenant))], key=len)
        if len(longest) > names.KEYSTONE_NAME:
            cause = f"makes the Keystone name '{longest}' of {len(longest)} characters, and {names.KEYSTONE_NAME} is the most"
            yield error(_place(tenant, "openstack"), cause, "shorten the project's name"), (("tenants", ITEMS),)


def roles(tenant: Tenant) -> list[str]:
    """Keystone roles that its users have, each once, in a fixed order."""
    return sorted({role for user in tenant.users for role in user.openstack_roles})


def _place(tenant: Tenant, cloud: str) -> Path:
    named = getattr(getattr(tenant, cloud), "project", None)
    return ("tenants", tenant.name, cloud, "project") if named else ("tenants", tenant.name)


def _users(tenants: list[Tenant], in_domain: Callable[[Tenant, str], str]) -> Iterator[Entry]:
    for tenant in tenants:
        yield in_domain(tenant, names.service_user(tenant)), _place(tenant, "openstack")
        for user in tenant.users:
            if user.source == "local":
                yield in_domain(tenant, user.name), ("tenants", tenant.name, "users", user.name)


def _groups(tenants: list[Tenant], in_domain: Callable[[Tenant, str], str]) -> Iterator[Entry]:
    for tenant in tenants:
        for role in roles(tenant):
            yield in_domain(tenant, names.group(tenant, role)), _place(tenant, "openstack")


def within_tenants(site: Site) -> Iterator[Found]:
    """What a tenant has several of."""
    for tenant in site.tenants:
        base: Path = ("tenants", tenant.name)
        lists: list[tuple[str, Path, list[str]]] = [
            ("the user", (*base, "users"), [names.keystone(each.name) for each in tenant.users]),
            ("the container", (*base, "containers"), [names.swift(each.name) for each in tenant.containers]),
        ]
        if tenant.openstack:
            inner: Path = (*base, "openstack")
            groups = [each.name for each in tenant.openstack.security_groups]
            lists.append(("the network", (*inner, "networks"), [each.name for each in tenant.openstack.networks]))
            lists.append(("the security group", (*inner, "security_groups"), groups))
        if tenant.openshift:
            inner = (*base, "openshift")
            secrets = [each.name for each in tenant.openshift.image_pull_secrets]
            lists.append(("the pull secret", (*inner, "image_pull_secrets"), secrets))
            lists.append(("the constraint", (*inner, "scc"), [each.name for each in tenant.openshift.scc]))
        for what, path, found in lists:
            yield from _collisions([(each, (*path, each)) for each in found], what, path)


def of_pools(site: Site) -> Iterator[Found]:
    """Pools, nodes, servers and priority classes."""
    pools, classes = ("node_pools",), ("queueing", "priority_classes")
    servers = [
        (f"{each.tenant}/{names.server(each.name, index)}", each.name)
        for each in site.node_pools
        if each.source == "nova"
        for index in range(each.size)
    ]
    lists: tuple[tuple[str, Path, list[Entry]], ...] = (
        ("the pool", pools, [(each.name, (*pools, each.name)) for each in site.node_pools]),
        ("the node", pools, [(node, (*pools, each.name, "nodes")) for each in site.node_pools for node in each.nodes]),
        ("the server", pools, [(name, (*pools, pool)) for name, pool in servers]),
        ("the priority class", classes, [(each.name, (*classes, each.name)) for each in site.queueing.priority_classes]),
    )
    for what, rest, entries in lists:
        yield from _collisions(entries, what, rest)
