"""The objects that the role applies, and machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from box_openshift.apply import DEFINITION, read
from box_openshift.machine_sets import owned, status, superfluous
from box_openshift.machines import node_of
from box_openshift.security_context import constraints, roles

OBJECTS = Path(__file__).resolve().parents[4] / "roles" / "box_openshift" / "files" / "objects"
VALUES = dict.fromkeys(
    ("api", "authority", "cluster_id", "domain", "internal_api", "pod_network", "service_network", "version"), "some-value"
)


def test_definitions_come_first_and_keep_their_dollar_signs(tmp_path):
    definition = (
        f"kind: {DEFINITION}\nmetadata: {{name: d, creationTimestamp: null}}\nspec: {{description: a $sign}}\nstatus: {{}}\n"
    )
    (tmp_path / "z.yaml").write_text(definition)
    first, *others = read([OBJECTS, tmp_path], VALUES)
    assert first == {"kind": DEFINITION, "metadata": {"name": "d"}, "spec": {"description": "a $sign"}}
    assert all(manifest["kind"] != DEFINITION for manifest in others)


def test_no_object_is_applied_twice_and_no_value_is_left_open():
    manifests = read([OBJECTS], VALUES)
    names = [(m["apiVersion"], m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    assert len(set(names)) == len(names)
    assert "$" not in str(manifests)


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(KeyError):
        read([OBJECTS], {})


def test_each_constraint_has_a_role_for_its_use():
    names = {thing["metadata"]["name"] for thing in constraints()}
    assert {f"system:openshift:scc:{name}" for name in names} == {
        r["metadata"]["name"] for r in roles() if r["kind"] == "ClusterRole"
    }
    assert all("*" not in rule["verbs"] for role in roles() for rule in role.get("rules", ()))


def machine(name, *, age, marked=False, uid="set", phase="Running"):
    annotations = {"machine.openshift.io/delete-machine": "true"} if marked else None
    metadata = {
        "namespace": "openshift-machine-api",
        "name": name,
        "creationTimestamp": f"2026-01-01T00:00:{59 - age:02d}Z",
        "annotations": annotations,
        "labels": {"a": "b"},
        "ownerReferences": [{"kind": "MachineSet", "name": "pool", "uid": uid}],
    }
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("policy", "gone"), [("", ["marked", "new"]), ("Newest", ["marked", "new"]), ("Oldest", ["marked", "old"])]
)
def test_marked_machines_go_first_then_by_policy(policy, gone):
    machines = [machine("middle", age=2), machine("old", age=3), machine("marked", age=2, marked=True), machine("new", age=1)]
    assert [m["metadata"]["name"] for m in superfluous(machines, 2, policy)] == gone


def test_a_set_counts_its_own_machines_only():
    machine_set = {
        "metadata": {"uid": "set", "generation": 4},
        "spec": {"template": {"metadata": {"labels": {"a": "b"}}}},
    }
    ending = machine("ending", age=1)
    ending["metadata"]["deletionTimestamp"] = "now"
    mine = owned(
        [machine("a", age=1), machine("b", age=1, phase="Provisioned"), machine("c", age=1, uid="other"), ending], machine_set
    )
    assert status(machine_set, mine) == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 4,
    }


def test_a_node_has_what_its_template_says_and_no_real_pod_goes_there_by_chance():
    bare = node_of(machine("pool-1", age=1), {})
    assert bare["spec"]["taints"] == [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]
    assert "nvidia.com/gpu" not in bare["status"]["capacity"]
    given = machine("pool-1", age=1)
    taint = {"key": "nvidia.com/gpu.product", "value": "A100", "effect": "NoSchedule"}
    given["spec"] = {"metadata": {"labels": {"kubernetes.io/arch": "ppc64le"}}, "taints": [taint]}
    node = node_of(given, {"machine.openshift.io/vCPU": "4", "machine.openshift.io/GPU": "2"})
    assert node["spec"]["taints"] == [taint]
    assert node["status"]["nodeInfo"]["architecture"] == "ppc64le"
    assert (node["status"]["capacity"]["cpu"], node["status"]["capacity"]["nvidia.com/gpu"]) == ("4", "2")
