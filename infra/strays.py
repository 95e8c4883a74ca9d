"""What tenants have made in their projects themselves: the state does not know it, so nothing of it goes with the state.

Keystone deletes a project without asking the other services, so all of this would be left without an owner. What holds data is
counted by the guards too (``infra.use``); the rest is told, and is an operator's to delete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import swiftclient

from infra.clients import openstack_connection, sentences, swift_connection
from infra.failures import OperatorError
from infra.guards import CONTAINER, PROJECT
from infra.spec import Site
from infra.use import backups


@dataclass(frozen=True, kw_only=True)
class Stray:
    """Something of a tenant that the state does not know.

    :param id: in the cloud; a container's name
    :param data: it holds data
    """

    tenant: str
    kind: str
    id: str
    name: str = ""
    data: bool = False

    def __str__(self) -> str:
        return f"the {self.kind} {self.name or self.id} of {self.tenant}" + (f" ({self.id})" if self.name else "")


Look = Callable[[Any, str], Iterable[Any]]

LOOKS: Mapping[str, tuple[tuple[str, bool, Look], ...]] = {
    "compute": (
        ("server", True, lambda cloud, project: cloud.compute.servers(all_projects=True, project_id=project)),
        ("image", True, lambda cloud, project: cloud.image.images(owner=project)),
    ),
    "block-storage": (
        ("volume", True, lambda cloud, project: cloud.block_storage.volumes(all_projects=True, project_id=project)),
        ("snapshot", True, lambda cloud, project: cloud.block_storage.snapshots(all_projects=True, project_id=project)),
        ("backup", True, backups),
    ),
    "network": (
        ("floating address", False, lambda cloud, project: cloud.network.ips(project_id=project)),
        ("router", False, lambda cloud, project: cloud.network.routers(project_id=project)),
        ("network", False, lambda cloud, project: cloud.network.networks(project_id=project)),
    ),
    "load-balancer": (("load balancer", False, lambda cloud, project: cloud.load_balancer.load_balancers(project_id=project)),),
}
"""By service: kinds, whether they hold data, and how a project's are listed."""


def strays(site: Site, resources: Iterable[Mapping[str, Any]]) -> list[Stray]:
    """Look for them in all projects of a state.

    :raises OperatorError: when a cloud cannot be asked
    """
    everything = list(resources)
    projects = {str(each["urn"]).rpartition("::")[2]: str(each["id"]) for each in everything if each["type"] == PROJECT}
    cloud = site.clouds.openstack
    if cloud is None or not projects:
        return []
    known = {str(each.get("id")) for each in everything}
    containers = {str(each["urn"]).split("::", 3)[3] for each in everything if each["type"] == CONTAINER}
    found: list[Stray] = []
    with sentences("OpenStack"), openstack_connection(site) as connection:
        for tenant, project in projects.items():
            found += _listed(connection, cloud.services, tenant, project, known)
            if "object-store" in cloud.services:
                found += [
                    Stray(tenant=tenant, kind="container", id=name, data=True)
                    for name in _containers(connection, project)
                    if f"{tenant}-{name}" not in containers
                ]
    return found


def _listed(connection: Any, services: Iterable[str], tenant: str, project: str, known: set[str]) -> Iterator[Stray]:
    for service in services:
        for kind, data, look in LOOKS.get(service, ()):
            for each in look(connection, project):
                if each.id not in known:
                    yield Stray(tenant=tenant, kind=kind, id=each.id, name=each.name or "", data=data)


def _containers(connection: Any, project: str) -> list[str]:
    try:
        return [str(each["name"]) for each in swift_connection(connection, project).get_account(full_listing=True)[1]]
    except swiftclient.ClientException as error:
        if error.http_status == 404:  # the account is made with its first container
            return []
        raise


def told(site: Site, resources: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence for each, for the list of what stays."""
    try:
        return [f"{each}, which the state does not know" for each in strays(site, resources)]
    except OperatorError as error:
        return [f"what tenants have made themselves, of which nothing can be told: {error.cause}"]
