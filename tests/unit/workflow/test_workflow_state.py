from __future__ import annotations

import pytest

from pfmoc.workflow import state
from pfmoc.workflow.problems import Problems
from pfmoc.workflow.state import Phase


def begun(directory):
    return state.begun(directory, workflow="w", digest="d", resources={"a": "here", "b": "there"})


def test_a_state_is_known_again(tmp_path):
    with state.held(tmp_path) as directory:
        first = begun(directory)
        first.nodes["a"].phase = Phase.RUNNING
        first.nodes["a"].attempt = 3
        first.save()
        again = state.resumed(directory, digest="d", resources={"a": "here", "b": "elsewhere"})
    assert again is not None
    assert again.nodes["a"] == first.nodes["a"]
    assert again.nodes["b"].resource == "elsewhere"
    assert again.jid("a") == first.jid("a") == f"{first.run}-a-3"


def test_only_one_run_at_a_time(tmp_path):
    with state.held(tmp_path), pytest.raises(Problems, match="another run works in it"), state.held(tmp_path):
        pass
    with state.held(tmp_path):
        pass


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text.replace('"sha256": "d"', '"sha256": "e"'), "the workflow changed"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "another version"),
        (lambda text: text[:-20], "cannot be read"),
        (lambda text: text.replace('"here"', '"afar"'), "node a was begun on afar, not on here"),
        (lambda text: text.replace('"running"', '"dreaming"'), "cannot be read"),
        (lambda _: "[]", "cannot be read"),
    ],
)
def test_a_state_that_cannot_be_gone_on_with(tmp_path, damage, reason):
    with state.held(tmp_path) as directory:
        first = begun(directory)
        first.nodes["a"].phase = Phase.RUNNING
        first.save()
        path = directory / "state.json"
        path.write_text(damage(path.read_text()))
        with pytest.raises(Problems, match=reason):
            state.resumed(directory, digest="d", resources={"a": "here", "b": "there"})


def test_nothing_to_go_on_with(tmp_path):
    with state.held(tmp_path) as directory:
        assert state.resumed(directory, digest="d", resources={}) is None
