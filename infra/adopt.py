"""Take over what a tenant has already, without making it anew.

Each resource that the program would make and that a cloud has is imported under its id. It comes into the state as it is, and
nothing of it is changed then: what differs from the site file, the next ``preview`` shows. Found is what has the names that the
program gives, in the tenant's own project; what has other names is left alone, and stays the tenant's.

Never taken over: application credentials, whose secret Keystone tells once; labels and taints of nodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from infra.failures import OperatorError
from infra.spec import Site, names
from infra.spec.checks.names import roles
from infra.spec.openshift import OpenShiftTenant
from infra.spec.tenant import Tenant

ADOPTED = "adopt"
"""Key of the stack's configuration: type and name of what is imported, to its id."""
AS_SERVICE_USER = (
    "openstack:objectstorage/container:Container",
    "openstack:compute/serverGroup:ServerGroup",
    "openstack:compute/instance:Instance",
)
"""Types that are read and made as the tenant's service user."""
USER = "openstack:identity/user:User"
GRANT = "openstack:identity/roleAssignment:RoleAssignment"


@dataclass(frozen=True, kw_only=True)
class Import:
    """A resource that is taken over.

    :param kind: Pulumi's type
    :param name: Pulumi's name
    :param id: as the provider imports it
    """

    kind: str
    name: str
    id: str

    @property
    def key(self) -> str:
        """It in the stack's configuration."""
        return f"{self.kind}::{self.name}"

    def document(self) -> dict[str, str]:
        """It for programs."""
        return {"type": self.kind, "name": self.name, "id": self.id}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of a security group, as Neutron has it."""

    id: str
    group: str
    direction: str
    ethertype: str
    protocol: str | None
    ports: tuple[int, int] | None
    cidr: str | None
    remote_group: str | None


@dataclass(frozen=True, kw_only=True)
class InOpenStack:
    """What there is of a tenant on OpenStack, by name, as ids.

    :param region: region of the quotas' ids
    :param grants: groups (or users) and roles that are assigned in the project: ids
    :param members: users and groups: ids
    :param router_ports: of the tenant's router: subnet to port
    :param flavor_access: ids of flavors that the project may use
    """

    project: str
    region: str
    groups: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    grants: frozenset[tuple[str, str]] = frozenset()
    members: frozenset[tuple[str, str]] = frozenset()
    networks: Mapping[str, str] = field(default_factory=dict)
    subnets: Mapping[str, str] = field(default_factory=dict)
    routers: Mapping[str, str] = field(default_factory=dict)
    router_ports: Mapping[str, str] = field(default_factory=dict)
    security_groups: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    containers: frozenset[str] = frozenset()
    servers: Mapping[str, str] = field(default_factory=dict)
    server_groups: Mapping[str, str] = field(default_factory=dict)
    flavors: Mapping[str, str] = field(default_factory=dict)
    flavor_access: frozenset[str] = frozenset()


InOpenShift = Mapping[str, frozenset[str]]
"""Names of what there is in a tenant's project, by kind; the project itself as ``Namespace``."""


def plan(site: Site, tenant: Tenant, openstack: InOpenStack | None, openshift: InOpenShift) -> list[Import]:
    """Say what of a tenant is taken over.

    :param openstack: what there is; None when there is no project
    :param openshift: likewise; empty when there is no project
    """
    found: list[Import] = []
    if tenant.openstack and openstack and site.clouds.openstack:
        for part in (_project, _service_user, _people, _quotas, _networks, _security_groups, _object_store, _servers):
            found += part(site, tenant, openstack)
    if tenant.openshift and names.namespace(tenant) in openshift.get("Namespace", ()):
        found += _in_openshift(tenant, openshift)
    return found


def without(imports: Iterable[Import], resources: Iterable[Mapping[str, Any]]) -> list[Import]:
    """Leave out what the state has already.

    :param resources: of the state
    """
    known = _known(resources)
    return [each for each in imports if each.key not in known]


def written(imports: Iterable[Import]) -> str:
    """Write them for the stack's configuration."""
    return json.dumps({each.key: each.id for each in imports}, sort_keys=True)


def known_left_out(text: str, resources: Iterable[Mapping[str, Any]]) -> str | None:
    """The stack's configuration without what the state has; None when nothing is left.

    :param text: as it was written
    """
    known = _known(resources)
    rest = {key: each for key, each in json.loads(text).items() if key not in known}
    return json.dumps(rest, sort_keys=True) if rest else None


