"""Quarantine: who is in it, who comes in and out, and what happens to what runs there.

What the program makes of it (roles, quotas, servers of pools) is in ``infra.roster`` and in the components. Done here is what
only commands can do: marks in the stack's configuration, and servers and pods of the tenant's own, which no quota ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import kubernetes

from infra.clients import TIMEOUT_S, kubernetes_client, openstack_connection, sentences
from infra.failures import OperatorError
from infra.guards import Risk, Subject
from infra.intents import PROJECT
from infra.roster import MARKS, PURGED, InUse, Mark, lost, read_marks, read_names, read_record, write_marks
from infra.spec import Site, names
from infra.stack import SiteStack
from infra.use import Clouds

STILLED = "chrisproject.org/stilled"
"""Label of what was scaled to zero for a quarantine; the annotation of the same name says what it was. No node
has it, so a DaemonSet that asks for such nodes makes no pods.
"""
STOPPED = "pfmoc-stilled"
"""Tag of servers that were shut off for a quarantine. Nova takes no slash in one."""
STOPS_S = 300
"""Seconds that Nova may take to shut a server off: its guest has one minute, then it is cut off."""
Way = Literal["scaled", "suspended", "kept off nodes"]
"""How something is kept from making pods."""
WHOLE = frozenset({"pfmoc:infra:Tenant", "pfmoc:infra:OpenShiftProject"})
"""Types of the components that hold all that a tenant has in a cloud."""
FIELDS: Mapping[Subject, tuple[str, str, Mapping[str, str]]] = {
    "nova": (
        "compute",
        "compute",
        {"instances": "instances", "cores": "cores", "ram": "ram_mib", "serverGroups": "server_groups"},
    ),
    "cinder": (
        "volume",
        "block-storage",
        {
            **{each: each for each in ("volumes", "gigabytes", "snapshots", "backups", "groups")},
            "backupGigabytes": "backup_gigabytes",
        },
    ),
    "neutron": (
        "network",
        "network",
        {
            "network": "networks",
            "subnet": "subnets",
            "subnetpool": "subnet_pools",
            "port": "ports",
            "router": "routers",
            "floatingip": "floating_ips",
            "securityGroup": "security_groups",
            "securityGroupRule": "security_group_rules",
            "rbacPolicy": "rbac_policies",
        },
    ),
    "octavia": (
        "load_balancer",
        "load-balancer",
        {
            "loadbalancer": "load_balancers",
            "listener": "listeners",
            "pool": "pools",
            "member": "members",
            "healthMonitor": "health_monitors",
            "l7Policy": "l7_policies",
            "l7Rule": "l7_rules",
        },
    ),
}
"""Of each service: its part of the quotas, its name in the site file, and how the provider's inputs are called there."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A tenant whose term has an end.

    :param days: until then; less than nothing when it is past
    :param quarantined: since when it is in quarantine; None: it is not
    """

    tenant: str
    pi: str
    expires_at: date
    days: int
    quarantined: date | None

    def document(self) -> dict[str, Any]:
        """The term for programs."""
        return {
            "tenant": self.tenant,
            "pi": self.pi,
            "expires_at": self.expires_at.isoformat(),
            "days": self.days,
            "quarantined": self.quarantined.isoformat() if self.quarantined else None,
        }


def today() -> date:
    """The day, UTC."""
    return datetime.now(UTC).date()


def terms(site: Site, marks: Mapping[str, Mark], *, day: date, within: int) -> list[Term]:
    """Tenants whose term has ended, or ends within some days; the earliest first."""
    found = [
        Term(
            tenant=tenant.name,
            pi=tenant.pi,
            expires_at=tenant.expires_at,
            days=(tenant.expires_at - day).days,
            quarantined=marks[tenant.name].since if tenant.name in marks else None,
        )
        for tenant in site.tenants
        if tenant.expires_at and tenant.expires_at <= day + timedelta(days=within)
    ]
    return sorted(found, key=lambda term: (term.expires_at, term.tenant))


def marked(stack: SiteStack) -> dict[str, Mark]:
    """Who is in quarantine, by name."""
    return read_marks(stack.config().get(f"{PROJECT}:{MARKS}"))


def quarantined(stack: SiteStack) -> frozenset[str]:
    """Names of those in quarantine."""
    return frozenset(marked(stack))


def keep(stack: SiteStack, marks: Mapping[str, Mark]) -> None:
    """Write down who is to be in quarantine from the next ``up`` on."""
    stack.intents.write(MARKS, write_marks(marks) if marks else None)


def remember(stack: SiteStack) -> list[str]:
    """Quarantine tenants that have left the site file, and release those that have come back to it; see what those in quarantine
    use today.

    :returns: what was done, a sentence each
    """
    config, outputs = stack.config(), stack.outputs()
    before = read_marks(config.get(f"{PROJECT}:{MARKS}"))
    purged = read_names(config.get(f"{PROJECT}:{PURGED}"))
    documents = outputs.get("tenants") or {}
    marks, told = returned(stack.site, before)
    marks = {name: today_of(mark, stack.site, outputs, name) for name, mark in marks.items()}
    for name in lost(documents, stack.site, marks, purged):
        known = marks.get(name)
        mark = known or Mark(since=today(), reason="removed", in_use=in_use(stack.site, outputs, name))
        marks[name] = mark.model_copy(update={"record": read_record(documents[name])})
        until = mark.grace(stack.site.quarantine_days)
        told.append(
            f"{name} is not in the site file any more: it goes into quarantine and keeps its data;"
            f" from {until}: python -m infra purge {stack.name} {name}"
        )
    keep(stack, marks)
    # A purge that was done, and ended before it could say so: another tenant of that name must not go with the next run.
    # A run that fails has the new outputs already, so the state tells what is left; one that is killed still has the old ones.
    left = {*documents, *_in_state(stack.resources())}
    rest = [name for name in purged if name in left and name not in {tenant.name for tenant in stack.site.tenants}]
    if rest != purged:
        stack.set_config(PURGED, json.dumps(rest))
    return told


def _in_state(resources: Iterable[Mapping[str, Any]]) -> set[str]:
    """Tenants of which a state has something: the engine deletes what holds all of one last."""
    return {str(each["urn"]).rpartition("::")[2] for each in resources if each["type"] in WHOLE}


def today_of(mark: Mark, site: Site, outputs: Mapping[str, Any], tenant: str) -> Mark:
    """A mark with what is in use today, and with the day from which the grace counts: that of the first ``up`` that was done."""
    closed = (outputs.get("tenants") or {}).get(tenant, {}).get("quarantined_since")
    try:
        used = in_use(site, outputs, tenant)
    except OperatorError:  # a project that somebody has deleted must not stand in the way of all others
        used = mark.in_use
    return mark.model_copy(update={"in_use": used, "since": mark.since if closed else today()})


def returned(site: Site, marks: Mapping[str, Mark]) -> tuple[dict[str, Mark], list[str]]:
    """Take the marks from tenants that had left the site file and are in it again.

    :returns: the marks that stay, and what was done
    """
    present = {tenant.name for tenant in site.tenants}
    stay, told = {}, []
    for name, mark in marks.items():
        if name in present and mark.reason == "removed":
            told.append(f"{name} is in the site file again: it leaves quarantine")
        else:
            stay[name] = mark.model_copy(update={"record": None}) if name in present else mark
    return stay, told


def enter(stack: SiteStack, tenants: Iterable[str], reason: str) -> None:
    """Mark tenants of the site file; the ``up`` that follows closes their projects.

    :param reason: ``asked`` or ``expired``
    :raises OperatorError: when one is not there
    """
    marks, outputs = marked(stack), stack.outputs()
    for name in tenants:
        _require(stack.site, name)
        if name not in marks:
            mark = {"since": today(), "reason": reason, "in_use": in_use(stack.site, outputs, name)}
            marks[name] = Mark.model_validate(mark)
    keep(stack, marks)


def leave(stack: SiteStack, tenant: str) -> None:
    """Take the mark from a tenant; the ``up`` that follows opens its projects.

    :raises OperatorError: when it has none, or is not in the site file
    """
    marks = marked(stack)
    if tenant not in marks:
        raise OperatorError(f"{tenant} is not in quarantine", f"in quarantine: {', '.join(sorted(marks)) or 'none'}")
    if marks[tenant].record:
        raise OperatorError(f"{tenant} is not in the site file", "put it back there; up releases it then")
    keep(stack, {name: mark for name, mark in marks.items() if name != tenant})


def in_use(site: Site, outputs: Mapping[str, Any], tenant: str) -> InUse:
    """Ask the clouds what of a tenant's quotas is in use.

    :param outputs: the stack's
    :raises OperatorError: when they cannot tell
    """
    project = ((outputs.get("identity") or {}).get("projects") or {}).get(tenant)
    cloud = site.clouds.openstack
    if not project or cloud is None:
        return InUse()
    risks = [
        Risk(resource=f"tenant/{tenant}", tenant=tenant, subject=subject, id=project)
        for subject, (_, service, _) in FIELDS.items()
        if service in cloud.services
    ]
    found: dict[str, dict[str, int]] = {}
    for risk, use in Clouds(site).use(risks):
        if use.unknown:
            raise OperatorError(
                f"what {tenant} uses of {risk.subject} cannot be told: {use.unknown}", "see: python -m infra doctor"
            )
        part, _, fields = FIELDS[risk.subject]
        found[part] = {fields[key]: int(count) for key, count in use.amounts.items() if key in fields and count}
    return InUse.model_validate(found)


def settle(stack: SiteStack) -> list[str]:
    """Stop what runs in closed projects, and start what was stopped in those that are open again.

    :returns: what was done, a sentence each
    """
    marks = marked(stack)
    return [*_settle_servers(stack, marks), *_settle_pods(stack, marks)]


def _settle_servers(stack: SiteStack, marks: Mapping[str, Mark]) -> list[str]:
    cloud = stack.site.clouds.openstack
    projects: Mapping[str, str] = (stack.outputs().get("identity") or {}).get("projects") or {}
    if cloud is None or "compute" not in cloud.services or not projects:
        return []
    closed = [projects[tenant] for tenant in sorted(marks) if tenant in projects]
    opened = frozenset(projects.values()).difference(closed)
    with sentences("servers in quarantine"), openstack_connection(stack.site) as connection:
        servers = Servers(connection.compute, known={str(each.get("id")) for each in stack.resources()})
        told = [f"{what} is shut off" for project in closed for what in servers.still(project)]
        return told + [f"{what} is as before its quarantine" for what in servers.wake(opened)]


def _settle_pods(stack: SiteStack, marks: Mapping[str, Mark]) -> list[str]:
    if stack.site.clouds.openshift is None:
        return []
    namespaces = closed_namespaces(stack.site, marks)
    # Of this site alone: another one on the same cluster has a quarantine of its own.
    opened = {names.namespace(tenant) for tenant in stack.site.tenants if tenant.openshift}.difference(namespaces)
    with sentences("pods in quarantine"), kubernetes_client(stack.site) as client:
        cluster = Workloads(client)
        told = [f"{what} is scaled to zero" for namespace in namespaces for what in cluster.still(namespace)]
        return told + [f"{what} is as before its quarantine" for what in cluster.wake(opened)]


def closed_namespaces(site: Site, marks: Mapping[str, Mark]) -> list[str]:
    """Projects on OpenShift of those in quarantine."""
    tenants = {tenant.name: tenant for tenant in site.tenants}
    tenants |= {name: mark.record.tenant for name, mark in marks.items() if mark.record}
    return [names.namespace(tenants[name]) for name in sorted(marks) if name in tenants and tenants[name].openshift]


class Servers:
    """Servers that tenants have made themselves.

    :param compute: the SDK's proxy
    :param known: ids in the state: servers of pools are the program's to shut off
    """

    def __init__(self, compute: Any, known: Collection[str]) -> None:
        self._compute, self._known = compute, known

    def still(self, project: str) -> Iterator[str]:
        """Shut off those that run in a project; a tag on each remembers it.

        :returns: what was changed
        """
        for server in list(self._compute.servers(all_projects=True, project_id=project, status="ACTIVE")):
            if server.id not in self._known:
                # The tag first: one that is shut off without it would never be started again.
                self._compute.add_tag_to_server(server, STOPPED)
                self._compute.stop_server(server)
                yield _shown(server)

    def wake(self, projects: Collection[str]) -> Iterator[str]:
        """Start those again that were shut off in some projects.

        :returns: what was changed
        """
        for server in list(self._compute.servers(all_projects=True, tags=STOPPED)):
            if server.project_id not in projects or STOPPED not in server.tags:  # a Nova that knows no tags lists all servers
                continue
            if server.status not in ("SHUTOFF", "ACTIVE"):  # shelved or broken meanwhile: Nova changes no tags of it
                continue
            stopping = server.task_state == "powering-off"
            if stopping:
                self._compute.wait_for_server(server, status="SHUTOFF", wait=STOPS_S)
            if stopping or server.status == "SHUTOFF":
                self._compute.start_server(server)
            self._compute.remove_tag_from_server(server, STOPPED)
            yield _shown(server)


def _shown(server: Any) -> str:
    return f"server {server.name} ({server.id})"


class Workloads:
    """What makes pods in a cluster."""

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        apps, batch = kubernetes.client.AppsV1Api(client), kubernetes.client.BatchV1Api(client)
        self._client: Any = client
        self._kinds: tuple[tuple[str, Any, Way], ...] = (
            ("deployment_config", DeploymentConfigs(kubernetes.client.CustomObjectsApi(client)), "scaled"),
            ("deployment", apps, "scaled"),
            ("stateful_set", apps, "scaled"),
            ("replica_set", apps, "scaled"),
            ("replication_controller", kubernetes.client.CoreV1Api(client), "scaled"),
            ("daemon_set", apps, "kept off nodes"),
            ("cron_job", batch, "suspended"),
            ("job", batch, "suspended"),
        )

    def still(self, namespace: str) -> Iterator[str]:
        """Scale to zero, suspend, or keep off all nodes, all in a namespace; what it was is written on each.

        :returns: what was changed
        """
        for kind, api, way in self._kinds:
            listed = getattr(api, f"list_namespaced_{kind}")(namespace, _request_timeout=TIMEOUT_S)
            for item in self._plain(listed):
                change = stilling(item, way)
                if change:
                    yield self._patch(kind, api, item, change)

    def wake(self, namespaces: Collection[str]) -> Iterator[str]:
        """Put back what was stilled in some namespaces.

        :returns: what was changed
        """
        for kind, api, way in self._kinds:
            ask = getattr(api, f"list_{kind}_for_all_namespaces")
            for item in self._plain(ask(label_selector=f"{STILLED}=true", _request_timeout=TIMEOUT_S)):
                if item["metadata"]["namespace"] in namespaces:
                    yield self._patch(kind, api, item, waking(item, way))

    def _plain(self, listed: Any) -> list[dict[str, Any]]:
        return list(self._client.sanitize_for_serialization(listed)["items"])

    def _patch(self, kind: str, api: Any, item: Mapping[str, Any], change: Mapping[str, Any]) -> str:
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        patch = getattr(api, f"patch_namespaced_{kind}")
        patch(name, namespace, change, _content_type="application/merge-patch+json", _request_timeout=TIMEOUT_S)
        return f"{kind.replace('_', ' ')} {namespace}/{name}"


class DeploymentConfigs:
    """OpenShift's DeploymentConfigs, called as the client calls its own kinds; none where the cluster does not know them.

    :param api: the client's, for kinds that it has no model of
    """

    _KIND: Mapping[str, str] = {"group": "apps.openshift.io", "version": "v1", "plural": "deploymentconfigs"}

    def __init__(self, api: Any) -> None:
        self._api = api

    def list_namespaced_deployment_config(self, namespace: str, **asked: Any) -> Any:
        """Those of a namespace."""
        return self._there(self._api.list_namespaced_custom_object, namespace=namespace, **asked)

    def list_deployment_config_for_all_namespaces(self, **asked: Any) -> Any:
        """Those of the cluster."""
        return self._there(self._api.list_cluster_custom_object, **asked)

    def patch_namespaced_deployment_config(self, name: str, namespace: str, change: Mapping[str, Any], **asked: Any) -> None:
        """Change one."""
        self._api.patch_namespaced_custom_object(**self._KIND, namespace=namespace, name=name, body=change, **asked)

    def _there(self, listing: Callable[..., Any], **asked: Any) -> Any:
        try:
            return listing(**self._KIND, **asked)
        except kubernetes.client.ApiException as error:
            if error.status == 404:
                return {"items": []}
            raise


def stilling(item: Mapping[str, Any], way: Way) -> dict[str, Any] | None:
    """The change that stops something from making pods; None where there is nothing to stop.

    :param item: a workload, as the API has it
    """
    spec, status = item.get("spec") or {}, item.get("status") or {}
    owners = {owner.get("kind") for owner in item["metadata"].get("ownerReferences") or ()}
    if owners & {"Deployment", "DeploymentConfig"}:
        return None
    before: int | bool
    if way == "scaled":
        before, after = int(spec.get("replicas") or 0), {"replicas": 0}
        running = before > 0
    elif way == "suspended":
        before, after = bool(spec.get("suspend")), {"suspend": True}
        running = not before and not status.get("completionTime")
    else:
        before, after = True, _nodes("true")
        running = STILLED not in (spec["template"]["spec"].get("nodeSelector") or {})
    if not running:
        return None
    return {"metadata": {"labels": {STILLED: "true"}, "annotations": {STILLED: str(before).lower()}}, "spec": after}


def waking(item: Mapping[str, Any], way: Way) -> dict[str, Any]:
    """The change that takes ``stilling`` back.

    :param item: a workload, as the API has it
    """
    before = (item["metadata"].get("annotations") or {}).get(STILLED, "")
    spec: dict[str, Any]
    if way == "scaled":
        spec = {"replicas": int(before)} if before.isdigit() else {}
    elif way == "suspended":
        spec = {"suspend": before == "true"}
    else:
        spec = _nodes(None)
    return {"metadata": {"labels": {STILLED: None}, "annotations": {STILLED: None}}, "spec": spec}


def _nodes(value: str | None) -> dict[str, Any]:
    """Of a DaemonSet, which nodes it makes pods on: those with a label that none has; None takes that away."""
    return {"template": {"spec": {"nodeSelector": {STILLED: value}}}}


def _require(site: Site, tenant: str) -> None:
    known = [each.name for each in site.tenants]
    if tenant not in known:
        raise OperatorError(f"the site has no tenant '{tenant}'", f"its tenants: {', '.join(sorted(known)) or 'none'}")
