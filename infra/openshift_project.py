"""A tenant's project on OpenShift.

What is made is the Namespace: OpenShift's Project is a view of it that can be made and updated, and not applied on the server's
side; NERC changes labels there too. Labels and annotations are those of NERC's ColdFront plugin (`openshift.py` of
nerc-project/coldfront-plugin-cloud): the label ``nerc.mghpcc.org/project``, the annotations ``cf_pi``,
``openshift.io/display-name`` and ``openshift.io/requester``. What else it sets depends on the cluster
(``clouds.openshift.labels``) or on the tenant (``openshift.annotations``). What OpenShift adds to a Project (ranges of user ids,
bindings of service accounts) its controllers add to every Namespace.

Not managed here: users and identities, which come from the identity provider; what the tenant makes in its project; the
credentials in pull secrets, which are the stack's secret configuration.

Quotas are changed in place by server-side apply: there is no moment without one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.objects import metadata
from infra.providers import OpenShift
from infra.shared_list import Place, SharedList
from infra.spec import Site, names
from infra.spec.clouds import Egress, OpenShiftCloud
from infra.spec.openshift import GPU_RESOURCE, Limits, OpenShiftQuotas, OpenShiftTenant
from infra.spec.queueing import Slack
from infra.spec.slack import borrowable
from infra.spec.tenant import Tenant

PROJECT_LABEL = "nerc.mghpcc.org/project"
TENANT_LABEL = "chrisproject.org/tenant"
SITE_ANNOTATION = "chrisproject.org/site"
RBAC = "rbac.authorization.k8s.io"
NOBODY = {"ipBlock": {"cidr": "255.255.255.255/32"}}
"""The other side of no connection. A policy that denies names it, and is not left without rules: a list that is not there is
nobody's to server-side apply (and the provider leaves empty ones out), so a rule that somebody adds would stay, unseen.
"""


@dataclass(frozen=True, kw_only=True)
class OpenShiftProjectArgs:
    """What a project is made of.

    :param quarantined: nobody has rights in it and its quotas are zero; all it has stays
    """

    tenant: Tenant
    site: Site
    cloud: OpenShift
    quarantined: bool = False


class OpenShiftProject(pulumi.ComponentResource):
    """Namespace, ResourceQuota, LimitRange, RoleBindings, NetworkPolicies, pull secrets, use of constraints."""

    name: pulumi.Output[str]
    """The namespace, once it is there."""

    def __init__(self, name: str, args: OpenShiftProjectArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:OpenShiftProject", name, None, opts)
        spec = args.tenant.openshift
        if spec is None:
            raise ValueError(f"the tenant {name} has no project on OpenShift")
        self._child = pulumi.ResourceOptions(parent=self, provider=args.cloud.provider)
        self._pulumi_name, self._tenant = name, args.tenant
        self.namespace = names.namespace(args.tenant)
        made = kubernetes.core.v1.Namespace(
            name,
            metadata=metadata(
                self.namespace,
                labels=labels(args.tenant, args.cloud.spec, spec),
                annotations=_annotations(args.tenant, args.site.name, spec),
            ),
            opts=self._child,
        )
        self.name = made.metadata.apply(lambda made: str(made.name))
        more = borrowable(args.site.queueing, args.tenant.name) if args.site.queueing.kueue else Slack()
        kubernetes.core.v1.ResourceQuota(
            name,
            metadata=self._meta(names.resource_quota(args.tenant)),
            spec=kubernetes.core.v1.ResourceQuotaSpecArgs(hard=hard(spec.quotas, more, zero=args.quarantined)),
            opts=self._child,
        )
        kubernetes.core.v1.LimitRange(
            name,
            metadata=self._meta(names.limit_range(args.tenant)),
            spec=kubernetes.core.v1.LimitRangeSpecArgs(limits=[_limit(spec.limits)]),
            opts=self._child,
        )
        if not args.quarantined:
            self._role_bindings(spec)
            self._constraints(spec)
        self._network_policies(spec, args.cloud.spec)
        self._pull_secrets(spec, args.cloud.spec, made)
        self.register_outputs({"name": self.name})

    def _meta(self, name: str) -> kubernetes.meta.v1.ObjectMetaArgs:
        return metadata(name, namespace=self.name, labels=self.own_labels)

    @property
    def own_labels(self) -> dict[str, str]:
        """Labels of all that is made in the project: whose it is."""
        return {TENANT_LABEL: self._tenant.name}

    def _role_bindings(self, spec: OpenShiftTenant) -> None:
        """Bind each role once, under its own name as NERC does, to all who have it."""
        subjects: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for user in self._tenant.users:
            if user.openshift_role:
                subjects[user.openshift_role].append(("User", user.name))
        for binding in spec.role_bindings:
            subjects[binding.role] += [("User", user) for user in binding.users]
            subjects[binding.role] += [("Group", group) for group in binding.groups]
            subjects[binding.role] += [("ServiceAccount", account) for account in binding.service_accounts]
        for role, bound in sorted(subjects.items()):
            self._bind(role, "ClusterRole", role, list(dict.fromkeys(bound)))

    def _bind(self, name: str, kind: str, role: str, bound: list[tuple[str, str]]) -> None:
        kubernetes.rbac.v1.RoleBinding(
            f"{self._pulumi_name}-{name}",
            metadata=self._meta(name),
            role_ref=kubernetes.rbac.v1.RoleRefArgs(api_group=RBAC, kind=kind, name=role),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(kind=each, name=who, namespace=self.name)
                if each == "ServiceAccount"
                else kubernetes.rbac.v1.SubjectArgs(kind=each, name=who, api_group=RBAC)
                for each, who in bound
            ],
            opts=self._child,
        )

    def _constraints(self, spec: OpenShiftTenant) -> None:
        for each in spec.scc:
            role = f"scc-{each.name}"
            kubernetes.rbac.v1.Role(
                f"{self._pulumi_name}-{role}",
                metadata=self._meta(role),
                rules=[
                    kubernetes.rbac.v1.PolicyRuleArgs(
                        api_groups=["security.openshift.io"],
                        resources=["securitycontextconstraints"],
                        resource_names=[each.name],
                        verbs=["use"],
                    )
                ],
                opts=self._child,
            )
            self._bind(role, "Role", role, [("ServiceAccount", account) for account in each.service_accounts])

    def _network_policies(self, spec: OpenShiftTenant, cloud: OpenShiftCloud) -> None:
        policy = spec.network_policy
        self._policy("default-deny", {"policyTypes": ["Ingress", "Egress"], "ingress": [_from(NOBODY)], "egress": [_to(NOBODY)]})
        ports = [{"port": port, "protocol": protocol} for port in cloud.dns_ports for protocol in ("UDP", "TCP")]
        dns = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cloud.dns_namespace}}}
        self._policy("allow-dns", {"policyTypes": ["Egress"], "egress": [{"to": [dns], "ports": ports}]})
        if policy.from_router:
            router = {"namespaceSelector": {"matchLabels": dict(cloud.router_labels)}}
            self._policy("allow-from-router", {"policyTypes": ["Ingress"], "ingress": [{"from": [router]}]})
        if policy.same_project:
            own: dict[str, Any] = {"podSelector": {}}
            self._policy(
                "allow-same-project",
                {"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [own]}], "egress": [{"to": [own]}]},
            )
        ways = [*cloud.egress, *policy.egress]
        if ways:
            self._policy("allow-egress", {"policyTypes": ["Egress"], "egress": [_egress(way) for way in ways]})

    def _policy(self, name: str, spec: dict[str, Any]) -> None:
        kubernetes.networking.v1.NetworkPolicy(
            f"{self._pulumi_name}-{name}",
            metadata=self._meta(name),
            spec={"podSelector": {}, **spec},
            opts=self._child,
        )

    def _pull_secrets(self, spec: OpenShiftTenant, cloud: OpenShiftCloud, namespace: pulumi.Resource) -> None:
        if not spec.image_pull_secrets:
            return
        config = pulumi.Config("pfmoc")
        for each in spec.image_pull_secrets:
            document = config.get_secret(each.config_key)
            if document is None:
                raise pulumi.RunError(
                    f"the pull secret {each.name} of the tenant {self._tenant.name} is not in the stack's configuration;"
                    f" set it: pulumi config set --secret pfmoc:{each.config_key} < .dockerconfigjson"
                )
            kubernetes.core.v1.Secret(
                f"{self._pulumi_name}-{each.name}",
                metadata=self._meta(each.name),
                type="kubernetes.io/dockerconfigjson",
                string_data={".dockerconfigjson": document.apply(_checked)},
                opts=self._child,
            )
        SharedList(
            f"{self._pulumi_name}-default",
            Place.pull_secrets(self.namespace),
            [{"name": each.name} for each in spec.image_pull_secrets],
            context=cloud.context,
            kubeconfig=cloud.kubeconfig,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[namespace]),
        )


def _checked(document: str) -> str:
    try:
        json.loads(document)["auths"]
    except (ValueError, KeyError, TypeError):
        raise pulumi.RunError("a pull secret in the stack's configuration is not a .dockerconfigjson document") from None
    return document


def labels(tenant: Tenant, cloud: OpenShiftCloud, spec: OpenShiftTenant) -> dict[str, str]:
    """Labels of the namespace. The Pod Security ones are ours, so OpenShift is told not to set them by itself."""
    standards = {f"pod-security.kubernetes.io/{mode}": spec.pod_security for mode in ("enforce", "audit", "warn")}
    return {
        PROJECT_LABEL: "true",
        TENANT_LABEL: tenant.name,
        "security.openshift.io/scc.podSecurityLabelSync": "false",
        **standards,
        **cloud.labels,
        **tenant.labels,
    }


def _annotations(tenant: Tenant, site: str, spec: OpenShiftTenant) -> dict[str, str]:
    title = spec.display_name or tenant.description or tenant.name
    term = {"chrisproject.org/expires-at": tenant.expires_at.isoformat()} if tenant.expires_at else {}
    return {
        "openshift.io/display-name": title,
        "openshift.io/description": tenant.description,
        "openshift.io/requester": tenant.pi,
        "cf_pi": tenant.pi,
        SITE_ANNOTATION: site,
        **term,
        **spec.annotations,
    }


def hard(quotas: OpenShiftQuotas, more: Slack, *, zero: bool = False) -> dict[str, str]:
    """The ResourceQuota's limits.

    :param more: what may be borrowed on top: the quota is the outer wall, and Kueue divides what is inside it
    :param zero: nothing may be made
    """
    amounts: dict[str, tuple[int, str]] = {
        "limits.cpu": (quotas.limits_cpu + more.cpu, ""),
        "limits.memory": (quotas.limits_memory_mib + more.memory_mib, "Mi"),
        "limits.ephemeral-storage": (quotas.limits_ephemeral_storage_gib, "Gi"),
        "requests.storage": (quotas.requests_storage_gib, "Gi"),
        "persistentvolumeclaims": (quotas.persistentvolumeclaims, ""),
        f"requests.{GPU_RESOURCE}": (quotas.gpu_sum + sum(more.gpus.values()), ""),
    }
    for storage_class, gib in quotas.storage_class_gib.items():
        amounts[f"{storage_class}.storageclass.storage.k8s.io/requests.storage"] = (gib, "Gi")
    if quotas.pods is not None or zero:
        amounts["pods"] = (quotas.pods or 0, "")
    return {key: "0" if zero or not amount else f"{amount}{unit}" for key, (amount, unit) in amounts.items()}


def _limit(limits: Limits) -> kubernetes.core.v1.LimitRangeItemArgs:
    """NERC's LimitRange: GPUs are none unless asked for."""
    return kubernetes.core.v1.LimitRangeItemArgs(
        type="Container",
        default={"cpu": f"{limits.default_cpu_m}m", "memory": f"{limits.default_memory_mib}Mi", GPU_RESOURCE: "0"},
        default_request={
            "cpu": f"{limits.default_request_cpu_m}m",
            "memory": f"{limits.default_request_memory_mib}Mi",
            GPU_RESOURCE: "0",
        },
        min={"cpu": f"{limits.min_cpu_m}m", "memory": f"{limits.min_memory_kib}Ki"},
    )


def _from(peer: dict[str, Any]) -> dict[str, Any]:
    return {"from": [peer]}


def _to(peer: dict[str, Any]) -> dict[str, Any]:
    return {"to": [peer]}


def _egress(way: Egress) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": [{"ipBlock": {"cidr": way.cidr}}]}
    if way.ports:
        rule["ports"] = [{"port": port, "protocol": "TCP"} for port in way.ports]
    return rule
