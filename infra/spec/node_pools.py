"""Node pools: the machines that jobs run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.spec import gpus
from infra.spec.base import Count, LabelKey, LabelValue, Model, Name, Text
from infra.spec.problems import wrong

PRODUCT_LABEL = "nvidia.com/gpu.product"
"""NERC's label and taint of GPU nodes."""
POOL_LABEL = "chrisproject.org/node-pool"


class Gpu(Model):
    """The GPUs of each node."""

    product: LabelValue
    """As in the node's label `nvidia.com/gpu.product`. From `oc get nodes -L nvidia.com/gpu.product`."""
    count: Annotated[int, Field(ge=1, le=16)]
    """GPUs of one node."""
    driver: Annotated[str, Field(pattern=r"^\d{3}(\.\d+){0,2}$")] | None = None
    """NVIDIA driver on the nodes: a branch (`535`) or a version (`535.183.06`). From `nvidia-smi`, or the GPU operator's policy.
    Unset: not checked."""
    cuda: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] | None = None
    """Newest CUDA that images may be built with, as promised to users. Default: what product, machine and driver allow."""


class Shape(Model):
    """The size of a node, and with source `nova` of its flavor."""

    vcpus: Annotated[int, Field(ge=1)]
    """Virtual CPUs."""
    ram_mib: Annotated[int, Field(ge=1)]
    """Memory, MiB."""
    disk_gib: Count = 20
    """Root disk, GiB."""
    extra_specs: Mapping[Text, str] = Field(default_factory=dict)
    """What the flavor asks of the hypervisor, such as GPUs: `pci_passthrough:alias: "a100:4"`. From the cloud's operators."""


class Taint(Model):
    """Keeps pods away that do not tolerate it."""

    key: LabelKey
    """Its key."""
    value: LabelValue = ""
    """Its value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """What happens to those that do not tolerate it."""


class NodePool(Model):
    """Nodes of one kind."""

    name: Name
    """Names the pool, its servers (`<name>-0` ...), its flavor, server group and inventory group (`pool_<name>`)."""
    source: Literal["existing", "machineset", "nova"]
    """Where the nodes come from: `nova` makes servers, `machineset` has OpenShift make them, `existing` labels nodes of the
    cluster."""
    arch: gpus.Architecture = "amd64"
    """Their processor architecture."""
    size: Count
    """How many nodes. For `existing` it must be the number of `nodes`, or what is there, for the sums."""
    gpu: Gpu | None = None
    """Their GPUs; unset: none."""
    shape: Shape | None = None
    """Their size. With source `nova` a flavor is made from it; else it serves to compare quotas with what is there."""
    flavor: Text | None = None
    """A flavor that is there. From `openstack flavor list`. For `nova` either this or `shape`; for `machineset` this."""
    image: Text | None = None
    """Image of the servers, by name. From `openstack image list`. For `nova` and `machineset`."""
    tenant: Name | None = None
    """The tenant whose project the servers are in. For `nova`."""
    key_pair: Text | None = None
    """Key pair of the tenant's service user for the servers. For `nova`; unset: none."""
    anti_affinity: bool = True
    """Put the servers on different hypervisors where possible. For `nova`."""
    nodes: tuple[Text, ...] = ()
    """Names of the nodes. For `existing`. From `oc get nodes`."""
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    """Further labels. `nvidia.com/gpu.product`, `chrisproject.org/node-pool` are set anyway. With source `nova` no node
    gets labels from here: they are told to Ansible, and set where the servers join a cluster."""
    taints: tuple[Taint, ...] = ()
    """Further taints. Nodes with GPUs have NERC's, `nvidia.com/gpu.product=<product>:NoSchedule`, anyway. With source `nova` no
    node gets taints from here, and not that one either."""

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Self:
        needs: dict[str, tuple[str, ...]] = {
            "nova": ("image", "tenant"),
            "machineset": ("flavor", "image"),
            "existing": ("nodes",),
        }
        missing = [field for field in needs[self.source] if not getattr(self, field)]
        if self.source == "nova" and not (self.shape or self.flavor):
            missing.append("shape (or flavor)")
        if missing:
            raise wrong(f"a pool with source {self.source} needs {', '.join(missing)}", "set it, or choose another source")
        means = {
            "nova": ("image", "tenant", "key_pair", "flavor"),
            "machineset": ("image", "flavor"),
            "existing": ("nodes",),
        }[self.source]
        idle = [
            field for field in ("image", "tenant", "key_pair", "flavor", "nodes") if getattr(self, field) and field not in means
        ]
        if idle:
            raise wrong(
                f"{', '.join(idle)} mean nothing to a pool with source {self.source}", "remove them, or choose another source"
            )
        if self.shape and self.flavor and self.source == "nova":
            raise wrong("shape makes a flavor, and here flavor names another", "remove one of them")
        if self.source == "existing" and len(self.nodes) != self.size:
            raise wrong(f"size is {self.size}, and {len(self.nodes)} nodes are named", "make them agree")
        return self

    @property
    def gpu_sum(self) -> int:
        """GPUs of all nodes."""
        return self.size * self.gpu.count if self.gpu else 0

    @property
    def all_labels(self) -> dict[str, str]:
        """Labels of the nodes, all that are ours to set."""
        product = {PRODUCT_LABEL: self.gpu.product} if self.gpu else {}
        return {POOL_LABEL: self.name, **product, **self.labels}

    @property
    def all_taints(self) -> tuple[Taint, ...]:
        """Taints of the nodes, where they are ours to set."""
        product = (Taint(key=PRODUCT_LABEL, value=self.gpu.product),) if self.gpu else ()
        return (*product, *self.taints)
