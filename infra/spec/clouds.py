"""Which clouds a site uses, and what they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from infra.spec.base import Cidr, LabelKey, LabelValue, Model, Name, Port, Text

Service = Literal["block-storage", "compute", "load-balancer", "network", "object-store"]


class Federation(Model):
    """How Keystone knows the users of another identity provider."""

    idp: Text
    """Id of Keystone's identity provider. From `openstack identity provider list`."""
    protocol: Text = "openid"
    """Id of the federation protocol. From `openstack federation protocol list`."""


class OpenStackCloud(Model):
    """The OpenStack of a site, and what its operators know of it."""

    cloud: Text
    """Entry of clouds.yaml that the operator signs in with: an administrator of the cloud."""
    region: Text | None = None
    """Region. Default: the one in the entry."""
    domain: Text = "default"
    """Id of the Keystone domain that holds projects, groups and users. From `openstack domain list`."""
    services: Annotated[tuple[Service, ...], Field(min_length=1)] = (
        "block-storage",
        "compute",
        "load-balancer",
        "network",
        "object-store",
    )
    """What the cloud offers beside Keystone. Quotas are set for these only. From `openstack catalog list`."""
    external_network: Text | None = None
    """Name of the external network that tenants' routers lead to. Without it they have no way out.
    From `openstack network list --external`."""
    reserved_cidrs: tuple[Cidr, ...] = ()
    """Networks that tenants' subnets must stay clear of, because a route leads there: of the operator, of the cluster."""
    storage_policies: tuple[Text, ...] | None = None
    """Swift's storage policies, the default first. From `curl $SWIFT/info`, `swift.policies`. Unset: they are asked for later,
    and not checked here."""
    federation: Federation | None = None
    """The identity provider of users whose source is `federated`, for those that name none."""


class Egress(Model):
    """One way out of a project's pods."""

    cidr: Cidr
    """Where to."""
    ports: tuple[Port, ...] = ()
    """TCP ports. Empty: all, of every protocol."""


class OpenShiftCloud(Model):
    """The OpenShift cluster of a site, and what its operators know of it."""

    context: Text
    """Context of the kubeconfig that the operator signs in with: a cluster administrator."""
    kubeconfig: Text | None = None
    """The kubeconfig. Default: `$KUBECONFIG`, else `~/.kube/config`."""
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    """Further labels of every project, beside NERC's own (`nerc.mghpcc.org/project`)."""
    egress: tuple[Egress, ...] = ()
    """Where the pods of every project may connect to, beside DNS and their own project: the OpenStack APIs, the API server."""
    dns_namespace: Name = "openshift-dns"
    """Namespace of the cluster's DNS pods."""
    dns_ports: tuple[Port, ...] = (53, 5353)
    """Ports at which the DNS pods themselves listen: 5353 on OpenShift, 53 elsewhere."""
    router_labels: Mapping[LabelKey, LabelValue] = Field(
        default_factory=lambda: {"policy-group.network.openshift.io/ingress": ""}
    )
    """Labels of the namespace that the router's connections come from. OpenShift's own mark covers host networks too."""
    routes_domain: Text | None = None
    """Domain below which routes get their host names. From `oc get ingresses.config cluster`."""
    machine_cluster: Text | None = None
    """Infrastructure name, for pools of MachineSets. From `oc get infrastructure cluster`, `.status.infrastructureName`."""


class Clouds(Model):
    """The clouds of a site; either may be absent."""

    openstack: OpenStackCloud | None = None
    """The OpenStack. Without it the tenants have projects on OpenShift only."""
    openshift: OpenShiftCloud | None = None
    """The OpenShift cluster. Without it the tenants have projects on OpenStack only."""