def _known(resources: Iterable[Mapping[str, Any]]) -> set[str]:
    return {f"{each['type']}::{each['urn'].rpartition('::')[2]}" for each in resources}


def take_over(config: pulumi.Config) -> None:
    """Have the program import what the stack's configuration names, as it is. To be called before anything is made."""
    wanted: dict[str, str] = config.get_object(ADOPTED) or {}
    if not wanted:
        return

    def imported(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        found = wanted.get(f"{args.type_}::{args.name}")
        # A preview would read what it imports, as a user that only `up` makes: there it is shown as made.
        if found is None or (args.type_ in AS_SERVICE_USER and pulumi.runtime.is_dry_run()):
            return None
        # An import ends where a field differs from the program's; those that do are changed by the next run.
        as_it_is = pulumi.ResourceOptions(import_=found, ignore_changes=["*"])
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, as_it_is))

    pulumi.runtime.register_stack_transformation(imported)


def by_name(what: str, found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Ids by names, of which each must be there once.

    :param what: what they are, for people
    :param found: names and ids
    :raises OperatorError: when a name is there twice
    """
    ids: dict[str, str] = {}
    for name, each in found:
        if name in ids:
            raise OperatorError(
                f"there are two {what} called '{name}': {ids[name]} and {each}", "rename one of them, or delete it"
            )
        ids[name] = each
    return ids


def _project(_: Site, tenant: Tenant, found: InOpenStack) -> Iterator[Import]:
    yield Import(kind="openstack:identity/project:Project", name=tenant.name, id=found.project)


def _service_user(_: Site, tenant: Tenant, found: InOpenStack) -> Iterator[Import]:
    service = found.users.get(names.service_user(tenant))
    if service is None:
        return
    yield Import(kind=USER, name=f"{tenant.name}-service", id=service)
    for role in tenant.openstack.service_roles if tenant.openstack else ():
        if (service, found.roles.get(role, "")) in found.grants:
            name = f"{tenant.name}-service-{role}"
            yield Import(kind=GRANT, name=name, id=f"/{found.project}//{service}/{found.roles[role]}")


def _people(_: Site, tenant: Tenant, found: InOpenStack) -> Iterator[Import]:
    for each in tenant.users:
        if each.source == "local" and each.name in found.users:
            yield Import(kind=USER, name=f"{tenant.name}-{each.name}", id=found.users[each.name])
    for role in roles(tenant):
        group = found.groups.get(names.group(tenant, role))
        if group is None:
            continue
        yield Import(kind="openstack:identity/groupV3:GroupV3", name=f"{tenant.name}-{role}", id=group)
        if (group, found.roles.get(role, "")) in found.grants:
            yield Import(kind=GRANT, name=f"{tenant.name}-{role}", id=f"/{found.project}/{group}//{found.roles[role]}")
        for each in tenant.users:
            member = found.users.get(each.name)
            if role in each.openstack_roles and member and (member, group) in found.members:
                kind = "openstack:identity/userMembershipV3:UserMembershipV3"
                yield Import(kind=kind, name=f"{tenant.name}-{role}-{each.name}", id=f"{member}/{group}")


def _quotas(site: Site, tenant: Tenant, found: InOpenStack) -> Iterator[Import]:
    """Every project has quotas, its own or those of all."""
    kinds = {
        "compute": "openstack:compute/quotaSetV2:QuotaSetV2",
        "block-storage": "openstack:blockstorage/quoteSetV3:QuoteSetV3",
        "network": "openstack:networking/quotaV2:QuotaV2",
        "load-balancer": "openstack:loadbalancer/quota:Quota",
    }
    services = site.clouds.openstack.services if site.clouds.openstack else ()
    for service, kind in kinds.items():
        if service in services:
            yield Import(kind=kind, name=tenant.name, id=f"{found.project}/{found.region}")


def _networks(_: Site, tenant: Tenant, found: InOpenStack) -> Iterator[Import]:
    wanted = tenant.openstack.networks if tenant.openstack else ()
    router = found.routers.get(tenant.name)
    if wanted and router:
        yield Import(kind="openstack:networking/router:Router", name=tenant.name, id=router)
    for each in wanted:
        key = f"{tenant.name}-{each.name}"
        subnet = found.subnets.get(each.name)
        if each.name in found.networks:
            yield Import(kind="openstack:networking/network:Network", name=key, id=found.networks[each.name])
        if subnet:
            yield Import(kind="openstack:networking/subnet:Subnet", name=key, id=subnet)
        if router and subnet and subnet in found.router_ports:
            kind = "openstack:networking/routerInterface:RouterInterface"
            yield Import(kind=kind, name=key, id=found.router_ports[subnet])


def _security_groups(_: Site, tenant: Tenant, found: InOpenStack) -> Iterator[Import]:
    for group in tenant.openstack.security_groups if tenant.openstack else ():
        own = found.security_groups.get(group.name)
        if own is None:
            continue
        yield Import(kind="openstack:networking/secGroup:SecGroup", name=f"{tenant.name}-{group.name}", id=own)
        for index, rule in enumerate(group.rules):
            remote = found.security_groups.get(rule.group) if rule.group else None
            wanted = (rule.direction, rule.ethertype, rule.protocol, rule.ports, rule.cidr, remote)
            there = next((each.id for each in found.rules if each.group == own and _content(each) == wanted), None)
            if there and (remote or not rule.group):
                kind = "openstack:networking/secGroupRule:SecGroupRule"
                yield Import(kind=kind, name=f"{tenant.name}-{group.name}-{index}", id=there)


def _content(rule: Rule) -> tuple[object, ...]:
    return (rule.direction, rule.ethertype, rule.protocol, rule.ports, rule.cidr, rule.remote_group)


def _object_store(site: Site, tenant: Tenant, found: InOpenStack) -> Iterator[Import]:
    if not site.clouds.openstack or "object-store" not in site.clouds.openstack.services:
        return
    if tenant.openstack and tenant.openstack.quotas.object_bytes is not None:
        yield Import(kind="openstack:objectstorage/accountV1:AccountV1", name=tenant.name, id=found.project)
    for each in tenant.containers:
        if each.name in found.containers:
            kind = "openstack:objectstorage/container:Container"
            yield Import(kind=kind, name=f"{tenant.name}-{each.name}", id=each.name)


def _servers(site: Site, tenant: Tenant, found: InOpenStack) -> Iterator[Import]:
    for pool in site.node_pools:
        if pool.source != "nova" or pool.tenant != tenant.name:
            continue
        flavor = found.flavors.get(pool.name)
        if pool.shape and flavor:
            yield Import(kind="openstack:compute/flavor:Flavor", name=pool.name, id=flavor)
            if flavor in found.flavor_access:
                kind = "openstack:compute/flavorAccess:FlavorAccess"
                yield Import(kind=kind, name=pool.name, id=f"{flavor}/{found.project}")
        if pool.anti_affinity and pool.name in found.server_groups:
            yield Import(kind="openstack:compute/serverGroup:ServerGroup", name=pool.name, id=found.server_groups[pool.name])
        for index in range(pool.size):
            server = names.server(pool.name, index)
            if server in found.servers:
                yield Import(kind="openstack:compute/instance:Instance", name=server, id=found.servers[server])


def _policies(spec: OpenShiftTenant) -> list[str]:
    """Network policies that the program may make; the last where something is allowed out."""
    policy = spec.network_policy
    own = ["allow-from-router"] * policy.from_router + ["allow-same-project"] * policy.same_project
    return ["default-deny", "allow-dns", *own, "allow-egress"]


def _in_openshift(tenant: Tenant, found: InOpenShift) -> Iterator[Import]:
    spec = tenant.openshift
    namespace = names.namespace(tenant)
    yield Import(kind="kubernetes:core/v1:Namespace", name=tenant.name, id=namespace)
    if spec is None:
        return
    bound = {each.openshift_role for each in tenant.users if each.openshift_role} | {each.role for each in spec.role_bindings}
    constraints = [f"scc-{each.name}" for each in spec.scc]
    wanted = [
        ("kubernetes:core/v1:ResourceQuota", tenant.name, names.resource_quota(tenant)),
        ("kubernetes:core/v1:LimitRange", tenant.name, names.limit_range(tenant)),
        *(
            ("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", f"{tenant.name}-{each}", each)
            for each in [*sorted(bound), *constraints]
        ),
        *(("kubernetes:rbac.authorization.k8s.io/v1:Role", f"{tenant.name}-{each}", each) for each in constraints),
        *(("kubernetes:networking.k8s.io/v1:NetworkPolicy", f"{tenant.name}-{each}", each) for each in _policies(spec)),
        *(("kubernetes:core/v1:Secret", f"{tenant.name}-{each.name}", each.name) for each in spec.image_pull_secrets),
    ]
    for kind, name, there in wanted:
        if there in found.get(kind.rpartition(":")[2], ()):
            yield Import(kind=kind, name=name, id=f"{namespace}/{there}")
