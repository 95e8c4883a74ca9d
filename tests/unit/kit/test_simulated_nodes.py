"""The program that makes simulated nodes, against a kubectl that keeps them in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "roles/box_kubernetes/files/simulated_nodes.py"
KUBECTL = ROOT / "tests/harness/fake_kubectl.py"
A100 = {"product": "NVIDIA-A100-SXM4-80GB", "count": 4}


class Nodes:
    """A cluster's nodes, and the program that makes them."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "nodes.json"
        self.file.write_text("{}")
        self._kubectl = directory / "kubectl"
        self._kubectl.write_text(f'#!/bin/sh\nexec {sys.executable} {KUBECTL} "$@"\n')
        self._kubectl.chmod(0o755)

    def one(self, name):
        return json.loads(self.file.read_text())[name]

    def names(self):
        return sorted(json.loads(self.file.read_text()))

    def run(self, document, *words):
        return subprocess.run(
            [sys.executable, PROGRAM, "--kubectl", self._kubectl, *words],
            input=document if isinstance(document, str) else json.dumps(document),
            env=os.environ | {"KUBECONFIG": str(self.file)},
            capture_output=True,
            text=True,
            check=False,
        )

    def says(self, document, *words):
        done = self.run(document, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def nodes(tmp_path):
    return Nodes(tmp_path)


def taints(node):
    return {(taint["key"], taint["value"]) for taint in node["spec"]["taints"]}


def test_pools_come_change_and_go(nodes):
    pools = [{"name": "a", "count": 2}, {"name": "b", "count": 1}]
    assert nodes.says(pools) == "changed: 3 simulated nodes, 3 made, 0 removed"
    assert nodes.says(pools) == "unchanged: 3 simulated nodes, 0 made, 0 removed"
    assert nodes.says([{"name": "a", "count": 3}, {"name": "b", "count": 1, "cpu": 8}]).endswith(
        "4 simulated nodes, 2 made, 1 removed"
    )
    assert nodes.one("b-0")["status"]["allocatable"]["cpu"] == "8"
    assert nodes.says([{"name": "a", "count": 1}]) == "changed: 1 simulated nodes, 0 made, 3 removed"
    assert nodes.names() == ["a-0"]
    assert nodes.says("") == "changed: 0 simulated nodes, 0 made, 1 removed"


def test_a_set_leaves_another_alone_and_refuses_its_names(nodes):
    nodes.says([{"name": "a", "count": 1}], "--set", "site")
    nodes.says([{"name": "b", "count": 1}])
    nodes.says([])
    assert nodes.names() == ["a-0"]
    assert "another set of pools has a node called a-0" in nodes.run([{"name": "a", "count": 2}]).stderr
    assert nodes.names() == ["a-0"]


def test_check_tells_and_changes_nothing_even_where_no_cluster_answers(nodes):
    pools = [{"name": "a", "count": 2}]
    assert nodes.says(pools, "--check") == "changed: 2 simulated nodes, 2 made, 0 removed"
    assert nodes.names() == []
    nodes.file.unlink()
    assert nodes.says(pools, "--check") == "changed: 2 simulated nodes, 2 made, 0 removed"
    assert nodes.says([], "--check") == "unchanged: 0 simulated nodes, 0 made, 0 removed"
    assert "The connection to the server was refused" in nodes.run(pools).stderr


def test_every_node_has_a_taint_that_ordinary_pods_do_not_tolerate(nodes):
    nodes.says(
        [
            {"name": "gpu", "count": 1, "gpu": A100, "arch": "amd64"},
            {"name": "power", "count": 1, "arch": "s390x"},
            {"name": "both", "count": 1, "arch": "s390x", "gpu": A100},
            {"name": "plain", "count": 1},
            {"name": "more", "count": 1, "taints": [{"key": "mine", "value": "x", "effect": "NoExecute"}]},
        ]
    )
    gpu, arch = ("nvidia.com/gpu.product", A100["product"]), ("kubernetes.io/arch", "s390x")
    assert gpu in taints(nodes.one("gpu-0"))
    assert taints(nodes.one("power-0")) == {arch}
    assert taints(nodes.one("both-0")) == {gpu, arch}
    assert taints(nodes.one("plain-0")) == {("kwok.x-k8s.io/node", "fake")}
    assert taints(nodes.one("more-0")) == {("mine", "x")}
    assert nodes.one("both-0")["status"]["allocatable"]["nvidia.com/gpu"] == "4"


def test_the_document_is_yaml_and_absent_options_are_as_if_not_given(nodes):
    nodes.says("- {name: a, count: 1, arch: , gpu: null, labels: {mine: x, kubernetes.io/arch: mips}}")
    assert {"mine": "x", "kubernetes.io/arch": "mips"}.items() <= nodes.one("a-0")["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([{"count": 1}], "needs a name"),
        ([{"name": "a", "count": "1"}], "needs a name and a whole number"),
        ([{"name": "a", "count": -1}], "needs a name and a whole number"),
        ([{"name": "a", "count": 1, "gpus": 4}], "unknown key: gpus"),
        ([{"name": "a", "count": 1, "gpu": {"product": "x"}}], "needs product and count"),
        ([{"name": "a", "count": 1}, {"name": "a", "count": 2}], "nodes of the same name"),
        (["a"], "a pool is a mapping"),
        ("[", "expected"),
        ({"name": "a", "count": 1}, "a pool is a mapping"),
    ],
)
def test_what_is_no_list_of_pools_is_refused_with_a_sentence(nodes, document, words):
    done = nodes.run(document)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
