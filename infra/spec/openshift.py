"""What a tenant has on OpenShift. Defaults are NERC's, for one unit of an allocation where they depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infra.spec.base import Count, LabelKey, LabelValue, Model, Name, Text
from infra.spec.clouds import Egress
from infra.spec.problems import wrong

GPU_RESOURCE = "nvidia.com/gpu"


class OpenShiftQuotas(Model):
    """The ResourceQuota of the project, in NERC's terms: sums of what the pods' limits say."""

    limits_cpu: Count = 4
    """`limits.cpu`: cores."""
    limits_memory_mib: Count = 16_384
    """`limits.memory`: MiB."""
    limits_ephemeral_storage_gib: Count = 20
    """`limits.ephemeral-storage`: GiB of the nodes' disks, where a job's input and output lie while it runs."""
    requests_storage_gib: Count = 20
    """`requests.storage`: GiB of persistent volumes of every class."""
    storage_class_gib: Mapping[LabelKey, Count] = Field(default_factory=dict)
    """The same for single storage classes, by name."""
    persistentvolumeclaims: Count = 2
    """Persistent volumes."""
    pods: Count | None = None
    """Pods that have not ended; unset: without limit."""
    gpus: Mapping[LabelValue, Count] = Field(default_factory=dict)
    """GPUs, by product (`nvidia.com/gpu.product` of a node pool). The quota holds their sum, `requests.nvidia.com/gpu`, as
    Kubernetes counts GPUs of all products together; Kueue, where it is there, holds them apart."""

    @property
    def gpu_sum(self) -> int:
        """GPUs of all products."""
        return sum(self.gpus.values())


class Limits(Model):
    """The LimitRange of the project: what a container gets that asks for nothing. NERC's values."""

    default_cpu_m: Count = 1000
    """Limit, thousandths of a core."""
    default_memory_mib: Count = 4096
    """Limit, MiB."""
    default_request_cpu_m: Count = 500
    """Request, thousandths of a core."""
    default_request_memory_mib: Count = 2048
    """Request, MiB."""
    min_cpu_m: Count = 1
    """Least that a container may ask for, thousandths of a core."""
    min_memory_kib: Count = 1
    """Least that a container may ask for, KiB."""


class RoleBinding(Model):
    """Who may do what in the project, beside the tenant's users (`users[].openshift_role`)."""

    role: Text
    """A cluster role, such as `admin`, `edit`, `view`."""
    users: tuple[Text, ...] = ()
    """Users by their OpenShift names, of this file or not."""
    groups: tuple[Text, ...] = ()
    """Groups by their OpenShift names."""
    service_accounts: tuple[Name, ...] = ()
    """Service accounts of the project."""


class NetworkPolicy(Model):
    """Who may connect. All is denied but DNS, the project itself, and what is said here and in `clouds.openshift.egress`."""

    from_router: bool = True
    """The cluster's router may connect, so that routes work."""
    same_project: bool = True
    """Pods of the project may connect to one another."""
    egress: tuple[Egress, ...] = ()
    """Where its pods may connect to, beside what all projects may."""


class PullSecret(Model):
    """Credentials for a registry of images."""

    name: Name
    """The Secret's name; the project's default service account uses it."""
    config_key: Annotated[str, Field(pattern=r"^[A-Za-z][\w.-]*$")]
    """Key of the stack's secret configuration that holds the `.dockerconfigjson` document. Set it with
    `pulumi config set --secret KEY < file`."""


def _scc(text: str) -> str:
    if text == "privileged":
        raise wrong(
            "privileged pods own the node they run on",
            "use restricted-v2, or nonroot-v2, or have the operator run them elsewhere",
        )
    return text


class SccUse(Model):
    """Leave to use a security context constraint other than restricted-v2."""

    name: Annotated[Name, AfterValidator(_scc)]
    """The constraint. From `oc get scc`."""
    service_accounts: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Service accounts of the project that may use it."""


class OpenShiftTenant(Model):
    """A project on OpenShift, with what belongs to it."""

    project: Name | None = None
    """The project's name. Default: the tenant's."""
    display_name: str = ""
    """What the console shows. Default: the tenant's description."""
    annotations: Mapping[LabelKey, str] = Field(default_factory=dict)
    """Further annotations of the project. NERC's billing knows a project by `cf_project_id`, its number in ColdFront."""
    quotas: OpenShiftQuotas = OpenShiftQuotas()
    """How much it may use."""
    limits: Limits = Limits()
    """What a container gets that asks for nothing."""
    role_bindings: tuple[RoleBinding, ...] = ()
    """Who may do what, beside the tenant's users."""
    network_policy: NetworkPolicy = NetworkPolicy()
    """Who may connect."""
    pod_security: Literal["restricted", "baseline"] = "restricted"
    """The Pod Security standard that is enforced."""
    image_pull_secrets: tuple[PullSecret, ...] = ()
    """Credentials for registries of images."""
    scc: tuple[SccUse, ...] = ()
    """Leave to use further security context constraints."""
