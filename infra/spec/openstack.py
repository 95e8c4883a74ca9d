"""What a tenant has on OpenStack. Defaults are the services' own (2026.1), but for the load balancer, whose own is no limit."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.spec.base import Bytes, Cidr, Limit, Model, Name, Port, Text, network
from infra.spec.problems import wrong


class ComputeQuota(Model):
    """Nova. The four of nova-network (fixed_ips, floating_ips, security_groups, security_group_rules) are Neutron's today, and
    are left out: Nova takes a value for them and reports another, which would be drift for ever.
    """

    instances: Limit = 10
    """Servers."""
    cores: Limit = 20
    """Virtual CPUs of all servers."""
    ram_mib: Limit = 51_200
    """Memory of all servers, MiB."""
    key_pairs: Limit = 100
    """Key pairs of one user."""
    metadata_items: Limit = 128
    """Metadata of one server."""
    server_groups: Limit = 10
    """Server groups."""
    server_group_members: Limit = 10
    """Servers of one group."""
    injected_files: Limit = 5
    """Files put into one server at its creation."""
    injected_file_content_bytes: Limit = 10_240
    """Size of one such file, bytes."""
    injected_file_path_bytes: Limit = 255
    """Length of the path of one such file, bytes."""


class VolumeQuota(Model):
    """Cinder."""

    volumes: Limit = 10
    """Volumes."""
    gigabytes: Limit = 1000
    """Size of all volumes and snapshots, GiB."""
    per_volume_gigabytes: Limit = -1
    """Size of one volume, GiB."""
    snapshots: Limit = 10
    """Snapshots."""
    backups: Limit = 10
    """Backups."""
    backup_gigabytes: Limit = 1000
    """Size of all backups, GiB."""
    groups: Limit = 10
    """Volume groups."""


class NetworkQuota(Model):
    """Neutron."""

    networks: Limit = 10
    """Networks."""
    subnets: Limit = 10
    """Subnets."""
    subnet_pools: Limit = -1
    """Subnet pools."""
    ports: Limit = 500
    """Ports: one for each server, router interface and DHCP agent."""
    routers: Limit = 10
    """Routers."""
    floating_ips: Limit = 2
    """Floating addresses. NERC's default."""
    security_groups: Limit = 10
    """Security groups, the one that Neutron makes included."""
    security_group_rules: Limit = 100
    """Rules of all security groups."""
    rbac_policies: Limit = 10
    """Grants of networks to other projects."""


class LoadBalancerQuota(Model):
    """Octavia. Every field is always sent: the provider zeroes what is left out."""

    load_balancers: Limit = 2
    """Load balancers."""
    listeners: Limit = 10
    """Listeners."""
    pools: Limit = 10
    """Pools."""
    members: Limit = 50
    """Members of all pools."""
    health_monitors: Limit = 10
    """Health monitors."""
    l7_policies: Limit = 10
    """Layer 7 policies."""
    l7_rules: Limit = 50
    """Layer 7 rules."""


class OpenStackQuotas(Model):
    """All that a tenant may use of OpenStack."""

    compute: ComputeQuota = ComputeQuota()
    """Nova's."""
    volume: VolumeQuota = VolumeQuota()
    """Cinder's."""
    network: NetworkQuota = NetworkQuota()
    """Neutron's."""
    load_balancer: LoadBalancerQuota = LoadBalancerQuota()
    """Octavia's."""
    object_bytes: Bytes | None = None
    """Bytes in all Swift containers; unset: none of ours. One that the file no longer has stays in Swift: it is somebody else's
    from then on, such as an allocation tool's. Setting it needs Swift's reseller admin role."""


class Network(Model):
    """A network with one subnet, joined to the tenant's router."""

    name: Name = "default"
    """The network's name; the subnet has it too."""
    cidr: Cidr = "192.168.0.0/24"
    """The subnet's addresses. Projects are apart, so two tenants may use the same."""
    dns_nameservers: tuple[Text, ...] = ()
    """Name servers that DHCP tells. Empty: Neutron's own."""
    mtu: Annotated[int, Field(ge=576, le=9216)] | None = None
    """Largest packet, bytes. Default: the cloud's."""


