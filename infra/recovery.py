"""After an operation that was ended with violence.

The engine writes down what it is about to make before it makes it, so a state may hold creations of which nobody knows whether
they happened. The engine would make such things again. Here each is looked for under the name that it has by the site file: one
that is there is taken into the state, one that is not is forgotten. What Keystone, Swift, Nova and Kubernetes make only once
under a name or an id needs no such look: making it again finds it.

A replacement has in the state what it replaces. The engine makes it afterwards where the kind has a name, and beside it where
it has none: a rule, the access to a flavor. One that was made afterwards takes the other's place. One that was made beside is
taken away: were it put into the state, and the site file be what it was again, the cloud would refuse to make the other anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from infra.clients import openstack_connection, sentences
from infra.drift import unsealed
from infra.failures import OperatorError
from infra.spec import Site


class Stack(Protocol):
    """What is needed of a stack."""

    site: Site

    def require_free(self) -> None:
        """Be sure that nobody else is at work on the state."""
        ...

    def export(self, *, afresh: bool = False) -> dict[str, Any]:
        """The state.

        :param afresh: read it again, as others may have changed it
        """
        ...

    def import_state(self, document: Mapping[str, Any]) -> None:
        """Put another state in the place of this one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Where:
    """As whom, and in which project, a resource is made.

    :param user: name of the user that its provider acts as
    :param domain: id of that user's domain
    :param known: ids of resources of that kind that the state has: none of them is what is looked for
    """

    project: str = ""
    user: str = ""
    domain: str = ""
    known: frozenset[str] = frozenset()


Find = Callable[[Any, Mapping[str, Any], Where], str | None]
"""Takes the connection, the resource's inputs and where it is made; the id of what is there, or None."""


def recover(stack: Stack, connect: Callable[[Site], Any] = openstack_connection) -> list[str]:
    """Settle what an operation left open.

    :returns: what was done, a sentence each
    :raises Locked: when the operation may not have ended
    :raises OperatorError: when a cloud cannot be asked, or somebody else changes the state
    """
    if not _pending(stack.export()):
        return []
    # In this order: what is read when nobody is at work has all that others did before.
    stack.require_free()
    document = stack.export(afresh=True)
    deployment, pending = document.get("deployment") or {}, _pending(document)
    if not pending:
        return []
    resources = list(deployment.get("resources") or [])
    cloud = cache(lambda: connect(stack.site))
    # Plain pulumi goes past what is open, and may leave the same open once more: what it wrote last stands first.
    once: dict[tuple[str, str], dict[str, Any]] = {}
    for operation in pending:
        once.setdefault((operation["type"], operation["resource"]["urn"]), operation)
    told = [_settle(operation, resources, cloud) for operation in once.values()]
    stack.require_free()
    if stack.export(afresh=True) != document:
        raise OperatorError("somebody else has changed the state meanwhile", "run it again")
    stack.import_state({**document, "deployment": {**deployment, "resources": resources, "pending_operations": []}})
    return told


