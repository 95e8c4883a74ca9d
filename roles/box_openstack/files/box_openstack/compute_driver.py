"""A hypervisor that pretends: servers become ACTIVE, and nothing runs.

It is Nova's own fake driver, with an architecture, GPUs, and a memory that outlives the process. There are two compute services
with one node each, x86_64 and ppc64le: Nova counts the PCI devices of one node in each service.
"""

from __future__ import annotations

import io
import uuid
from typing import Any

import os_traits
from nova import context as nova_context
from nova import objects
from nova.compute import power_state
from nova.image import glance
from nova.objects import fields
from nova.virt import fake, node
from oslo_serialization import jsonutils

from box_openstack.gpu import GPUS
from box_openstack.render import NODE

X86_64, PPC64LE = fields.Architecture.X86_64, fields.Architecture.PPC64LE
HOSTS = {f"{NODE}-x86-64": X86_64, f"{NODE}-ppc64le": PPC64LE}
# By which a flavor asks for an architecture.
TRAITS = {X86_64: os_traits.HW_ARCH_X86_64, PPC64LE: os_traits.HW_ARCH_PPC64LE}
HYPERVISORS = (fields.HVType.FAKE, fields.HVType.QEMU, fields.HVType.KVM)


def _devices(architecture: str) -> list[dict[str, Any]]:
    """A node's GPUs, as a driver reports PCI devices. Each kind has a bus of its own."""
    return [
        {
            "address": f"0000:{bus:02x}:{slot:02x}.0",
            "vendor_id": gpu.vendor,
            "product_id": gpu.product,
            "dev_type": fields.PciDeviceType.STANDARD,
            "status": "available",
            "parent_addr": None,
            "numa_node": None,
            "label": f"label_{gpu.vendor}_{gpu.product}",
        }
        for bus, gpu in enumerate(GPUS, 0x10)
        for slot in range(gpu.count.get(architecture, 0))
    ]


class Driver(fake.FakeDriver):  # type: ignore[misc]
    """See the module."""

    def init_host(self, host: str) -> None:
        """Take the host's servers back from the database: a fake hypervisor forgets them with its process."""
        super().init_host(host)
        servers = objects.InstanceList.get_by_host(nova_context.get_admin_context(), host, expected_attrs=["flavor"])
        for server in servers:
            if server.vm_state not in ("building", "deleted", "error"):
                state = server.power_state or power_state.RUNNING
                self.instances[server.uuid] = fake.FakeInstance(server.name, state, server.uuid)
                self.resources.claim(vcpus=server.flavor.vcpus, mem=server.flavor.memory_mb, disk=server.flavor.root_gb)

    def get_nodenames_by_uuid(self, refresh: bool = False) -> dict[str, str]:  # noqa: ARG002, FBT001, FBT002 - Nova's signature
        """The same ids after each start, drawn from the one that Nova keeps in its state directory."""
        return {_node_id(name): name for name in self.get_available_nodes()}

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        """What the node has."""
        found: dict[str, Any] = super().get_available_resource(nodename)
        if found:
            architecture = HOSTS[nodename]
            found["uuid"] = _node_id(nodename)
            found["supported_instances"] = [(architecture, hypervisor, fields.VMMode.HVM) for hypervisor in HYPERVISORS]
            found["cpu_info"] = jsonutils.dumps({**jsonutils.loads(found["cpu_info"]), "arch": architecture})
            found["pci_passthrough_devices"] = jsonutils.dumps(_devices(architecture))
        return found

    def update_provider_tree(self, provider_tree: Any, nodename: str, allocations: Any = None) -> None:
        """Tell Placement the node's architecture."""
        super().update_provider_tree(provider_tree, nodename, allocations)
        provider_tree.add_traits(nodename, TRAITS[HOSTS[nodename]])

    def get_host_uptime(self) -> str:
        """As ``uptime`` prints it."""
        return "00:00:00 up 1 day,  0:00,  0 users,  load average: 0, 0, 0"

    def snapshot(self, context: Any, instance: Any, image_id: str, update_task_state: Any) -> None:
        """Give the image a content, without which it would be queued for ever."""
        super().snapshot(context, instance, image_id, update_task_state)
        api = glance.API()
        image = api.get(context, image_id)
        image["container_format"] = image.get("container_format") or "bare"
        image["disk_format"] = image.get("disk_format") or "raw"
        api.update(context, image_id, image, data=io.BytesIO(bytes(1024)), purge_props=False)


def _node_id(name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(node.get_local_node_uuid()), name))