class SecurityRule(Model):
    """What a security group lets through."""

    direction: Literal["ingress", "egress"] = "ingress"
    """Into the server or out of it."""
    ethertype: Literal["IPv4", "IPv6"] = "IPv4"
    """Which kind of address."""
    protocol: Literal["tcp", "udp", "icmp", "ipv6-icmp"] | None = None
    """Protocol; unset: all."""
    ports: tuple[Port, Port] | None = None
    """First and last port, for tcp and udp; unset: all."""
    cidr: Cidr | None = None
    """The other side's addresses."""
    group: Name | None = None
    """The other side's security group, one of the tenant's. Neither `cidr` nor `group`: anybody."""
    description: str = ""
    """What for."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.cidr and self.group:
            raise wrong("a rule names the other side once, and here are both cidr and group", "remove one of them")
        if self.ports and self.protocol not in ("tcp", "udp"):
            raise wrong(
                f"ports mean nothing to {self.protocol or 'every protocol'}", "set protocol to tcp or udp, or remove ports"
            )
        if self.ports and self.ports[0] > self.ports[1]:
            raise wrong(f"the first port, {self.ports[0]}, is above the last, {self.ports[1]}", "swap them")
        if self.cidr and (network(self.cidr).version == 6) != (self.ethertype == "IPv6"):
            raise wrong(f"{self.cidr} is not {self.ethertype}", "set ethertype to the kind of the addresses")
        return self

    @property
    def world_open(self) -> bool:
        """True when anybody may connect."""
        return self.direction == "ingress" and not self.group and (self.cidr is None or network(self.cidr).prefixlen == 0)

    def admits(self, port: int) -> bool:
        """True when the rule lets TCP connections to a port through."""
        return self.protocol in (None, "tcp") and (self.ports is None or self.ports[0] <= port <= self.ports[1])


class SecurityGroup(Model):
    """A security group of the tenant."""

    name: Name
    """Its name."""
    description: str = ""
    """What for."""
    rules: tuple[SecurityRule, ...] = ()
    """What it lets through."""


class ApplicationCredential(Model):
    """What the daemon signs in with. It belongs to the tenant's service user, so it cannot outlive the tenant. Any change makes
    another one, and then removes the old.
    """

    expires_at: date | None = None
    """First day (UTC) on which it is worthless; at most a year ahead. Either this or `valid_days`."""
    valid_days: Annotated[int, Field(ge=1, le=366)] | None = None
    """Days that it is good for from the day on which it is made. Raise `generation` before they are over."""
    generation: Annotated[int, Field(ge=1)] = 1
    """Raise it by one for another credential."""
    roles: Annotated[tuple[Text, ...], Field(min_length=1)] = ("member",)
    """Keystone roles that it carries, out of those of the service user."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if (self.expires_at is None) == (self.valid_days is None):
            raise wrong("a credential must end, and once", "set either expires_at or valid_days")
        return self


class OpenStackTenant(Model):
    """A project on OpenStack, with what belongs to it."""

    project: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """The project's name. Default: the tenant's."""
    domain: Text | None = None
    """Id of the Keystone domain that holds it. Default: the cloud's."""
    quotas: OpenStackQuotas = OpenStackQuotas()
    """How much it may use."""
    networks: tuple[Network, ...] = (Network(),)
    """Its networks, all joined to one router. Empty: none, and no router."""
    security_groups: tuple[SecurityGroup, ...] = ()
    """Beside the one that Neutron makes."""
    service_roles: Annotated[tuple[Text, ...], Field(min_length=1)] = ("member",)
    """Keystone roles of the tenant's service user, which makes containers, servers and the application credential.
    One of them must be an operator role of Swift."""
    application_credential: ApplicationCredential | None = None
    """What the daemon signs in with; unset: none is made."""
