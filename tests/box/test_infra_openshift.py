"""A site on OpenShift alone: what is changed by hand is found, named and repaired; what would cost data is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from harness import pools, sites
from harness.box import Box
from harness.cluster import claim
from harness.openshift import User
from harness.operators import Operator, operating
from harness.tenants import sdk_warnings
from harness.waiting import until
from kubernetes.client import NetworkingV1Api, SchedulingV1Api

pytest_plugins = ["harness.openshift_fixtures"]
pytestmark = sdk_warnings

CHRIS, NEIGHBOUR = "eo-chris", "eo-neighbour"
A100, V100 = "NVIDIA-A100-SXM4-40GB", "Tesla-V100-PCIE-32GB"
MACHINES = ("machine.openshift.io", "v1beta1", "openshift-machine-api", "machinesets", "eo-box-eo-machines")
ROUTE = ("route.openshift.io", "v1", CHRIS, "routes", "pfmoc")
BY_HAND = {"key": "example.org/repair", "effect": "NoSchedule"}


def site_file() -> dict[str, Any]:
    """The site `box-openshift`, with node pools and a tenant of its own to be guarded."""
    site = sites.inventory("box-openshift", "eo")
    site["clouds"]["openshift"]["machine_cluster"] = "eo-box"
    site["node_pools"] = [
        {
            "name": "eo-machines",
            "source": "machineset",
            "size": 2,
            "flavor": "gpu-su-v100.1",
            "image": "box-x86_64",
            "gpu": {"product": V100, "count": 1, "driver": "550"},
        },
        {
            "name": "eo-nodes",
            "source": "existing",
            "size": 1,
            "nodes": ["eo-node-0"],
            "gpu": {"product": A100, "count": 4, "driver": "580"},
        },
    ]
    return site


@pytest.fixture(scope="module")
def operator(box: Box, admin: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    nodes = [{"name": "eo-node", "count": 1, "cpu": 64, "memory": "256Gi"}]
    with (
        pools.simulated(box, nodes, owner="eo-node"),
        operating(box, tmp_path_factory.mktemp("openshift"), site_file()) as operator,
    ):
        yield operator
        operator.write(site_file())


def in_step(operator: Operator) -> None:
    document = operator.drift()
    assert document["verdict"] == "in step", document["findings"]


def taints(admin: User) -> list[dict[str, str]]:
    return list(admin.api.sanitize_for_serialization(admin.core.read_node("eo-node-0").spec.taints or []))


def by_hand(admin: User) -> None:
    """One change of each kind, as somebody with `oc` makes them."""
    hard = {"spec": {"hard": {"limits.cpu": "99"}}}
    admin.core.patch_namespaced_resource_quota(f"{CHRIS}-project", CHRIS, hard)
    (limit,) = admin.core.read_namespaced_limit_range(f"{CHRIS}-limits", CHRIS).spec.limits
    limit.default["cpu"] = "7"
    admin.core.patch_namespaced_limit_range(f"{CHRIS}-limits", CHRIS, {"spec": {"limits": [limit]}})
    somebody = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}
    admin.rbac.patch_namespaced_role_binding("admin", CHRIS, {"subjects": [somebody]})
    wide = {"spec": {"egress": [{}], "ingress": [{}]}}
    NetworkingV1Api(admin.api).patch_namespaced_network_policy("default-deny", CHRIS, wide)
    marks = {
        "labels": {"pod-security.kubernetes.io/enforce": "privileged", "nerc.mghpcc.org/project": None},
        "annotations": {"openshift.io/display-name": "by hand", "example.org/theirs": "stays"},
    }
    admin.core.patch_namespace(CHRIS, {"metadata": marks})
    SchedulingV1Api(admin.api).patch_priority_class("eo-interactive", {"description": "by hand"})
    admin.core.patch_namespaced_secret("pfmoc-settings", CHRIS, {"stringData": {"PFCON_PASSWORD": "somebody-elses"}})
    admin.custom.patch_namespaced_custom_object(*ROUTE, {"spec": {"tls": {"insecureEdgeTerminationPolicy": "Allow"}}})
    admin.core.delete_namespaced_service_account("pfmoc", CHRIS)
    admin.core.delete_namespaced_persistent_volume_claim("pfmoc", CHRIS)
    admin.wait_until_gone(admin.core.list_namespaced_persistent_volume_claim, "pfmoc", CHRIS)
    policy = {"metadata": {"name": "let-all-in"}, "spec": {"podSelector": {}, "ingress": [{}]}}
    NetworkingV1Api(admin.api).create_namespaced_network_policy(CHRIS, policy)
    kept = [each for each in taints(admin) if each["key"] != "nvidia.com/gpu.product"]
    admin.core.patch_node(
        "eo-node-0", {"spec": {"taints": [*kept, BY_HAND]}, "metadata": {"labels": {"nvidia.com/gpu.product": "another"}}}
    )
    admin.custom.patch_namespaced_custom_object_scale(*MACHINES, {"spec": {"replicas": 3}})


CHANGED = {
    ("ResourceQuota", CHRIS),
    ("LimitRange", CHRIS),
    ("RoleBinding", f"{CHRIS}-admin"),
    ("NetworkPolicy", f"{CHRIS}-default-deny"),
    ("Namespace", CHRIS),
    ("PriorityClass", "eo-interactive"),
    ("Secret", "pfmoc-settings"),
    ("Route", "pfmoc"),
    ("SharedList", "eo-nodes-eo-node-0-taints"),
    ("NodePatch", "eo-nodes-eo-node-0"),
    ("MachineSet", "eo-machines"),
}


def test_what_is_changed_by_hand_is_found_named_and_repaired(operator, admin):
    by_hand(admin)
    document = operator.drift()
    assert document["verdict"] == "drifted"
    found = {(each["kind"], each["name"]): each["why"] for each in document["findings"]}
    assert found == {
        **dict.fromkeys(CHANGED, "changed in the cloud"),
        ("ServiceAccount", "pfmoc"): "gone from the cloud",
        ("PersistentVolumeClaim", "pfmoc"): "gone from the cloud",
        ("NetworkPolicy", f"{CHRIS}/let-all-in"): "added in the cloud",
    }
    fields = {(each["kind"], each["field"]): (each["found"], each["wanted"]) for each in document["findings"]}
    assert fields["ResourceQuota", 'spec.hard["limits.cpu"]'] == ("99", "8")
    assert fields["MachineSet", "spec.replicas"] == ("3", "2")
    assert fields["Namespace", 'metadata.labels["pod-security.kubernetes.io/enforce"]'] == ("privileged", "restricted")
    assert "somebody-elses" not in json.dumps(document)
    code, table, _ = operator.run("drift")
    assert code == 2
    assert all(name in table for _, name in CHANGED)

    # What was added is told and left there: only a person knows what it is for.
    NetworkingV1Api(admin.api).delete_namespaced_network_policy("let-all-in", CHRIS)
    operator.up("--allow", "node-pool/eo-machines", "--allow", f"tenant/{CHRIS}")
    in_step(operator)
    assert admin.core.read_namespaced_resource_quota(f"{CHRIS}-project", CHRIS).spec.hard["limits.cpu"] == "8"
    metadata = admin.core.read_namespace(CHRIS).metadata
    assert metadata.labels["nerc.mghpcc.org/project"] == "true"
    assert metadata.annotations["example.org/theirs"] == "stays"
    deny = NetworkingV1Api(admin.api).read_namespaced_network_policy("default-deny", CHRIS).spec
    assert [each._from[0].ip_block.cidr for each in deny.ingress] == ["255.255.255.255/32"]
    assert [each.to[0].ip_block.cidr for each in deny.egress] == ["255.255.255.255/32"]
    binding = admin.rbac.read_namespaced_role_binding("admin", CHRIS)
    assert [each.name for each in binding.subjects] == [f"{CHRIS}-operator"]
    assert BY_HAND in taints(admin)
    assert {"key": "nvidia.com/gpu.product", "value": A100, "effect": "NoSchedule"} in taints(admin)
    assert admin.core.read_node("eo-node-0").metadata.labels["nvidia.com/gpu.product"] == A100
    assert admin.custom.get_namespaced_custom_object(*MACHINES)["spec"]["replicas"] == 2
    assert admin.core.read_namespaced_service_account("pfmoc", CHRIS)
    assert admin.core.read_namespaced_persistent_volume_claim("pfmoc", CHRIS)


@pytest.fixture
def used(admin: User) -> Iterator[None]:
    """A pod that counts against the quota, and a volume of the neighbour."""
    container = {
        "name": "main",
        "image": "localhost/none:1",
        "imagePullPolicy": "Never",
        "resources": {"limits": {"cpu": "3", "memory": "1Gi"}, "requests": {"cpu": "1m", "memory": "1Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsUser": 1000, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    # It waits for a node that is not there: what is made counts, whether it runs or not.
    spec = {"containers": [container], "securityContext": security, "nodeSelector": {"example.org/none": "there"}}
    admin.core.create_namespaced_pod(CHRIS, {"metadata": {"name": "used"}, "spec": spec})
    admin.core.create_namespaced_persistent_volume_claim(NEIGHBOUR, claim("theirs", "ReadWriteOnce"))
    quota = f"{CHRIS}-project"
    until(lambda: (admin.core.read_namespaced_resource_quota(quota, CHRIS).status.used or {}).get("limits.cpu") == "3")
    yield
    admin.core.delete_namespaced_pod("used", CHRIS, grace_period_seconds=0)
    admin.core.delete_namespaced_persistent_volume_claim("theirs", NEIGHBOUR)
    admin.wait_until_gone(admin.core.list_namespaced_persistent_volume_claim, "theirs", NEIGHBOUR)


def test_what_would_cost_data_is_refused_with_the_numbers(operator, admin, used):
    plan = site_file()
    sites.tenant(plan, CHRIS)["openshift"]["quotas"] |= {"limits_cpu": 2}
    sites.tenant(plan, NEIGHBOUR)["openshift"]["project"] = "eo-other"
    plan["node_pools"][0]["size"] = 1
    operator.write(plan)
    code, out, err = operator.run("preview", "--json")
    assert code == 2, err
    assert {(each["resource"], each["why"]) for each in json.loads(out)["refused"]} == {
        (f"tenant/{CHRIS}", "has quotas that would shrink below their use: limits.cpu from 8 to 2, and 3 are in use"),
        (f"tenant/{NEIGHBOUR}", "would be deleted with 1 persistent volume claims"),
        ("node-pool/eo-machines", "would be deleted with 1 machines"),
    }
    code, _, err = operator.run("up", "--yes")
    assert code == 2
    assert f"--allow node-pool/eo-machines --allow tenant/{CHRIS} --allow tenant/{NEIGHBOUR}" in err
    assert admin.custom.get_namespaced_custom_object(*MACHINES)["spec"]["replicas"] == 2

    operator.write({**plan, "allow_destroy": [f"tenant/{NEIGHBOUR}"]})
    code, out, err = operator.run("preview", "--json", "--allow", "node-pool/*", "--allow", f"tenant/{CHRIS}")
    assert code == 0, out + err
    assert json.loads(out)["refused"] == []


def test_destroy_is_refused_where_there_are_volumes(operator, used):
    operator.write(site_file())
    code, _, err = operator.run("destroy", "--yes")
    assert code == 2
    assert f"volume/{CHRIS}/pfmoc would be deleted with 1 volume" in err
    assert f"tenant/{NEIGHBOUR} would be deleted with 1 persistent volume claims" in err


def test_another_cluster_under_the_same_state_is_refused(operator, admin):
    uid, another = admin.core.read_namespace("kube-system").metadata.uid, "00000000-0000-0000-0000-000000000000"

    def forge(resources: list[dict[str, Any]]) -> None:
        (own,) = [each for each in resources if each.get("id") == "kube-system"]
        assert own["outputs"]["metadata"]["uid"] == uid
        own["outputs"]["metadata"]["uid"] = another

    with operator.forged(forge):
        for words in (["up", "--yes"], ["destroy", "--yes"]):
            code, _, err = operator.run(*words)
            assert code == 2
            assert f"the cluster is {uid}, and by the state {another}" in err
            assert "--allow identity" in err


def test_the_engine_itself_refuses_what_a_policy_forbids(operator, admin):
    """What the site file may say, as the cluster may have such a role under any name."""
    plan = site_file()
    sites.tenant(plan, CHRIS)["openshift"]["role_bindings"] = [{"role": "cluster-admin", "users": ["mallory"]}]
    operator.write(plan)
    try:
        for words in (["preview"], ["up", "--yes"]):
            code, out, err = operator.run(*words)
            assert code == 1, out + err
            assert "binds the role 'cluster-admin', with which pods may be privileged; bind admin, edit or view" in err
    finally:
        operator.write(site_file())
    assert "cluster-admin" not in {each.role_ref.name for each in admin.rbac.list_namespaced_role_binding(CHRIS).items}


def test_a_cluster_that_is_away_is_unknown_and_not_drifted(operator, box, tmp_path):
    code, out, err = operator.run("drift", "--json", KUBECONFIG=str(sites.away(box, tmp_path)))
    assert code == 3, out + err
