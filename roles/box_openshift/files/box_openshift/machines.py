"""Machines that are simulated nodes: KWOK plays them."""

from __future__ import annotations

from .cluster import Cluster, NotFoundError, Object
from .controller import Controller
from .informer import Informer
from .resources import MACHINES, NODES

FINALIZER = "machine.machine.openshift.io"
MACHINE = "machine.openshift.io/machine"
# What KWOK knows its nodes by, and the taint of those whose template has none: real pods must not go there.
SIMULATED = "kwok.x-k8s.io/node"
TAINT = {"key": SIMULATED, "value": "fake", "effect": "NoSchedule"}
# What the role box_kubernetes knows its simulated nodes by; what is of another set it leaves alone.
POOL = "box.chrisproject.org/pool"
SET = "box.chrisproject.org/pools"
# A MachineSet says how large its machines are in the annotations with which OpenShift's providers tell the cluster
# autoscaler. These are used where it does not.
CPUS = "8"
MEMORY_MIB = "32768"
PODS = "110"


def node_of(machine: Object, size: dict[str, str]) -> Object:
    """The node that a machine becomes, with the labels and taints of its template.

    :param size: the annotations of its machine set
    """
    metadata = machine["metadata"]
    spec = machine["spec"]
    wanted = spec.get("metadata") or {}
    labels = {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node-role.kubernetes.io/worker": "",
        **(wanted.get("labels") or {}),
        "kubernetes.io/hostname": metadata["name"],
        POOL: next((owner["name"] for owner in metadata.get("ownerReferences") or ()), metadata["name"]),
        SET: "machines",
    }
    capacity = {
        "cpu": size.get("machine.openshift.io/vCPU", CPUS),
        "memory": f"{size.get('machine.openshift.io/memoryMb', MEMORY_MIB)}Mi",
        "pods": PODS,
    }
    if int(size.get("machine.openshift.io/GPU", "0")):
        capacity["nvidia.com/gpu"] = size["machine.openshift.io/GPU"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": metadata["name"],
            "labels": labels,
            "annotations": {
                **(wanted.get("annotations") or {}),
                SIMULATED: "fake",
                MACHINE: f"{metadata['namespace']}/{metadata['name']}",
            },
        },
        "spec": {"taints": spec.get("taints") or [TAINT], "providerID": f"kwok://{metadata['name']}"},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "nodeInfo": {
                "architecture": labels["kubernetes.io/arch"],
                "operatingSystem": "linux",
                "kubeletVersion": "simulated",
                **dict.fromkeys(("bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "machineID"), ""),
                **dict.fromkeys(("osImage", "systemUUID"), ""),
            },
        },
    }


def ready(node: Object) -> bool:
    """True if a node says that it is."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


class Machines(Controller):
    """Gives each machine its node, and takes the node away with it."""

    def __init__(self, cluster: Cluster, machines: Informer, machine_sets: Informer, nodes: Informer) -> None:
        super().__init__()
        self._cluster = cluster
        self._machines = machines
        self._machine_sets = machine_sets
        self._nodes = nodes
        machines.listeners.append(lambda thing: self.enqueue(f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"))
        nodes.listeners.append(self._node_changed)

    def _node_changed(self, node: Object) -> None:
        machine = (node["metadata"].get("annotations") or {}).get(MACHINE)
        if machine:
            self.enqueue(machine)

    def reconcile(self, key: str) -> None:
        """Bring one machine to where its node is."""
        machine = self._machines.get(key)
        if machine is None:
            return
        namespace, name = key.split("/")
        if "deletionTimestamp" in machine["metadata"]:
            self._release(machine)
            return
        if FINALIZER not in (machine["metadata"].get("finalizers") or []):
            finalizers = [*(machine["metadata"].get("finalizers") or []), FINALIZER]
            self._cluster.patch(MACHINES, name, {"metadata": {"finalizers": finalizers}}, namespace)
        node = self._nodes.get(name)
        if node is None:
            node = self._cluster.create(NODES, node_of(machine, self._size(machine)))
        reference = {"kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        addresses = (node.get("status") or {}).get("addresses") or []
        status = {"phase": "Running" if ready(node) else "Provisioned", "nodeRef": reference, "addresses": addresses}
        if status.items() <= (machine.get("status") or {}).items():
            return
        self._cluster.patch(MACHINES, name, {"status": status}, namespace, "status")

    def _size(self, machine: Object) -> dict[str, str]:
        """What the machine set's annotations say."""
        for owner in machine["metadata"].get("ownerReferences") or []:
            machine_set = self._machine_sets.get(f"{machine['metadata']['namespace']}/{owner['name']}")
            if machine_set is not None:
                return dict(machine_set["metadata"].get("annotations") or {})
        return {}

    def _release(self, machine: Object) -> None:
        """Delete the node, then let the machine go."""
        name = machine["metadata"]["name"]
        finalizers = machine["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        self._cluster.delete(NODES, name)
        rest = [finalizer for finalizer in finalizers if finalizer != FINALIZER]
        try:
            self._cluster.patch(MACHINES, name, {"metadata": {"finalizers": rest}}, machine["metadata"]["namespace"])
        except NotFoundError:
            return
