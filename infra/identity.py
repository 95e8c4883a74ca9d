"""Whether the clouds are those that the state is of.

A Keystone project has an id that no other Keystone gives out again, and so has a cluster's namespace kube-system. Those of the
state are compared with what is there now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import kubernetes
from openstack.exceptions import NotFoundException

from infra.clients import TIMEOUT_S, kubernetes_client, openstack_connection, sentences
from infra.failures import EXIT_REFUSED, OperatorError
from infra.guards import NAMESPACE, PROJECT
from infra.providers import CLUSTER_NAMESPACE
from infra.spec import Site

ALLOW = "identity"
"""What `--allow` names to go on all the same."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What tells clouds apart.

    :param projects: Keystone's projects: id to id of the domain; None where there is none of the id
    :param cluster: the uid of kube-system; None where it is not known
    """

    projects: Mapping[str, str | None] = field(default_factory=dict)
    cluster: str | None = None

    @classmethod
    def recorded(cls, resources: Iterable[Mapping[str, Any]]) -> Identity:
        """Read it from the resources of a state."""
        projects: dict[str, str | None] = {}
        cluster = None
        for resource in resources:
            outputs = resource.get("outputs") or {}
            if resource.get("type") == PROJECT and resource.get("id"):
                projects[str(resource["id"])] = str(outputs.get("domainId") or "")
            metadata = outputs.get("metadata") or {}
            if resource.get("type") == NAMESPACE and metadata.get("name") == CLUSTER_NAMESPACE:
                cluster = metadata.get("uid")
        return cls(projects=projects, cluster=cluster)


def differences(recorded: Identity, present: Identity) -> list[str]:
    """Say in what the clouds are not those of the state; empty when they are."""
    found = []
    missing = [project for project in recorded.projects if present.projects.get(project) is None]
    if recorded.projects and len(missing) == len(recorded.projects):
        found.append(f"Keystone knows none of the {len(missing)} projects of the state, such as {missing[0]}")
    for project, domain in recorded.projects.items():
        now = present.projects.get(project)
        if now is not None and domain and now != domain:
            found.append(f"the project {project} is in the domain {now}, and by the state in {domain}")
    if recorded.cluster and present.cluster != recorded.cluster:
        found.append(f"the cluster is {present.cluster}, and by the state {recorded.cluster}")
    return found


def present(site: Site, recorded: Identity) -> Identity:
    """Ask the clouds for what the state has of them.

    :raises OperatorError: when they cannot be asked
    """
    projects: dict[str, str | None] = {}
    if recorded.projects:
        with sentences("clouds.openstack"):
            keystone: Any = openstack_connection(site).identity
            for project in recorded.projects:
                try:
                    projects[project] = keystone.get_project(project).domain_id
                except NotFoundException:
                    projects[project] = None
    cluster = None
    if recorded.cluster:
        with sentences("clouds.openshift"):
            core = kubernetes.client.CoreV1Api(kubernetes_client(site))
            metadata = core.read_namespace(CLUSTER_NAMESPACE, _request_timeout=TIMEOUT_S).metadata
            cluster = metadata.uid if metadata else None
    return Identity(projects=projects, cluster=cluster)


def require_same(site: Site, resources: Iterable[Mapping[str, Any]], *, allowed: Iterable[str] = ()) -> None:
    """Be sure that the clouds are those of the state.

    :raises OperatorError: when they are not, or cannot be asked
    """
    if ALLOW in allowed:
        return
    recorded = Identity.recorded(resources)
    found = differences(recorded, present(site, recorded))
    if found:
        raise OperatorError(
            f"refused: these are not the clouds that the state of {site.name} is of: {'; '.join(found)}",
            "check clouds.openstack.cloud, clouds.openshift.context and $PULUMI_BACKEND_URL; if the clouds were made anew under"
            f" the old state, or the projects deleted by hand, give --allow {ALLOW}",
            code=EXIT_REFUSED,
        )
