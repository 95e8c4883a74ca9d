"""What `make verify` tries."""

from __future__ import annotations

import io
from typing import ClassVar

import pytest

from workflows import verify
from workflows.runner.server import Ended, NotSharedError, Stages
from workflows.verify import ClusterNode, Failed, Plan, journey, trials

IMAGES = {"amd64": "busybox", "ppc64le": "busybox-ppc64le"}
REAL = ClusterNode(name="box-0", arch="amd64", emulates=("ppc64le",))
A100 = ClusterNode(name="a100-0", arch="amd64", product="NVIDIA-A100-SXM4-40GB", simulated=True)
POWER9 = ClusterNode(name="power9-0", arch="ppc64le", simulated=True)


def tried(*nodes, images=IMAGES):
    return [
        (trial.arch, trial.product, list(trial.nodes), trial.runs)
        for trial in trials(Plan(images=images, products=(A100.product,), nodes=nodes))
    ]


def test_a_job_for_each_architecture_where_something_runs():
    assert tried(REAL) == [("amd64", None, ["box-0"], True), ("ppc64le", None, ["box-0"], True)]
    assert tried(REAL, POWER9)[1] == ("ppc64le", None, ["box-0"], True), "emulated, but it runs"


def test_on_simulated_nodes_it_is_looked_where_jobs_come_to():
    assert tried(POWER9) == [("ppc64le", None, ["power9-0"], False)]
    assert tried(REAL, A100)[-1] == ("amd64", A100.product, ["a100-0"], False)
    others = A100.model_copy(update={"product": "another-sites"})
    assert not [product for _, product, _, _ in tried(REAL, others) if product]


def test_architectures_without_a_node_or_an_image_are_not_tried():
    assert tried(REAL.model_copy(update={"emulates": ()})) == [("amd64", None, ["box-0"], True)]
    assert tried(POWER9, images={"amd64": "busybox"}) == []


def test_where_there_is_no_cluster_each_image_is_tried():
    assert tried(images={"amd64": "busybox"}) == [("amd64", None, [], True)]


class ServerThatPlaces:
    """A daemon that has GPU jobs run where it is told, whatever they ask for."""

    info: ClassVar = {"server_version": "6", "storage_env": "zipfile", "container_env": "kubernetes"}
    store = None

    def __init__(self, **nodes: str) -> None:
        self.nodes = nodes

    def run(self, _jid, node, source, destination, _phase):
        (destination / "words").write_bytes((source / "words").read_bytes())
        (destination / "machine").write_text("x86_64\n")
        product = node.limits.gpu_product
        return Ended("finishedSuccessfully", "", stages=Stages(node=self.nodes[product] if product else "cpu-0"))

    def knows(self, _jid):
        return False


SITE = Plan(
    images={"amd64": "busybox"},
    products=("A100", "H100", "V100"),
    nodes=(
        ClusterNode(name="cpu-0", arch="amd64"),
        ClusterNode(name="a100-0", arch="amd64", product="A100"),
        ClusterNode(name="h100-0", arch="amd64", product="H100"),
    ),
)


def test_each_product_has_a_job_and_those_without_a_node_are_told():
    _, cpu, a100, h100, missed, _ = journey(ServerThatPlaces(A100="a100-0", H100="h100-0"), SITE)
    assert cpu.startswith("a job on amd64: ran on cpu-0, output read back, in ")
    assert a100.startswith("a job on amd64 with A100: ran on a100-0, output read back, in ")
    assert h100.startswith("a job on amd64 with H100: ran on h100-0, output read back, in ")
    assert missed == "not tried, for there is no node with it, or no image for its processor: V100"


def test_a_gpu_job_on_a_node_without_that_gpu_is_a_failure():
    with pytest.raises(Failed, match="with H100: it ran on a100-0, and should have on one of h100-0"):
        list(journey(ServerThatPlaces(A100="a100-0", H100="a100-0"), SITE))


def test_a_daemon_whose_volume_is_not_shared_with_this_machine_is_not_thought_broken(monkeypatch, tmp_path, capsys):
    def refuse(_access, _stop):
        raise NotSharedError("it shares fslink with CUBE, and not with us")

    monkeypatch.setattr(verify, "Server", refuse)
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    access = tmp_path / "access.env"
    access.write_text("PFMOC_URL=https://pfmoc/api/v1/\nPFCON_USER=chris\nPFCON_PASSWORD=x\n")
    monkeypatch.setattr("sys.argv", ["verify", "--env-file", str(access)])
    assert verify.main() == 0
    assert capsys.readouterr().out == "token and server info; no job was tried: it shares fslink with CUBE, and not with us\n"
