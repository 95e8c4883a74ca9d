"""A tenant: a group of people with a project on one cloud or on both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from infra.spec.base import LabelKey, LabelValue, Model, Name, Text
from infra.spec.containers import Container
from infra.spec.openshift import OpenShiftTenant
from infra.spec.openstack import OpenStackTenant
from infra.spec.problems import wrong


class FederatedId(Model):
    """How Keystone knows a user of another identity provider."""

    unique_id: Text
    """The user's id there, often the e-mail address."""
    idp: Text | None = None
    """Keystone's identity provider. Default: the cloud's."""
    protocol: Text | None = None
    """The federation protocol. Default: the cloud's."""


class User(Model):
    """One of the tenant's people."""

    name: Text
    """Name in Keystone and in OpenShift: with federation usually the e-mail address."""
    source: Literal["existing", "federated", "local"] = "existing"
    """`existing`: Keystone has the user. `federated`: Keystone knows the user by an id of another provider, since the first
    sign-in. `local`: made here, with a password that the stack's outputs tell."""
    federated: FederatedId | None = None
    """For `federated`: the id. Default: the name."""
    openstack_roles: tuple[Text, ...] = ("member",)
    """Keystone roles in the tenant's project. From `openstack role list`."""
    openshift_role: Literal["admin", "edit", "view"] | None = "edit"
    """Cluster role in the tenant's project; unset by `null`: none. NERC gives `edit`."""

    @model_validator(mode="after")
    def _federated_is_said(self) -> Self:
        if self.federated and self.source != "federated":
            raise wrong(
                f"a user whose source is {self.source} has no federated id", "set source to federated, or remove federated"
            )
        return self


class Tenant(Model):
    """A tenant."""

    name: Name
    """Names the tenant in this file, in Pulumi and in Kueue, and its projects where they say nothing else. Changing it makes
    another tenant."""
    pi: Text
    """Name of the principal investigator, who answers for the tenant: one of its users, or an e-mail address."""
    description: str = ""
    """What the tenant does; shown in both clouds."""
    expires_at: date | None = None
    """First day (UTC) on which the tenant is past its term. `python -m infra expire` lists and quarantines it then."""
    users: tuple[User, ...] = ()
    """Its people."""
    openstack: OpenStackTenant | None = None
    """Its project on OpenStack; unset: none."""
    containers: tuple[Container, ...] = ()
    """Its Swift containers; they need `openstack`."""
    openshift: OpenShiftTenant | None = None
    """Its project on OpenShift; unset: none."""
    priority: Name | None = None
    """One of `queueing.priority_classes`, for the pods of its jobs; unset: the cluster's default."""
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    """Further labels of its OpenShift project."""
