"""The workflow runner: its documents and the order in which it runs nodes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from workflows.runner.documents import DocumentError, PackagedInput, Workflow, load
from workflows.runner.engine import Engine
from workflows.runner.server import Ended, ServerError, StoppedError

ROOT = Path(__file__).resolve().parents[3]


def node(name: str, *parents: str) -> dict[str, object]:
    return {"name": name, "image": "image", "entrypoint": ["run"], "parents": list(parents)}


def tree(*nodes: dict[str, object]) -> Workflow:
    return Workflow.model_validate({"name": "test", "nodes": nodes})


class Plugins:
    """Copies each input file, with the node's name appended; nodes in ``failing`` fail as they say."""

    def __init__(self, failing=None) -> None:
        self.failing = failing or {}
        self.began = []

    def run(self, jid, node, source, destination, phase):
        self.began.append(node.name)
        phase("running")
        if fault := self.failing.get(node.name):
            if isinstance(fault, Ended):
                return fault
            raise fault
        for file in source.iterdir():
            (destination / f"{file.name}.{node.name}").write_text(jid)
        return Ended("finishedSuccessfully", "fine")


def go(tmp_path, workflow, plugins, stop=None):
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "scan").touch()
    seen = []
    engine = Engine(workflow, plugins, run="r1", results=tmp_path, watcher=lambda node, phase: seen.append((node.name, phase)))
    outcomes = engine.go(stop or threading.Event(), at_once=2)
    return {outcome.node.name: outcome for outcome in outcomes}, seen


def test_each_output_is_the_next_input(tmp_path):
    outcomes, seen = go(tmp_path, tree(node("a"), node("b", "a"), node("c", "a"), node("d", "c")), Plugins())
    assert [file.name for file in outcomes["d"].files] == ["scan.a.c.d"]
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert outcomes["b"].files[0].read_text() == "r1-b"
    assert ("d", "done") in seen


def test_a_failed_node_stops_only_what_depends_on_it(tmp_path):
    plugins = Plugins({"b": Ended("finishedWithError", "line\n" * 50 + "last words")})
    outcomes, _ = go(tmp_path, tree(node("a"), node("b", "a"), node("c", "a"), node("d", "b"), node("e", "d")), plugins)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "a": "done",
        "b": "failed",
        "c": "done",
        "d": "skipped",
        "e": "skipped",
    }
    assert outcomes["b"].log[-1] == "last words"
    assert len(outcomes["b"].log) == 20
    assert "d" not in plugins.began


def test_a_request_that_fails_is_a_failed_node(tmp_path):
    outcomes, _ = go(tmp_path, tree(node("a")), Plugins({"a": ServerError("could not submit a: no such image")}))
    assert (outcomes["a"].status, outcomes["a"].reason) == ("failed", "could not submit a: no such image")


def test_a_stop_starts_nothing_more(tmp_path):
    stop = threading.Event()

    class Stopping(Plugins):
        def run(self, *_):
            stop.set()
            raise StoppedError

    outcomes, _ = go(tmp_path, tree(node("a"), node("b", "a"), node("c")), Stopping(), stop)
    assert {outcome.status for outcome in outcomes.values()} == {"stopped"}


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("name: x\nnodes: []\n", "nodes"),
        ("name: X\nnodes: [{name: a, image: i, entrypoint: [r]}]\n", "name"),
        ("name: x\nnodes: [{name: a, image: i, entrypoint: [r], parents: [b]}]\n", "its parent b is not a node above it"),
        ("name: x\nnodes: [{name: a, image: i, entrypoint: [r], colour: red}]\n", "nodes.0.colour"),
        ("name: [\n", "line"),
        ("", "valid dictionary"),
    ],
)
def test_a_bad_document_is_refused_with_its_place(tmp_path, document, complaint):
    path = tmp_path / "workflow.yml"
    path.write_text(document)
    with pytest.raises(DocumentError, match=r"workflow\.yml") as refused:
        load(Workflow, path)
    assert complaint in str(refused.value)


def test_the_documents_of_the_repository_are_good(tmp_path):
    assert load(Workflow, ROOT / "workflows" / "dicom.yml").nodes
    load(PackagedInput, ROOT / "workflows" / "dicom-input.yml").collect(tmp_path)
    scans = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(scans) == 5
    assert all(scan.read_bytes()[128:132] == b"DICM" for scan in scans)


def test_an_input_cannot_lead_out_of_its_directory(tmp_path):
    path = tmp_path / "input.yml"
    path.write_text("package: pydicom\nfiles: {../x: __init__.py}\n")
    with pytest.raises(DocumentError, match="leads out"):
        load(PackagedInput, path)
