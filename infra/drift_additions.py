"""What somebody has added beside the resources of a state: the engine looks at what it has made, and at nothing else.

Looked for is what widens who may reach a tenant's things: rules in the kit's security groups, members of its groups, roles in its
projects, role bindings and network policies in its projects on OpenShift. It is told and left there: only a person knows what it
is for. Left out, on purpose, is what belongs to others:

- what Neutron makes with each group, which lets everything out; the security group ``default``, which is the tenant's;
- bindings whose names begin with ``system:``, which OpenShift gives to every project, and what another object owns;
- the daemon's own network policy, which Ansible makes;
- what a tenant makes itself: servers, volumes, networks, further groups, pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.client import NetworkingV1Api, RbacAuthorizationV1Api

from infra.clients import TIMEOUT_S, kubernetes_client, openstack_connection, sentences
from infra.daemon import NAME as DAEMON
from infra.drift import MISSING, Finding, Verdict
from infra.failures import OperatorError
from infra.guards import NAMESPACE, PROJECT
from infra.providers import CLUSTER_NAMESPACE
from infra.spec import Site

SECURITY_GROUP = "openstack:networking/secGroup:SecGroup"
RULE = "openstack:networking/secGroupRule:SecGroupRule"
GROUP = "openstack:identity/groupV3:GroupV3"
MEMBERSHIP = "openstack:identity/userMembershipV3:UserMembershipV3"
ASSIGNMENT = "openstack:identity/roleAssignment:RoleAssignment"
IN_NAMESPACES = {
    "RoleBinding": "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
    "NetworkPolicy": "kubernetes:networking.k8s.io/v1:NetworkPolicy",
}


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a state has of one type.

    :param id: in the cloud
    :param name: in the program
    """

    id: str
    urn: str
    name: str
    inputs: Mapping[str, Any]


def held(resources: Iterable[Mapping[str, Any]], kind: str) -> list[Held]:
    """Find the resources of a type in a state."""
    return [
        Held(id=str(each["id"]), urn=str(each["urn"]), name=str(each["urn"]).split("::", 3)[3], inputs=each.get("inputs") or {})
        for each in resources
        if each["type"] == kind and each.get("id") and not each.get("delete")
    ]


def additions(site: Site, resources: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Ask the clouds for what has been added."""
    everything = list(resources)
    looks: list[tuple[str, Callable[[], list[Finding]]]] = []
    if site.clouds.openstack and held(everything, PROJECT):
        looks.append(("OpenStack", lambda: _in_openstack(site, everything)))
    if site.clouds.openshift and held(everything, NAMESPACE):
        looks.append(("OpenShift", lambda: _in_openshift(site, everything)))
    found: list[Finding] = []
    for cloud, look in looks:
        try:
            with sentences():
                found += look()
        except OperatorError as error:
            name = f"what was added by hand on {cloud}"
            found.append(Finding(verdict=Verdict.UNKNOWN, kind="", name=name, why=error.cause))
    return found


def _in_openstack(site: Site, resources: list[Mapping[str, Any]]) -> list[Finding]:
    with openstack_connection(site) as connection:
        return [
            *rules(connection.network, resources),
            *members(connection.identity, resources),
            *grants(connection.identity, resources),
        ]


def _in_openshift(site: Site, resources: list[Mapping[str, Any]]) -> list[Finding]:
    with kubernetes_client(site) as client:
        rbac, networking = RbacAuthorizationV1Api(client), NetworkingV1Api(client)
        listings = {
            "RoleBinding": rbac.list_namespaced_role_binding,
            "NetworkPolicy": networking.list_namespaced_network_policy,
        }
        return [finding for kind, listing in listings.items() for finding in objects(kind, listing, resources)]


def rules(network: Any, resources: list[Mapping[str, Any]]) -> Iterator[Finding]:
    """Rules in the kit's security groups that the state does not have."""
    known = {each.id for each in held(resources, RULE)}
    for group in held(resources, SECURITY_GROUP):
        for rule in network.security_group_rules(security_group_id=group.id):
            if rule.id not in known and not _of_neutron(rule):
                yield _added("SecGroup", group.name, "rules", f"{_shown(rule)} ({rule.id})")


def _of_neutron(rule: Any) -> bool:
    """Everything may go out: so it is in each group that Neutron makes."""
    limits = (rule.protocol, rule.port_range_min, rule.remote_ip_prefix, rule.remote_group_id)
    return rule.direction == "egress" and not any(limits)


def _shown(rule: Any) -> str:
    """A rule as people read it."""
    ends = [str(end) for end in (rule.port_range_min, rule.port_range_max) if end is not None]
    other = rule.remote_ip_prefix or (f"group {rule.remote_group_id}" if rule.remote_group_id else "anybody")
    words = [rule.direction, rule.ether_type, rule.protocol or "every protocol", "-".join(dict.fromkeys(ends)), other]
    return " ".join(word for word in words if word)


def members(identity: Any, resources: list[Mapping[str, Any]]) -> Iterator[Finding]:
    """Members of the kit's groups that the state does not have."""
    known = {(each.inputs.get("userId"), each.inputs.get("groupId")) for each in held(resources, MEMBERSHIP)}
    for group in held(resources, GROUP):
        for user in identity.group_users(group.id):
            if (user.id, group.id) not in known:
                yield _added("GroupV3", group.name, "members", f"{user.name} ({user.id})")


def grants(identity: Any, resources: list[Mapping[str, Any]]) -> Iterator[Finding]:
    """Roles in the kit's projects that the state does not have."""
    known = {
        (each.inputs.get("userId") or each.inputs.get("groupId"), each.inputs.get("projectId"), each.inputs.get("roleId"))
        for each in held(resources, ASSIGNMENT)
    }
    for project in held(resources, PROJECT):
        for each in identity.role_assignments(scope_project_id=project.id, include_names=True):
            who, kind = each.user or each.group, "user" if each.user else "group"
            if (who["id"], project.id, each.role["id"]) not in known:
                text = f"{each.role.get('name')} for the {kind} {who.get('name')} ({who['id']})"
                yield _added("Project", project.name, "roles", text)


def objects(kind: str, listing: Callable[..., Any], resources: list[Mapping[str, Any]]) -> Iterator[Finding]:
    """Objects of a kind in the kit's namespaces that the state does not have."""
    known = {each.id for each in held(resources, IN_NAMESPACES[kind])}
    for namespace in held(resources, NAMESPACE):
        if namespace.id == CLUSTER_NAMESPACE:  # only looked up
            continue
        for each in listing(namespace.id, _request_timeout=TIMEOUT_S).items:
            name = str(each.metadata.name)
            of_others = name.startswith("system:") or each.metadata.owner_references or (kind, name) == ("NetworkPolicy", DAEMON)
            if f"{namespace.id}/{name}" not in known and not of_others:
                yield _added(kind, f"{namespace.id}/{name}", "", "")


def _added(kind: str, name: str, field: str, found: str) -> Finding:
    wanted = MISSING if found else ""
    return Finding(
        verdict=Verdict.DRIFTED, kind=kind, name=name, why="added in the cloud", field=field, found=found, wanted=wanted
    )
