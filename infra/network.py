"""A tenant's networks: each with a subnet, all joined to one router, and the tenant's security groups.

Not managed here: floating addresses, which belong to what uses them; the security group ``default``, which Neutron makes and
keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_openstack import networking

from infra.providers import OpenStack
from infra.spec.base import network as addresses
from infra.spec.openstack import SecurityGroup, SecurityRule
from infra.spec.tenant import Tenant


@dataclass(frozen=True, kw_only=True)
class TenantNetworkArgs:
    """Whose networks.

    :param tags: put on all of them
    """

    tenant: Tenant
    project_id: pulumi.Input[str]
    cloud: OpenStack
    tags: tuple[str, ...]


class TenantNetwork(pulumi.ComponentResource):
    """Networks, subnets, router, security groups."""

    networks: dict[str, networking.Network]
    subnets: dict[str, networking.Subnet]
    security_groups: dict[str, networking.SecGroup]

    def __init__(self, name: str, args: TenantNetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:TenantNetwork", name, None, opts)
        self.networks, self.subnets, self.security_groups = {}, {}, {}
        spec = args.tenant.openstack
        if spec and "network" in args.cloud.spec.services:
            self._networks(name, args)
            for group in spec.security_groups:
                self._group(name, group, args)
            for group in spec.security_groups:
                for index, rule in enumerate(group.rules):
                    self._rule(f"{name}-{group.name}-{index}", group, rule, args)
        self.register_outputs({"networkIds": {key: each.id for key, each in self.networks.items()}})

    def _networks(self, name: str, args: TenantNetworkArgs) -> None:
        spec = args.tenant.openstack
        if not spec or not spec.networks:
            return
        child, tags = pulumi.ResourceOptions(parent=self), list(args.tags)
        router = networking.Router(
            name,
            name=args.tenant.name,
            tenant_id=args.project_id,
            admin_state_up=True,
            external_network_id=args.cloud.external_network_id(),
            tags=tags,
            opts=child,
        )
        for each in spec.networks:
            key = f"{name}-{each.name}"
            self.networks[each.name] = networking.Network(
                key, name=each.name, tenant_id=args.project_id, admin_state_up=True, mtu=each.mtu, tags=tags, opts=child
            )
            self.subnets[each.name] = networking.Subnet(
                key,
                name=each.name,
                tenant_id=args.project_id,
                network_id=self.networks[each.name].id,
                cidr=each.cidr,
                ip_version=addresses(each.cidr).version,
                dns_nameservers=list(each.dns_nameservers),
                tags=tags,
                opts=child,
            )
            networking.RouterInterface(key, router_id=router.id, subnet_id=self.subnets[each.name].id, opts=child)

    def _group(self, name: str, group: SecurityGroup, args: TenantNetworkArgs) -> None:
        self.security_groups[group.name] = networking.SecGroup(
            f"{name}-{group.name}",
            name=group.name,
            tenant_id=args.project_id,
            description=group.description,
            tags=list(args.tags),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _rule(self, name: str, group: SecurityGroup, rule: SecurityRule, args: TenantNetworkArgs) -> None:
        networking.SecGroupRule(
            name,
            tenant_id=args.project_id,
            security_group_id=self.security_groups[group.name].id,
            direction=rule.direction,
            ethertype=rule.ethertype,
            protocol=rule.protocol,
            port_range_min=rule.ports[0] if rule.ports else None,
            port_range_max=rule.ports[1] if rule.ports else None,
            remote_ip_prefix=rule.cidr,
            remote_group_id=self.security_groups[rule.group].id if rule.group else None,
            description=rule.description,
            opts=pulumi.ResourceOptions(parent=self),
        )
