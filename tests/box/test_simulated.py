"""Simulated nodes: of any architecture and GPU, scheduled to as real ones are, and made and removed at will."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from harness import load, pools
from harness.box import Box
from harness.cluster import pod
from kubernetes.client import ApiException

A100, V100, P100 = "NVIDIA-A100-SXM4-80GB", "Tesla-V100-PCIE-32GB", "Tesla-P100-SXM2-16GB"
POOLS = [
    {"name": "test-a100", "count": 60, "cpu": 128, "memory": "1Ti", "gpu": {"product": A100, "count": 4}},
    {"name": "test-v100", "count": 40, "gpu": {"product": V100, "count": 1}},
    {"name": "test-power9", "count": 60, "arch": "ppc64le"},
    {"name": "test-minsky", "count": 20, "arch": "ppc64le", "gpu": {"product": P100, "count": 4}},
    {"name": "test-cpu", "count": 20, "labels": {"test": "cpu"}},
]
# What a Job must say to land in each pool, and no more: selector, keys of tolerated taints, and resources.
WANTED = {
    "test-a100": ({"nvidia.com/gpu.product": A100}, ["nvidia.com/gpu.product"], {"nvidia.com/gpu": "1"}),
    "test-v100": ({"nvidia.com/gpu.product": V100}, ["nvidia.com/gpu.product"], {"nvidia.com/gpu": "1"}),
    "test-power9": ({"kubernetes.io/arch": "ppc64le"}, ["kubernetes.io/arch"], {"cpu": "2", "memory": "4Gi"}),
    "test-minsky": (
        {"kubernetes.io/arch": "ppc64le", "nvidia.com/gpu.product": P100},
        ["kubernetes.io/arch", "nvidia.com/gpu.product"],
        {"nvidia.com/gpu": "2"},
    ),
    "test-cpu": ({"test": "cpu"}, ["kwok.x-k8s.io/node"], {"cpu": "2", "memory": "4Gi"}),
}
JOBS = 500


@pytest.fixture(scope="module", autouse=True)
def nodes(box: Box) -> Iterator[None]:
    with pools.simulated(box, POOLS):
        yield


def job(name, pool, **more):
    selector, tolerated, resources = WANTED[pool]
    return load.job(
        name,
        selector=selector,
        tolerations=[{"key": key, "operator": "Exists"} for key in tolerated],
        resources=resources,
        **more,
    )


def ended(cluster, namespace, name, phase):
    selector = f"job-name={name}"
    return cluster.wait(cluster.core.list_namespaced_pod, lambda p: p.status.phase == phase, namespace, label_selector=selector)


def test_500_jobs_complete_each_in_a_pool_that_suits_it(cluster, namespace):
    asked = {f"job-{number}": list(WANTED)[number % len(WANTED)] for number in range(JOBS)}
    outcome = load.run(cluster, namespace, [job(name, pool) for name, pool in asked.items()])
    pool_of = {n.metadata.name: n.metadata.labels.get("box.chrisproject.org/pool") for n in cluster.core.list_node().items}
    landed = {name: pool_of[node] for name, node in outcome.nodes.items()}
    # The GPU-less ppc64le Jobs may take a GPU node's processor where they tolerate its taint: these do not.
    assert landed == asked
    assert outcome.complete == asked.keys()
    assert max(Counter(outcome.nodes.values()).values()) < JOBS / 20, "the scheduler spreads them"


def test_the_real_node_runs_pods_that_ask_for_nothing_meanwhile(cluster, namespace):
    ended = cluster.run(namespace, pod("hostname"))
    assert ended.phase == "Succeeded"
    assert "box.chrisproject.org/pool" not in cluster.core.read_node(ended.node).metadata.labels


def test_a_pod_without_the_toleration_does_not_land(cluster, namespace):
    cluster.batch.create_namespaced_job(namespace, load.job("bare", selector={"nvidia.com/gpu.product": A100}))
    waiting = cluster.wait(
        cluster.core.list_namespaced_pod, lambda p: p.status.conditions, namespace, label_selector="job-name=bare"
    )
    assert [(c.type, c.reason) for c in waiting.status.conditions] == [("PodScheduled", "Unschedulable")]


def test_a_pod_says_how_long_it_runs_and_how_it_ends(cluster, namespace):
    annotations = {"box.chrisproject.org/run": "3s", "box.chrisproject.org/exit-code": "7"}
    cluster.batch.create_namespaced_job(namespace, job("fails", "test-a100", annotations=annotations))
    state = ended(cluster, namespace, "fails", "Failed").status.container_statuses[0].state.terminated
    assert (state.exit_code, state.reason) == (7, "Error")
    assert 2 <= (state.finished_at - state.started_at).total_seconds() <= 30
    cluster.wait(cluster.batch.list_namespaced_job, lambda found: found.status.failed == 1, namespace)


def test_a_simulated_pod_has_a_log(cluster, namespace):
    cluster.batch.create_namespaced_job(namespace, job("speaks", "test-cpu"))
    name = ended(cluster, namespace, "speaks", "Succeeded").metadata.name
    assert "nothing has run" in cluster.core.read_namespaced_pod_log(name, namespace)


def test_whoever_plays_the_nodes_may_be_killed(box, cluster, namespace):
    os.kill(int(box.status()["kwok"]["pid"]), signal.SIGKILL)
    cluster.batch.create_namespaced_job(namespace, job("after", "test-v100"))
    ended(cluster, namespace, "after", "Succeeded")


def test_nodes_say_what_nerc_says(cluster):
    node = cluster.core.read_node("test-minsky-0")
    labels = {
        "kubernetes.io/arch": "ppc64le",
        "nvidia.com/gpu.product": P100,
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.present": "true",
    }
    assert labels.items() <= node.metadata.labels.items()
    assert node.status.allocatable["nvidia.com/gpu"] == "4"
    assert node.status.node_info.architecture == "ppc64le"
    taints = {(t.key, t.value, t.effect) for t in node.spec.taints}
    assert ("nvidia.com/gpu.product", P100, "NoSchedule") in taints
    assert ("kubernetes.io/arch", "ppc64le", "NoSchedule") in taints


def test_pools_come_change_and_go_and_the_same_again_changes_nothing(box, cluster):
    assert pools.apply(box, POOLS).startswith("unchanged: 200 simulated nodes, 0 made, 0 removed")
    changed = [{**POOLS[0], "count": 61}, {**POOLS[1], "labels": {"test": "changed"}}, *POOLS[2:4]]
    try:
        assert pools.apply(box, changed).startswith("changed: 181 simulated nodes, 41 made, 60 removed")
        assert cluster.core.read_node("test-v100-0").metadata.labels["test"] == "changed"
        with pytest.raises(ApiException, match="not found"):
            cluster.core.read_node("test-cpu-0")
    finally:
        pools.apply(box, POOLS)
