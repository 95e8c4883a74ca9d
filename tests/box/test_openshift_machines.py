"""MachineSets: machines that become simulated nodes."""

from __future__ import annotations

import secrets

import pytest
from harness.openshift import DEADLINE_S
from harness.waiting import until

pytest_plugins = ["harness.openshift_fixtures"]

GROUP = "machine.openshift.io"
NAMESPACE = "openshift-machine-api"
PRODUCT = "NVIDIA-A100-SXM4-40GB"


@pytest.fixture
def machine_set(admin):
    name = f"test-{secrets.token_hex(4)}"
    labels = {"machine.openshift.io/cluster-api-machineset": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "metadata": {"labels": {"nvidia.com/gpu.product": PRODUCT, "test": name}},
            "taints": [{"key": "nvidia.com/gpu.product", "value": PRODUCT, "effect": "NoSchedule"}],
            "providerSpec": {"value": {"flavor": "gpu.a100.4"}},
        },
    }
    sizes = {"vCPU": "32", "memoryMb": "131072", "GPU": "4"}
    annotations = {f"machine.openshift.io/{key}": value for key, value in sizes.items()}
    body = {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "MachineSet",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }
    admin.custom.create_namespaced_custom_object(GROUP, "v1beta1", NAMESPACE, "machinesets", body)
    yield name
    admin.custom.delete_namespaced_custom_object(GROUP, "v1beta1", NAMESPACE, "machinesets", name)
    until(lambda: not nodes(admin, name), what="the end of the nodes", deadline_s=DEADLINE_S)


def nodes(admin, machine_set):
    return {node.metadata.name: node for node in admin.core.list_node(label_selector=f"test={machine_set}").items}


def machines(admin, machine_set):
    listed = admin.custom.list_namespaced_custom_object(
        GROUP, "v1beta1", NAMESPACE, "machines", label_selector=f"machine.openshift.io/cluster-api-machineset={machine_set}"
    )
    return {item["metadata"]["name"]: item for item in listed["items"]}


def status(admin, machine_set):
    found = admin.custom.get_namespaced_custom_object(GROUP, "v1beta1", NAMESPACE, "machinesets", machine_set)
    return found.get("status") or {}


def scale(admin, machine_set, replicas):
    admin.custom.patch_namespaced_custom_object_scale(
        GROUP, "v1beta1", NAMESPACE, "machinesets", machine_set, {"spec": {"replicas": replicas}}
    )
    until(lambda: len(nodes(admin, machine_set)) == replicas, what=f"{replicas} nodes", deadline_s=DEADLINE_S)
    until(lambda: status(admin, machine_set).get("replicas") == replicas, deadline_s=DEADLINE_S)


def test_a_machine_set_has_the_nodes_of_its_template(admin, machine_set, box):
    until(lambda: len(nodes(admin, machine_set)) == 2, what="two nodes", deadline_s=DEADLINE_S)
    name, node = next(iter(nodes(admin, machine_set).items()))
    assert node.metadata.labels["nvidia.com/gpu.product"] == PRODUCT
    # Kubernetes itself adds node.kubernetes.io/not-ready for as long as nobody has said that the node is ready.
    taints = [taint for taint in node.spec.taints if not taint.key.startswith("node.kubernetes.io/")]
    assert [(taint.key, taint.value, taint.effect) for taint in taints] == [("nvidia.com/gpu.product", PRODUCT, "NoSchedule")]
    assert node.status.capacity["nvidia.com/gpu"] == "4"
    assert node.status.capacity["cpu"] == "32"
    assert node.metadata.annotations["machine.openshift.io/machine"] == f"{NAMESPACE}/{name}"
    until(
        lambda: machines(admin, machine_set)[name].get("status", {}).get("nodeRef", {}).get("name") == name, deadline_s=DEADLINE_S
    )
    if "kwok" in box.status():
        until(lambda: status(admin, machine_set).get("readyReplicas") == 2, what="two ready machines", deadline_s=DEADLINE_S)


def test_it_grows_and_shrinks(admin, machine_set):
    scale(admin, machine_set, 4)
    scale(admin, machine_set, 1)
    scale(admin, machine_set, 0)
    # Each goes after its node.
    until(lambda: not machines(admin, machine_set), what="the end of the machines", deadline_s=DEADLINE_S)


def test_a_machine_that_is_deleted_is_replaced(admin, machine_set):
    until(lambda: len(nodes(admin, machine_set)) == 2, what="two nodes", deadline_s=DEADLINE_S)
    gone = min(machines(admin, machine_set))
    admin.custom.delete_namespaced_custom_object(GROUP, "v1beta1", NAMESPACE, "machines", gone)
    until(lambda: gone not in nodes(admin, machine_set), deadline_s=DEADLINE_S)
    until(lambda: len(nodes(admin, machine_set)) == 2, what="two nodes again", deadline_s=DEADLINE_S)


def test_the_marked_machine_goes_first(admin, machine_set):
    until(lambda: len(machines(admin, machine_set)) == 2, deadline_s=DEADLINE_S)
    marked, other = sorted(machines(admin, machine_set))
    mark = {"metadata": {"annotations": {"machine.openshift.io/delete-machine": "true"}}}
    admin.custom.patch_namespaced_custom_object(GROUP, "v1beta1", NAMESPACE, "machines", marked, mark)
    scale(admin, machine_set, 1)
    until(lambda: set(machines(admin, machine_set)) == {other}, deadline_s=DEADLINE_S)
