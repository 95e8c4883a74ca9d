"""Who goes first, and who may use what others leave idle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.spec.base import Count, LabelValue, Model, Name
from infra.spec.problems import wrong


class PriorityClass(Model):
    """A PriorityClass of the cluster; Kueue gets a WorkloadPriorityClass of the same name."""

    name: Name
    """Its name; `system-` is Kubernetes' own beginning."""
    value: Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]
    """The greater, the sooner. Above a thousand million is Kubernetes' own."""
    preempts: bool = False
    """Pods of lower classes are ended for pods of this one."""
    description: str = ""
    """What for."""

    @model_validator(mode="after")
    def _is_ours(self) -> Self:
        if self.name.startswith("system-"):
            raise wrong(f"'{self.name}': names that begin with system- are Kubernetes' own", "choose another name")
        return self


class Slack(Model):
    """An amount of idle quota."""

    cpu: Count = 0
    """Cores."""
    memory_mib: Count = 0
    """MiB."""
    gpus: Mapping[LabelValue, Count] = Field(default_factory=dict)
    """GPUs, by product."""

    @property
    def nothing(self) -> bool:
        """True when there is nothing in it."""
        return not (self.cpu or self.memory_mib or any(self.gpus.values()))


class Borrowing(Model):
    """Leave to use another tenant's idle quota, until its owner asks for it."""

    borrower: Name
    """The tenant that may use more."""
    lender: Name
    """The tenant whose idle quota it is."""
    amount: Slack
    """How much at most."""

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if self.amount.nothing:
            raise wrong("nothing may be borrowed", "set cpu, memory_mib or gpus of amount, or remove the entry")
        return self


class Queueing(Model):
    """Priorities and borrowing."""

    priority_classes: tuple[PriorityClass, ...] = ()
    """Classes that `tenants[].priority` may name."""
    kueue: bool = False
    """Kueue is in the cluster, and jobs queue there. From `oc get crd clusterqueues.kueue.x-k8s.io`."""
    kueue_version: Literal["v1beta1", "v1beta2"] = "v1beta1"
    """Version of Kueue's API. From the same CRD, `.spec.versions[].name`."""
    borrowing: tuple[Borrowing, ...] = ()
    """Who may use whose idle quota. Needs Kueue: Kubernetes' own quotas are walls."""
