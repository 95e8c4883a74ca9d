"""A node pool: servers of Nova, Machines of OpenShift, or nodes that are there.

Not managed here: what is inside the machines (Ansible's role node_pool), the GPU operator, and how a server joins the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_openstack import compute

from infra.objects import FORCE, metadata
from infra.providers import Clouds, OpenShift, OpenStack
from infra.shared_list import Place, SharedList
from infra.spec import names
from infra.spec.node_pools import NodePool as NodePoolSpec
from infra.spec.node_pools import Shape
from infra.tenant import Tenant

MACHINE_NAMESPACE = "openshift-machine-api"
CLUSTER_LABEL = "machine.openshift.io/cluster-api-cluster"


@dataclass(frozen=True, kw_only=True)
class NodePoolArgs:
    """What a pool is made of.

    :param owner: the tenant whose project has the servers, for Nova
    :param quarantined: the pool is scaled to zero: servers are shut off, Machines go
    """

    pool: NodePoolSpec
    clouds: Clouds
    owner: Tenant | None = None
    quarantined: bool = False


class NodePool(pulumi.ComponentResource):
    """Flavor, server group and servers; or a MachineSet; or labels and taints of nodes."""

    addresses: dict[str, pulumi.Output[str]]
    """Addresses of servers, by name."""

    def __init__(self, name: str, args: NodePoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:NodePool", name, None, opts)
        self.addresses = {}
        if args.pool.source == "nova" and args.clouds.openstack and args.owner:
            self._servers(args.pool, args.clouds.openstack, args.owner, off=args.quarantined)
        elif args.pool.source == "machineset" and args.clouds.openshift:
            self._machine_set(args.pool, args.clouds.openshift, size=0 if args.quarantined else args.pool.size)
        elif args.pool.source == "existing" and args.clouds.openshift:
            self._nodes(args.pool, args.clouds.openshift)
        self.register_outputs({"addresses": self.addresses})

    def _servers(self, pool: NodePoolSpec, cloud: OpenStack, owner: Tenant, *, off: bool) -> None:
        child = pulumi.ResourceOptions(parent=self, provider=owner.provider)
        flavor = self._flavor(pool.name, pool.shape, cloud, owner) if pool.shape else None
        group = (
            compute.ServerGroup(pool.name, name=pool.name, policies="soft-anti-affinity", opts=child)
            if pool.anti_affinity
            else None
        )
        product = {"gpu_product": pool.gpu.product, "gpu_count": str(pool.gpu.count)} if pool.gpu else {}
        for index in range(pool.size):
            server = names.server(pool.name, index)
            made = compute.Instance(
                server,
                name=server,
                flavor_id=flavor.flavor_id if flavor else None,
                flavor_name=None if flavor else pool.flavor,
                # By name: a newer image of the same name must not replace a server that is at work. The provider would rebuild
                # one whose own image is then renamed or deleted; the guards refuse that.
                image_name=pool.image,
                key_pair=pool.key_pair,
                networks=[compute.InstanceNetworkArgs(uuid=network.id) for network in owner.network.networks.values()],
                security_groups=["default", *owner.network.security_groups],
                scheduler_hints=[compute.InstanceSchedulerHintArgs(group=group.id)] if group else None,
                metadata={"pfmoc_pool": pool.name, "pfmoc_tenant": owner.spec.name, "arch": pool.arch, **product},
                power_state="shutoff" if off else "active",
                opts=pulumi.ResourceOptions.merge(
                    child, pulumi.ResourceOptions(depends_on=[owner.network, *([self.access] if flavor else [])])
                ),
            )
            self.addresses[server] = made.access_ip_v4

    def _flavor(self, name: str, shape: Shape, cloud: OpenStack, owner: Tenant) -> compute.Flavor:
        child = pulumi.ResourceOptions(parent=self, provider=cloud.admin)
        flavor = compute.Flavor(
            name,
            name=name,
            vcpus=shape.vcpus,
            ram=shape.ram_mib,
            disk=shape.disk_gib,
            is_public=False,
            extra_specs=dict(shape.extra_specs),
            opts=child,
        )
        self.access = compute.FlavorAccess(name, flavor_id=flavor.flavor_id, tenant_id=owner.project_id, opts=child)
        return flavor

    def _machine_set(self, pool: NodePoolSpec, cloud: OpenShift, *, size: int) -> None:
        cluster = cloud.spec.machine_cluster or ""
        name = f"{cluster}-{pool.name}"
        selector = {
            CLUSTER_LABEL: cluster,
            "machine.openshift.io/cluster-api-machineset": name,
        }
        role = {
            "machine.openshift.io/cluster-api-machine-role": "worker",
            "machine.openshift.io/cluster-api-machine-type": "worker",
        }
        kubernetes.apiextensions.CustomResource(
            pool.name,
            api_version="machine.openshift.io/v1beta1",
            kind="MachineSet",
            metadata=metadata(name, namespace=MACHINE_NAMESPACE, labels={CLUSTER_LABEL: cluster}),
            spec={
                "replicas": size,
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {"labels": {**selector, **role}},
                    "spec": {
                        "metadata": {"labels": pool.all_labels},
                        "taints": [taint.model_dump() for taint in pool.all_taints],
                        "providerSpec": {"value": _provider_spec(pool, cluster)},
                    },
                },
            },
            opts=pulumi.ResourceOptions(parent=self, provider=cloud.provider),
        )

    def _nodes(self, pool: NodePoolSpec, cloud: OpenShift) -> None:
        """Label and taint nodes; labels and taints of others stay."""
        for node in pool.nodes:
            kubernetes.core.v1.NodePatch(
                f"{pool.name}-{node}",
                metadata=kubernetes.meta.v1.ObjectMetaPatchArgs(name=node, labels=pool.all_labels, annotations=FORCE),
                opts=pulumi.ResourceOptions(parent=self, provider=cloud.provider),
            )
            if pool.all_taints:
                SharedList(
                    f"{pool.name}-{node}-taints",
                    Place.taints(node),
                    [taint.model_dump() for taint in pool.all_taints],
                    context=cloud.spec.context,
                    kubeconfig=cloud.spec.kubeconfig,
                    opts=pulumi.ResourceOptions(parent=self),
                )


def _provider_spec(pool: NodePoolSpec, cluster: str) -> dict[str, object]:
    """What the Machine API's OpenStack provider makes servers from: the cluster's own network and credentials."""
    tag = {"tags": f"openshiftClusterID={cluster}"}
    return {
        "apiVersion": "machine.openshift.io/v1alpha1",
        "kind": "OpenstackProviderSpec",
        "cloudName": "openstack",
        "cloudsSecret": {"name": "openstack-cloud-credentials", "namespace": MACHINE_NAMESPACE},
        "flavor": pool.flavor,
        "image": pool.image,
        "networks": [{"filter": {}, "subnets": [{"filter": tag}]}],
        "securityGroups": [{"name": f"{cluster}-worker"}],
        "serverMetadata": {"Name": f"{cluster}-worker", "openshiftClusterID": cluster},
        "tags": [f"openshiftClusterID={cluster}"],
        "trunk": False,
        "userDataSecret": {"name": "worker-user-data"},
    }