def _pending(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was begun and has not ended, by what the state says."""
    return list((document.get("deployment") or {}).get("pending_operations") or [])


def _settle(operation: Mapping[str, Any], resources: list[dict[str, Any]], cloud: Callable[[], Any]) -> str:
    """Settle one operation.

    :param resources: the state's, which are changed
    :returns: what was done
    """
    resource, begun = operation["resource"], operation["type"]
    kind, name = str(resource["type"]), str(resource["urn"]).split("::", 3)[3]
    what = f"{kind.rpartition(':')[2]} {name}"
    there = [each for each in resources if each["urn"] == resource["urn"]]
    old = _replaced(resource, there)
    beside = bool(old and not old.get("pendingReplacement"))
    if begun != "creating" or kind not in (TAKERS if beside else FINDERS) or (there and not old):
        return f"the last run was ended while {begun} {what}; it is done again"
    with sentences(name):
        # One that is to be taken away is looked for all the same: it may be gone.
        known = None if beside else resource.get("id")
        found = known or FINDERS[kind](cloud(), resource.get("inputs") or {}, where(resource, resources))
        if found and beside:
            TAKERS[kind](cloud(), found)
    if not found:
        return f"{what} was not made by the last run, which was ended; it is made now"
    made = {**resource, "id": found, "outputs": resource.get("outputs") or resource.get("inputs") or {}}
    if not old:
        resources.append(made)
    else:
        # Where the other was: all that it needs stands before that, and what needs it after.
        resources[resources.index(old)] = {**old, "delete": False} if beside else made
    if beside:
        return f"{what} was made by the last run, which was ended, beside what it replaces; it is taken away and made again"
    return f"{what} was made by the last run, which was ended; it is taken over"


def _replaced(resource: Mapping[str, Any], there: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """What a resource was to replace, of those with its URN: one that was made later was made by a later run.

    The engine has it say when the other was made. Once it is made itself, it says when that was, and has its id: so it stands in
    a state that is written for another resource before it is written itself. The one that is replaced is marked as deleted then.
    """
    living = [each for each in there if not each.get("delete")]
    return next((each for each in living or there if each["id"] != resource.get("id") and _made(each) <= _made(resource)), None)


def _made(resource: Mapping[str, Any]) -> datetime:
    """When a resource was made, as far as the state says."""
    return datetime.fromisoformat(resource.get("created") or "0001-01-01T00:00:00Z")


def where(resource: Mapping[str, Any], resources: Collection[Mapping[str, Any]]) -> Where:
    """The project that a resource is made in: its own word, else that of the provider that makes it."""
    inputs = resource.get("inputs") or {}
    name = str(resource.get("provider") or "").rpartition("::")[0]
    provider = next((each.get("inputs") or {} for each in resources if each["urn"] == name), {})
    project = inputs.get("tenantId") or inputs.get("projectId") or provider.get("tenantId")
    return Where(
        project=str(unsealed(project) or ""),
        user=str(unsealed(provider.get("userName")) or ""),
        domain=str(unsealed(provider.get("userDomainId")) or ""),
        known=frozenset(str(each["id"]) for each in resources if each.get("type") == resource["type"] and each.get("id")),
    )


def _first(found: Iterable[Any], place: Where) -> str | None:
    return next((str(each.id) for each in found if str(each.id) not in place.known), None)


def _named(service: str, kind: str) -> Find:
    """Find in Neutron by name and project."""
    return lambda cloud, inputs, place: _first(
        getattr(getattr(cloud, service), kind)(name=inputs["name"], project_id=place.project), place
    )


def _subnet(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    return _first(cloud.network.subnets(name=inputs["name"], project_id=place.project, network_id=inputs["networkId"]), place)


def _interface(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    ports = cloud.network.ports(device_id=inputs["routerId"])
    return _first((port for port in ports if any(ip["subnet_id"] == inputs["subnetId"] for ip in port.fixed_ips)), place)


def _rule(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    wanted = {
        "direction": inputs["direction"],
        "ether_type": inputs["ethertype"],
        "protocol": inputs.get("protocol"),
        "port_range_min": inputs.get("portRangeMin"),
        "port_range_max": inputs.get("portRangeMax"),
        "remote_ip_prefix": inputs.get("remoteIpPrefix"),
        "remote_group_id": inputs.get("remoteGroupId"),
    }
    rules = cloud.network.security_group_rules(security_group_id=inputs["securityGroupId"])
    return _first((rule for rule in rules if all(getattr(rule, key) == value for key, value in wanted.items())), place)


def _in_domain(kind: str) -> Callable[[Any, Mapping[str, Any]], Iterator[Any]]:
    """Find in Keystone by name and domain. That may be somebody else's: then the cloud refused ours."""
    return lambda cloud, inputs: (
        each
        for each in getattr(cloud.identity, kind)(name=inputs["name"], domain_id=inputs.get("domainId"))
        if each.name == inputs["name"]
    )


def _project(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    """Ours has the kit's tags (``infra.providers.tags``) from its first moment on."""
    wanted = set(inputs.get("tags") or ())
    return _first((each for each in _in_domain("projects")(cloud, inputs) if wanted and wanted <= set(each.tags or ())), place)


def _user(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    wanted = inputs.get("defaultProjectId")
    return _first((each for each in _in_domain("users")(cloud, inputs) if wanted and each.default_project_id == wanted), place)


def _group(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    wanted = inputs.get("description")
    return _first((each for each in _in_domain("groups")(cloud, inputs) if wanted and each.description == wanted), place)


def _server(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    servers = cloud.compute.servers(all_projects=True, project_id=place.project, name=f"^{inputs['name']}$")
    return _first((server for server in servers if server.name == inputs["name"] and server.project_id == place.project), place)


def _server_group(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    groups = cloud.compute.server_groups(all_projects=True)
    return _first((group for group in groups if group.name == inputs["name"] and group.project_id == place.project), place)


def _flavor(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    flavors = cloud.compute.flavors(details=True, is_public=None)
    return _first((flavor for flavor in flavors if flavor.name == inputs["name"]), place)


def _flavor_access(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    granted = cloud.compute.get_flavor_access(inputs["flavorId"])
    there = any(each.get("tenant_id") == inputs["tenantId"] for each in granted)
    access = f"{inputs['flavorId']}/{inputs['tenantId']}"
    return access if there and access not in place.known else None


def _credential(cloud: Any, inputs: Mapping[str, Any], place: Where) -> str | None:
    """Delete the credential that is there: its secret was told once, and nobody has heard it."""
    for user in cloud.identity.users(name=place.user, domain_id=place.domain):
        for credential in cloud.identity.application_credentials(user.id):
            if user.name == place.user and credential.name == inputs["name"] and credential.id not in place.known:
                cloud.identity.delete_application_credential(user.id, credential.id)
    return None


def _take_rule(cloud: Any, rule: str) -> None:
    cloud.network.delete_security_group_rule(rule)


def _take_access(cloud: Any, access: str) -> None:
    flavor, project = access.split("/")
    cloud.compute.flavor_remove_tenant_access(flavor, project)


FINDERS: Mapping[str, Find] = {
    "openstack:compute/flavor:Flavor": _flavor,
    "openstack:compute/flavorAccess:FlavorAccess": _flavor_access,
    "openstack:compute/instance:Instance": _server,
    "openstack:compute/serverGroup:ServerGroup": _server_group,
    "openstack:identity/applicationCredential:ApplicationCredential": _credential,
    "openstack:identity/groupV3:GroupV3": _group,
    "openstack:identity/project:Project": _project,
    "openstack:identity/user:User": _user,
    "openstack:networking/network:Network": _named("network", "networks"),
    "openstack:networking/router:Router": _named("network", "routers"),
    "openstack:networking/routerInterface:RouterInterface": _interface,
    "openstack:networking/secGroup:SecGroup": _named("network", "security_groups"),
    "openstack:networking/secGroupRule:SecGroupRule": _rule,
    "openstack:networking/subnet:Subnet": _subnet,
}
"""What is made twice, or refused, when it is made again."""

TAKERS: Mapping[str, Callable[[Any, str], None]] = {
    "openstack:compute/flavorAccess:FlavorAccess": _take_access,
    "openstack:networking/secGroupRule:SecGroupRule": _take_rule,
}
"""What takes away one that was made beside what it replaces."""
