"""What the clouds have of a tenant already, as ``infra.adopt`` wants to know it. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kubernetes.client import ApiClient, CoreV1Api, NetworkingV1Api, RbacAuthorizationV1Api
from kubernetes.client.exceptions import ApiException
from openstack.connection import Connection

from infra.adopt import InOpenShift, InOpenStack, Rule, by_name
from infra.clients import TIMEOUT_S, kubernetes_client, openstack_connection, sentences, swift_connection
from infra.spec import Site, names
from infra.spec.checks.names import roles
from infra.spec.tenant import Tenant


def in_openstack(site: Site, tenant: Tenant) -> InOpenStack | None:
    """Look at a tenant's project on OpenStack.

    :returns: None when there is none
    :raises OperatorError: when that cannot be told, or a name is there twice
    """
    cloud = site.clouds.openstack
    if cloud is None or tenant.openstack is None:
        return None
    with sentences("OpenStack"), openstack_connection(site) as connection:
        domain = tenant.openstack.domain or cloud.domain
        identity: Any = connection.identity
        projects = list(identity.projects(name=names.project(tenant), domain_id=domain))
        if not projects:
            return None
        return InOpenStack(
            project=projects[0].id,
            region=cloud.region or connection.config.get_region_name() or "",
            **_people(connection, tenant, projects[0].id, domain),
            **(_networks(connection, tenant, projects[0].id) if "network" in cloud.services else {}),
            **(_servers(connection, site, tenant, projects[0].id) if "compute" in cloud.services else {}),
            containers=_containers(connection, projects[0].id) if "object-store" in cloud.services else frozenset(),
        )


def _people(connection: Connection, tenant: Tenant, project: str, domain: str) -> dict[str, Any]:
    identity: Any = connection.identity
    wanted = {names.group(tenant, role) for role in roles(tenant)}
    groups = by_name("groups", ((each.name, each.id) for each in identity.groups(domain_id=domain) if each.name in wanted))
    users: dict[str, str] = {}
    for name in (names.service_user(tenant), *(user.name for user in tenant.users)):
        users |= {each.name: each.id for each in identity.users(name=name, domain_id=domain)}
    grants = {
        ((each.group or each.user)["id"], each.role["id"])
        for each in identity.role_assignments(scope_project_id=project)
        if each.group or each.user
    }
    members = {(user.id, group) for group in groups.values() for user in identity.group_users(group)}
    return {
        "groups": groups,
        "users": users,
        "roles": {each.name: each.id for each in identity.roles()},
        "grants": frozenset(grants),
        "members": frozenset(members),
    }


def _wanted(what: str, found: Iterable[Any], wanted: Iterable[str]) -> dict[str, str]:
    """Ids of what has a name that the program gives. The rest is the tenant's own, and may have one name twice, or none."""
    names_of_ours = set(wanted)
    return by_name(what, ((each.name, each.id) for each in found if each.name in names_of_ours))


def _networks(connection: Connection, tenant: Tenant, project: str) -> dict[str, Any]:
    network, spec = connection.network, tenant.openstack
    own = [each.name for each in spec.networks] if spec else []
    groups = [each.name for each in spec.security_groups] if spec else []
    routers = _wanted("routers", network.routers(project_id=project), [tenant.name])
    ports = network.ports(device_id=routers[tenant.name]) if tenant.name in routers else ()
    return {
        "routers": routers,
        "networks": _wanted("networks", network.networks(project_id=project), own),
        "subnets": _wanted("subnets", network.subnets(project_id=project), own),
        "router_ports": {
            fixed["subnet_id"]: port.id
            for port in ports
            if str(port.device_owner).startswith("network:router_interface")
            for fixed in port.fixed_ips
        },
        "security_groups": _wanted("security groups", network.security_groups(project_id=project), groups),
        "rules": tuple(_rule(each) for each in network.security_group_rules(project_id=project)),
    }


def _rule(rule: Any) -> Rule:
    ends = (rule.port_range_min, rule.port_range_max)
    return Rule(
        id=rule.id,
        group=rule.security_group_id,
        direction=rule.direction,
        ethertype=rule.ether_type,
        protocol=rule.protocol,
        ports=None if None in ends else ends,
        cidr=rule.remote_ip_prefix,
        remote_group=rule.remote_group_id,
    )


def _servers(connection: Connection, site: Site, tenant: Tenant, project: str) -> dict[str, Any]:
    compute = connection.compute
    pools = [pool for pool in site.node_pools if pool.source == "nova" and pool.tenant == tenant.name]
    own, servers = {pool.name for pool in pools}, {names.server(pool.name, index) for pool in pools for index in range(pool.size)}
    flavors = {each.name: each for each in compute.flavors(is_public=None) if each.name in own}
    # Of a public one Nova has no list of who may use it, and answers 404.
    private = [each.id for each in flavors.values() if not each.is_public]
    groups = (each for each in compute.server_groups(all_projects=True) if each.project_id == project)
    return {
        "servers": _wanted("servers", compute.servers(all_projects=True, project_id=project), servers),
        "server_groups": _wanted("server groups", groups, own),
        "flavors": {name: each.id for name, each in flavors.items()},
        "flavor_access": frozenset(
            flavor for flavor in private if any(each["tenant_id"] == project for each in compute.get_flavor_access(flavor))
        ),
    }


def _containers(connection: Connection, project: str) -> frozenset[str]:
    _, listed = swift_connection(connection, project).get_account(full_listing=True)
    return frozenset(each["name"] for each in listed)


def in_openshift(site: Site, tenant: Tenant) -> InOpenShift:
    """Look at a tenant's project on OpenShift.

    :returns: empty when there is none
    :raises OperatorError: when that cannot be told
    """
    if site.clouds.openshift is None or tenant.openshift is None:
        return {}
    namespace = names.namespace(tenant)
    with sentences("OpenShift"), kubernetes_client(site) as client:
        try:
            CoreV1Api(client).read_namespace(namespace, _request_timeout=TIMEOUT_S)
        except ApiException as error:
            if error.status == 404:
                return {}
            raise
        return {"Namespace": frozenset({namespace}), **dict(_objects(client, namespace))}


def _objects(client: ApiClient, namespace: str) -> Iterator[tuple[str, frozenset[str]]]:
    core, rbac, networking = CoreV1Api(client), RbacAuthorizationV1Api(client), NetworkingV1Api(client)
    listings: tuple[tuple[str, Any], ...] = (
        ("ResourceQuota", core.list_namespaced_resource_quota),
        ("LimitRange", core.list_namespaced_limit_range),
        ("Secret", core.list_namespaced_secret),
        ("Role", rbac.list_namespaced_role),
        ("RoleBinding", rbac.list_namespaced_role_binding),
        ("NetworkPolicy", networking.list_namespaced_network_policy),
    )
    for kind, listing in listings:
        yield kind, frozenset(each.metadata.name for each in listing(namespace, _request_timeout=TIMEOUT_S).items)
