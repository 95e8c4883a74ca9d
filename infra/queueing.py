"""Priorities, and who may use what others leave idle.

Kueue's objects are made where the site says that Kueue is there. A ClusterQueue holds what a tenant is granted: cores and
memory in one flavor, GPUs in a flavor for each product. Tenants that borrow from one another are in one cohort. Not managed
here: Kueue itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.objects import metadata
from infra.openshift_project import OpenShiftProject
from infra.providers import OpenShift
from infra.spec import Site, names
from infra.spec.cohorts import cohorts
from infra.spec.node_pools import PRODUCT_LABEL
from infra.spec.openshift import GPU_RESOURCE
from infra.spec.slack import borrowable, lent
from infra.spec.tenant import Tenant

GROUP = "kueue.x-k8s.io"
GENERAL_FLAVOR = "general"


@dataclass(frozen=True, kw_only=True)
class QueueingArgs:
    """Whose queues.

    :param projects: projects on OpenShift, by tenant
    """

    site: Site
    cloud: OpenShift
    projects: Mapping[str, OpenShiftProject]


class Queueing(pulumi.ComponentResource):
    """Priority classes, flavors, queues."""

    def __init__(self, name: str, args: QueueingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:Queueing", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self, provider=args.cloud.provider)
        self._version = args.site.queueing.kueue_version
        for each in args.site.queueing.priority_classes:
            kubernetes.scheduling.v1.PriorityClass(
                each.name,
                metadata=metadata(each.name),
                value=each.value,
                preemption_policy="PreemptLowerPriority" if each.preempts else "Never",
                global_default=False,
                description=each.description,
                opts=self._child,
            )
            if args.site.queueing.kueue:
                self._make("WorkloadPriorityClass", each.name, {"value": each.value, "description": each.description})
        if args.site.queueing.kueue:
            self._queues(args)
        self.register_outputs({})

    def _queues(self, args: QueueingArgs) -> None:
        tenants = [tenant for tenant in args.site.tenants if tenant.name in args.projects and tenant.openshift]
        flavors = [self._make("ResourceFlavor", GENERAL_FLAVOR, {"spec": {}})]
        for product in products(tenants):
            toleration = {"key": PRODUCT_LABEL, "operator": "Equal", "value": product, "effect": "NoSchedule"}
            spec = {"nodeLabels": {PRODUCT_LABEL: product}, "tolerations": [toleration]}
            flavors.append(self._make("ResourceFlavor", names.resource_flavor(product), {"spec": spec}))
        for tenant in tenants:
            project = args.projects[tenant.name]
            queue = names.cluster_queue(tenant)
            made = self._make(
                "ClusterQueue",
                queue,
                {"spec": cluster_queue(args.site, tenant)},
                pulumi.ResourceOptions(depends_on=flavors),
            )
            self._make(
                "LocalQueue",
                queue,
                {"spec": {"clusterQueue": queue}},
                pulumi.ResourceOptions(depends_on=[made]),
                namespace=project.name,
                labels=project.own_labels,
            )

    def _make(
        self,
        kind: str,
        name: str,
        body: dict[str, Any],
        opts: pulumi.ResourceOptions | None = None,
        *,
        namespace: pulumi.Input[str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Manifest:
        return Manifest(
            f"{kind.lower()}-{name}",
            {
                "apiVersion": f"{GROUP}/{self._version}",
                "kind": kind,
                "metadata": metadata(name, namespace=namespace, labels=labels),
                **body,
            },
            pulumi.ResourceOptions.merge(self._child, opts),
        )


class Manifest(pulumi.CustomResource):
    """An object of an API that the Kubernetes package has no class for, with fields beside ``spec``, which its own class for
    such objects does not take.
    """

    def __init__(self, name: str, document: dict[str, Any], opts: pulumi.ResourceOptions) -> None:
        super().__init__(f"kubernetes:{document['apiVersion']}:{document['kind']}", name, document, opts)


def products(tenants: list[Tenant]) -> list[str]:
    """GPU products that tenants are granted, each once, in a fixed order."""
    return sorted({product for tenant in tenants if tenant.openshift for product in tenant.openshift.quotas.gpus})


def cluster_queue(site: Site, tenant: Tenant) -> dict[str, Any]:
    """The ClusterQueue of a tenant: what it is granted, what it may borrow, what it lends."""
    if tenant.openshift is None:
        raise ValueError(f"the tenant {tenant.name} has no project on OpenShift")
    quotas = tenant.openshift.quotas
    more, less = borrowable(site.queueing, tenant.name), lent(site.queueing, tenant.name)
    cohort = next((f"cohort-{min(group)}" for group in cohorts(site.queueing) if tenant.name in group), None)

    def resource(name: str, own: int, borrow: int, lend: int, unit: str = "") -> dict[str, Any]:
        limits = {"borrowingLimit": f"{borrow}{unit}", "lendingLimit": f"{lend}{unit}"} if cohort else {}
        return {"name": name, "nominalQuota": f"{own}{unit}", **limits}

    general = {
        "coveredResources": ["cpu", "memory"],
        "flavors": [
            {
                "name": GENERAL_FLAVOR,
                "resources": [
                    resource("cpu", quotas.limits_cpu, more.cpu, less.cpu),
                    resource("memory", quotas.limits_memory_mib, more.memory_mib, less.memory_mib, "Mi"),
                ],
            }
        ],
    }
    groups = [general]
    used = sorted({*quotas.gpus, *more.gpus})
    if used:
        groups.append(
            {
                "coveredResources": [GPU_RESOURCE],
                "flavors": [
                    {
                        "name": names.resource_flavor(product),
                        "resources": [
                            resource(
                                GPU_RESOURCE, quotas.gpus.get(product, 0), more.gpus.get(product, 0), less.gpus.get(product, 0)
                            )
                        ],
                    }
                    for product in used
                ],
            }
        )
    field = "cohort" if site.queueing.kueue_version == "v1beta1" else "cohortName"
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": names.namespace(tenant)}},
        "queueingStrategy": "BestEffortFIFO",
        "preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"},
        "resourceGroups": groups,
        **({field: cohort} if cohort else {}),
    }
