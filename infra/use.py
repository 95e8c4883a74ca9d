"""How much of what a plan touches is in use, asked of the clouds.

Nothing is changed. What cannot be told is said so, with the reason; a guard then refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import kubernetes
import swiftclient
from openstack.connection import Connection
from openstack.exceptions import NotFoundException, raise_from_response

from infra.clients import TIMEOUT_S, kubernetes_client, openstack_connection, sentences, swift_connection
from infra.failures import OperatorError
from infra.guards import Risk, Subject, Use
from infra.openshift_project import SITE_ANNOTATION
from infra.quantities import amount
from infra.spec import Site

NOVA = {"instances": "instances", "cores": "cores", "ram": "ram", "serverGroups": "server_groups"}
"""Nova's counts that a project has as a whole; its other quotas are of one user or one server."""
CINDER = {
    "volumes": "volumes",
    "gigabytes": "gigabytes",
    "snapshots": "snapshots",
    "backups": "backups",
    "backupGigabytes": "backup_gigabytes",
    "groups": "groups",
}
NEUTRON = {
    "network": "network",
    "subnet": "subnet",
    "subnetpool": "subnetpool",
    "port": "port",
    "router": "router",
    "floatingip": "floatingip",
    "securityGroup": "security_group",
    "securityGroupRule": "security_group_rule",
    "rbacPolicy": "rbac_policy",
}
"""Inputs of the provider's quotas, and how the services call them."""


def backups(cloud: Any, project: str) -> list[Any]:
    """Backups of volumes in a project; none where Cinder's API has no such thing.

    :param cloud: the operator's connection
    """
    try:
        return list(cloud.block_storage.backups(all_projects=True, project_id=project))
    except NotFoundException:
        return []


class Clouds:
    """The clouds of a site, asked when something is wanted of them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._looks: Mapping[Subject, Callable[[Risk], Mapping[str, float]]] = {
            "project": lambda risk: self._project(risk.id),
            "container": lambda risk: self._container(risk.id, risk.container),
            "server": lambda _: {"servers": 1},
            "machines": lambda risk: {"machines": float(risk.id or 0)},
            "namespace": lambda risk: {"persistent volume claims": self._claims(risk.id)},
            "newcomer": lambda risk: {"projects of others": self._of_others(risk.id)},
            "claim": lambda _: {"volume": 1},
            "nova": lambda risk: self._nova(risk.id),
            "cinder": lambda risk: self._cinder(risk.id),
            "neutron": lambda risk: self._neutron(risk.id),
            "octavia": lambda risk: self._octavia(risk.id),
            "account": lambda risk: self._account(risk.id),
            "pods": lambda risk: self._pods(*risk.id.split("/", 1)),
        }

    def use(self, risks: Iterable[Risk]) -> list[tuple[Risk, Use]]:
        """Look at what each risk would cost."""
        return [(risk, self._use(risk)) for risk in risks]

    def _use(self, risk: Risk) -> Use:
        try:
            with sentences():
                return Use(amounts=self._looks[risk.subject](risk))
        except OperatorError as error:
            return Use(unknown=error.cause)

    @cached_property
    def openstack(self) -> Connection:
        """The operator's connection."""
        return openstack_connection(self._site)

    @cached_property
    def _core(self) -> kubernetes.client.CoreV1Api:
        return kubernetes.client.CoreV1Api(kubernetes_client(self._site))

    def _get(self, service: Any, path: str) -> dict[str, Any]:
        """Ask a service of OpenStack, past the SDK's own models, which know not every field."""
        answer = service.get(path)
        raise_from_response(answer)
        return dict(answer.json())

    def _has(self, service: str) -> bool:
        cloud = self._site.clouds.openstack
        return bool(cloud and service in cloud.services)

    def _project(self, project: str) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._has("compute"):
            found["servers"] = len(list(self.openstack.compute.servers(all_projects=True, project_id=project)))
            found["images"] = len(list(self.openstack.image.images(owner=project)))
        if self._has("block-storage"):
            found["volumes"] = len(list(self.openstack.block_storage.volumes(all_projects=True, project_id=project)))
            found["snapshots"] = len(list(self.openstack.block_storage.snapshots(all_projects=True, project_id=project)))
            found["backups"] = len(backups(self.openstack, project))
        if self._has("object-store"):
            found["objects"] = self._account(project)["objects"]
        return found

    def _nova(self, project: str) -> dict[str, float]:
        quotas = self._get(self.openstack.compute, f"/os-quota-sets/{project}/detail")["quota_set"]
        return {ours: float(quotas[theirs]["in_use"]) for ours, theirs in NOVA.items() if theirs in quotas}

    def _cinder(self, project: str) -> dict[str, float]:
        quotas = self._get(self.openstack.block_storage, f"/os-quota-sets/{project}?usage=True")["quota_set"]
        return {ours: float(quotas[theirs]["in_use"]) for ours, theirs in CINDER.items() if theirs in quotas}

    def _neutron(self, project: str) -> dict[str, float]:
        quotas = self._get(self.openstack.network, f"/quotas/{project}/details.json")["quota"]
        return {ours: float(quotas[theirs]["used"]) for ours, theirs in NEUTRON.items() if theirs in quotas}

    def _octavia(self, project: str) -> dict[str, float]:
        service = self.openstack.load_balancer
        pools = list(service.pools(project_id=project))
        policies = list(service.l7_policies(project_id=project))
        return {
            "loadbalancer": len(list(service.load_balancers(project_id=project))),
            "listener": len(list(service.listeners(project_id=project))),
            "pool": len(pools),
            "member": sum(len(pool.members or ()) for pool in pools),
            "healthMonitor": len(list(service.health_monitors(project_id=project))),
            "l7Policy": len(policies),
            "l7Rule": sum(len(policy.rules or ()) for policy in policies),
        }

    def _account(self, project: str) -> dict[str, float]:
        try:
            head = swift_connection(self.openstack, project).head_account()
        except swiftclient.ClientException as error:
            if error.http_status == 404:  # the account is made with its first container
                return {"bytes": 0, "objects": 0}
            raise
        return {"bytes": float(head["x-account-bytes-used"]), "objects": float(head["x-account-object-count"])}

    def _container(self, project: str, name: str) -> dict[str, float]:
        try:
            head = swift_connection(self.openstack, project).head_container(name)
        except swiftclient.ClientException as error:
            if error.http_status == 404:  # somebody has deleted it already
                return {"bytes": 0, "objects": 0}
            raise
        return {"objects": float(head["x-container-object-count"]), "bytes": float(head["x-container-bytes-used"])}

    def _of_others(self, namespace: str) -> int:
        """1 when the cluster has this namespace and the site did not make it; 0 when there is none, or an earlier run made it."""
        try:
            metadata = self._core.read_namespace(namespace, _request_timeout=TIMEOUT_S).metadata
        except kubernetes.client.ApiException as error:
            if error.status == 404:
                return 0
            raise
        annotations = (metadata and metadata.annotations) or {}
        return int(annotations.get(SITE_ANNOTATION) != self._site.name)

    def _claims(self, namespace: str) -> float:
        return len(self._core.list_namespaced_persistent_volume_claim(namespace, _request_timeout=TIMEOUT_S).items)

    def _pods(self, namespace: str, name: str) -> dict[str, float]:
        quota = self._core.read_namespaced_resource_quota(name, namespace, _request_timeout=TIMEOUT_S)
        return {what: amount(used) for what, used in ((quota.status and quota.status.used) or {}).items()}
