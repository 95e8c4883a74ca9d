"""How much a tenant may use of OpenStack.

Every field is sent: the provider zeroes what is left out of a load balancer's quota, and a field that nobody sets is one that
anybody may have changed. Not managed here: Swift's quotas (object_store), and those that Nova kept for nova-network, which it
no longer reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import pulumi
from pulumi_openstack import blockstorage, compute, loadbalancer, networking

from infra.roster import InUse
from infra.spec.base import Model
from infra.spec.openstack import OpenStackQuotas

Quota = TypeVar("Quota", bound=Model)


@dataclass(frozen=True, kw_only=True)
class QuotasArgs:
    """Whose quotas.

    :param services: what the cloud offers; quotas are set for these
    :param in_use: nothing more than this may be made, whatever the quotas say; None: what they say
    """

    quotas: OpenStackQuotas
    services: tuple[str, ...]
    project_id: pulumi.Input[str]
    in_use: InUse | None = None


class Quotas(pulumi.ComponentResource):
    """Quotas of Nova, Cinder, Neutron and Octavia."""

    def __init__(self, name: str, args: QuotasArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:Quotas", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        if "compute" in args.services:
            nova = _amount(args.quotas.compute, args.in_use.compute if args.in_use else None)
            compute.QuotaSetV2(
                name,
                project_id=args.project_id,
                instances=nova.instances,
                cores=nova.cores,
                ram=nova.ram_mib,
                key_pairs=nova.key_pairs,
                metadata_items=nova.metadata_items,
                server_groups=nova.server_groups,
                server_group_members=nova.server_group_members,
                injected_files=nova.injected_files,
                injected_file_content_bytes=nova.injected_file_content_bytes,
                injected_file_path_bytes=nova.injected_file_path_bytes,
                opts=child,
            )
        if "block-storage" in args.services:
            cinder = _amount(args.quotas.volume, args.in_use.volume if args.in_use else None)
            blockstorage.QuoteSetV3(
                name,
                project_id=args.project_id,
                volumes=cinder.volumes,
                gigabytes=cinder.gigabytes,
                per_volume_gigabytes=cinder.per_volume_gigabytes,
                snapshots=cinder.snapshots,
                backups=cinder.backups,
                backup_gigabytes=cinder.backup_gigabytes,
                groups=cinder.groups,
                opts=child,
            )
        if "network" in args.services:
            neutron = _amount(args.quotas.network, args.in_use.network if args.in_use else None)
            networking.QuotaV2(
                name,
                project_id=args.project_id,
                network=neutron.networks,
                subnet=neutron.subnets,
                subnetpool=neutron.subnet_pools,
                port=neutron.ports,
                router=neutron.routers,
                floatingip=neutron.floating_ips,
                security_group=neutron.security_groups,
                security_group_rule=neutron.security_group_rules,
                rbac_policy=neutron.rbac_policies,
                opts=child,
            )
        if "load-balancer" in args.services:
            octavia = _amount(args.quotas.load_balancer, args.in_use.load_balancer if args.in_use else None)
            loadbalancer.Quota(
                name,
                project_id=args.project_id,
                loadbalancer=octavia.load_balancers,
                listener=octavia.listeners,
                pool=octavia.pools,
                member=octavia.members,
                health_monitor=octavia.health_monitors,
                l7_policy=octavia.l7_policies,
                l7_rule=octavia.l7_rules,
                opts=child,
            )
        self.register_outputs({})


def _amount(quota: Quota, in_use: Mapping[str, int] | None) -> Quota:
    """The quota, or what is in use and no more: zero where nothing is."""
    return quota if in_use is None else type(quota)(**{field: in_use.get(field, 0) for field in type(quota).model_fields})
