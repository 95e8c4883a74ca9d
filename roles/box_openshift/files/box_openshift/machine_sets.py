"""MachineSets that have as many Machines as they ask for."""

from __future__ import annotations

import secrets
import string

from .cluster import Cluster, ConflictError, Object
from .controller import Controller
from .informer import Informer
from .resources import MACHINE_SETS, MACHINES

API_VERSION = "machine.openshift.io/v1beta1"
# A machine with this annotation is the first to go.
DELETE_ME = "machine.openshift.io/delete-machine"
SUFFIX = 5


def owned(machines: list[Object], machine_set: Object) -> list[Object]:
    """The machines of a machine set that are not being deleted."""
    uid = machine_set["metadata"]["uid"]
    return [
        machine
        for machine in machines
        if "deletionTimestamp" not in machine["metadata"]
        and any(owner["uid"] == uid for owner in machine["metadata"].get("ownerReferences") or [])
    ]


def superfluous(machines: list[Object], number: int, policy: str) -> list[Object]:
    """Which machines to delete, so many: marked ones first, then by the set's ``deletePolicy``."""
    age = [(machine["metadata"]["creationTimestamp"], machine["metadata"]["name"], machine) for machine in machines]
    in_turn = [machine for *_, machine in sorted(age, key=lambda entry: entry[:2], reverse=policy != "Oldest")]
    return sorted(in_turn, key=lambda machine: DELETE_ME not in (machine["metadata"].get("annotations") or {}))[:number]


def status(machine_set: Object, machines: list[Object]) -> Object:
    """The status of a machine set with these machines."""
    labels = machine_set["spec"]["template"]["metadata"].get("labels") or {}
    full = [m for m in machines if labels.items() <= (m["metadata"].get("labels") or {}).items()]
    ready = [m for m in machines if (m.get("status") or {}).get("phase") == "Running"]
    return {
        "replicas": len(machines),
        "fullyLabeledReplicas": len(full),
        "readyReplicas": len(ready),
        "availableReplicas": len(ready),
        "observedGeneration": machine_set["metadata"]["generation"],
    }


class MachineSets(Controller):
    """Creates and deletes Machines; what a Machine is made of is not its business."""

    def __init__(self, cluster: Cluster, machine_sets: Informer, machines: Informer) -> None:
        super().__init__()
        self._cluster = cluster
        self._machine_sets = machine_sets
        self._machines = machines
        machine_sets.listeners.append(lambda thing: self.enqueue(f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"))
        machines.listeners.append(self._machine_changed)

    def _machine_changed(self, machine: Object) -> None:
        for owner in machine["metadata"].get("ownerReferences") or []:
            if owner["kind"] == "MachineSet":
                self.enqueue(f"{machine['metadata']['namespace']}/{owner['name']}")

    def reconcile(self, key: str) -> None:
        """Bring one machine set to its number of machines."""
        machine_set = self._machine_sets.get(key)
        if machine_set is None or "deletionTimestamp" in machine_set["metadata"]:
            return
        namespace, name = key.split("/")
        # From the server: the copy in memory may lack what the last call created.
        machines = owned(self._cluster.list(MACHINES, namespace)[0], machine_set)
        wanted = machine_set["spec"].get("replicas", 1)
        policy = machine_set["spec"].get("deletePolicy", "")
        for machine in superfluous(machines, len(machines) - wanted, policy) if len(machines) > wanted else []:
            self._cluster.delete(MACHINES, machine["metadata"]["name"], namespace)
            machines.remove(machine)
        for _ in range(wanted - len(machines)):
            machines.append(self._create(machine_set))
        current = status(machine_set, machines)
        if current.items() <= (machine_set.get("status") or {}).items():
            return
        self._cluster.patch(MACHINE_SETS, name, {"status": current}, namespace, "status")

    def _create(self, machine_set: Object) -> Object:
        metadata = machine_set["metadata"]
        template = machine_set["spec"]["template"]
        owner = {"apiVersion": API_VERSION, "kind": "MachineSet", "name": metadata["name"], "uid": metadata["uid"]}
        while True:
            suffix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(SUFFIX))
            machine = {
                "apiVersion": API_VERSION,
                "kind": "Machine",
                "metadata": {
                    "name": f"{metadata['name']}-{suffix}",
                    "labels": template["metadata"].get("labels") or {},
                    "annotations": template["metadata"].get("annotations") or {},
                    "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
                    "finalizers": ["machine.machine.openshift.io"],
                },
                "spec": template["spec"],
            }
            try:
                return self._cluster.create(MACHINES, machine, metadata["namespace"])
            except ConflictError:
                continue
