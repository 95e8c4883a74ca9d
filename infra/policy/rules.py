"""The rules, as plain functions of a resource's type and inputs.

During a preview an input may be unknown, and the policy SDK raises when it is read. So a rule reads no more than it needs, and
asks whether a key is there without reading it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from infra.objects import MANAGED
from infra.openshift_project import TENANT_LABEL

Props = Mapping[str, Any]

SSH = 22
YEAR = timedelta(days=366)
PRIVILEGED = "privileged"
SCC = "securitycontextconstraints"
OWNER_TAGS = ("managed-by=", "pfmoc-site=", "pfmoc-tenant=")
TAGGED = frozenset(
    f"openstack:{kind}"
    for kind in (
        "identity/project:Project",
        "networking/floatingIp:FloatingIp",
        "networking/network:Network",
        "networking/port:Port",
        "networking/router:Router",
        "networking/secGroup:SecGroup",
        "networking/subnet:Subnet",
    )
)
"""Types that have tags. What else there is (quotas, roles, flavors) has no place for an owner but its project."""
OWNED_BY_METADATA = {
    "openstack:compute/instance:Instance": "pfmoc_tenant",
    "openstack:objectstorage/container:Container": "Pfmoc-Tenant",
}
"""Types that tell their owner in their metadata, and under which key."""
PROJECT = "openstack:identity/project:Project"
NAMESPACE = "kubernetes:core/v1:Namespace"
CLUSTER_NAMESPACE = "kube-system"
"""The cluster's own, which is looked up and never changed: it tells one cluster from another."""
RESOURCE_QUOTA = "kubernetes:core/v1:ResourceQuota"
QUOTAS = {
    "openstack:compute/quotaSetV2:QuotaSetV2": ("compute", "openstack:compute/instance:Instance"),
    "openstack:blockstorage/quoteSetV3:QuoteSetV3": ("volume", "openstack:blockstorage/volume:Volume"),
    "openstack:networking/quotaV2:QuotaV2": ("network", "openstack:networking/network:Network"),
    "openstack:loadbalancer/quota:Quota": ("load balancer", "openstack:loadbalancer/loadBalancer:LoadBalancer"),
}
"""Quotas of OpenStack, called as the project that each is of; what they are of, and a type that shows that the cloud has it."""
_POD_HOLDERS = ("CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "StatefulSet")


def has(props: Props, key: str) -> bool:
    """Say whether a key is there. ``in`` would read the value."""
    return any(each == key for each in props)


def world_open_ssh(kind: str, props: Props) -> Iterator[str]:
    """Nobody opens SSH to everybody."""
    if not kind.endswith(":SecGroupRule") or props.get("direction") != "ingress" or has(props, "remoteGroupId"):
        return
    prefix = str(props.get("remoteIpPrefix") or "0.0.0.0/0")
    if ip_network(prefix, strict=False).prefixlen or props.get("protocol") not in (None, "", "any", "tcp", "6"):
        return
    first, last = props.get("portRangeMin") or 0, props.get("portRangeMax") or 65535
    if first <= SSH <= last:
        yield f"opens SSH to the whole world ({prefix}); name the addresses or the security group that may connect"


def owner(kind: str, props: Props) -> Iterator[str]:
    """Everything tells whose it is, where it has a place for that."""
    if kind in TAGGED:
        tags = [str(tag) for tag in props.get("tags") or ()]
        missing = [want.rstrip("=") for want in OWNER_TAGS if not any(tag.startswith(want) for tag in tags)]
        if missing:
            yield f"has no tag {', '.join(missing)}; make it with infra.providers.tags"
    key = OWNED_BY_METADATA.get(kind)
    if key and not (has(props, "metadata") and has(props["metadata"], key)):
        yield f"has no metadata {key}; set it to the tenant's name"
    if _is_kubernetes_object(kind):
        metadata = props.get("metadata") or {}
        labels = metadata.get("labels") or {}
        wanted = [*MANAGED, TENANT_LABEL] if kind == NAMESPACE or _in_tenant(kind, metadata) else list(MANAGED)
        missing = [label for label in wanted if not has(labels, label)]
        if missing:
            yield f"has no label {', '.join(missing)}; make its metadata with infra.objects.metadata"


def privileged_grant(kind: str, props: Props) -> Iterator[str]:
    """Nobody gets leave to use the constraint ``privileged``."""
    last = kind.rpartition(":")[2]
    if last in ("Role", "ClusterRole"):
        for rule in props.get("rules") or ():
            if _admits_privileged(rule):
                yield "lets pods use the constraint 'privileged'; name another one in resourceNames"
    elif last in ("RoleBinding", "ClusterRoleBinding"):
        role = (props.get("roleRef") or {}).get("name")
        if role in ("cluster-admin", f"system:openshift:scc:{PRIVILEGED}"):
            yield f"binds the role '{role}', with which pods may be privileged; bind admin, edit or view"
    elif last == "SecurityContextConstraints" and props.get("allowPrivilegedContainer"):
        yield "is a constraint that lets containers be privileged; set allowPrivilegedContainer: false"


def privileged_pod(kind: str, props: Props) -> Iterator[str]:
    """No pod is privileged, and no project lets one be."""
    last = kind.rpartition(":")[2]
    if last == "Namespace":
        labels = (props.get("metadata") or {}).get("labels") or {}
        if labels.get("pod-security.kubernetes.io/enforce") == PRIVILEGED:
            yield "lets every pod be privileged; set pod_security to restricted or baseline"
    elif last in _POD_HOLDERS:
        for container in _containers(props.get("spec") or {}):
            if (container.get("securityContext") or {}).get("privileged"):
                yield f"has a privileged container, '{container.get('name')}'; take securityContext.privileged away"


def credential_term(kind: str, props: Props, *, now: datetime | None = None) -> Iterator[str]:
    """A credential ends, and within a year."""
    now = now or datetime.now(UTC)
    last = kind.rpartition(":")[2]
    if last == "ApplicationCredential":
        end = props.get("expiresAt")
        if not end:
            yield "never ends; set application_credential.expires_at or valid_days"
        elif datetime.fromisoformat(str(end)) > now + YEAR:
            yield f"is good until {end}, more than a year ahead; set an earlier day"
        if props.get("unrestricted"):
            yield "may make further credentials, which would outlive it; set unrestricted: false"
    elif last == "Ec2CredentialV3":
        yield "never ends, as EC2 credentials do; use an application credential"
    elif kind == "kubernetes:core/v1:Secret" and props.get("type") == "kubernetes.io/service-account-token":
        yield "is a token that never ends; ask the API for one (TokenRequest), or mount a projected one"


def without_quota(resources: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Every project has its quotas: on OpenShift a ResourceQuota, on OpenStack one of each service that the stack makes use of.

    :param resources: type and Pulumi's name of each resource of the stack
    :returns: the name of the project, and what is missing
    """
    names: dict[str, set[str]] = {}
    for kind, name in resources:
        names.setdefault(kind, set()).add(name)
    for name in sorted(names.get(NAMESPACE, set()) - names.get(RESOURCE_QUOTA, set()) - {CLUSTER_NAMESPACE}):
        yield name, "the OpenShift project has no ResourceQuota"
    for kind, (what, used) in QUOTAS.items():
        if kind in names or used in names:
            for name in sorted(names.get(PROJECT, set()) - names.get(kind, set())):
                yield name, f"the OpenStack project has no {what} quota"


def _is_kubernetes_object(kind: str) -> bool:
    return kind.startswith("kubernetes:") and not kind.endswith(("Patch", "List"))


def _in_tenant(kind: str, metadata: Props) -> bool:
    """Machines are in a project of the cluster, not of a tenant."""
    return has(metadata, "namespace") and not kind.endswith(":MachineSet")


def _admits_privileged(rule: Props) -> bool:
    resources, verbs = list(rule.get("resources") or ()), list(rule.get("verbs") or ())
    groups, named = list(rule.get("apiGroups") or ()), list(rule.get("resourceNames") or ())
    return (
        ("*" in groups or "security.openshift.io" in groups)
        and ("*" in resources or SCC in resources)
        and ("*" in verbs or "use" in verbs)
        and (not named or PRIVILEGED in named)
    )


def _containers(spec: Props) -> Iterator[Props]:
    """The containers of a pod, and of what makes pods."""
    for key in ("jobTemplate", "template"):
        if has(spec, key):
            yield from _containers(spec[key].get("spec") or {})
    for key in ("containers", "initContainers", "ephemeralContainers"):
        yield from spec.get(key) or ()
