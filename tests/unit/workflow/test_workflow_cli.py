from __future__ import annotations

import importlib.util
import io

import pytest
from rich.console import Console

from pfmoc.__main__ import main
from pfmoc.workflow.progress import Lines, LiveTable, progress_for
from pfmoc.workflow.report import Result, Verdict, document, print_table


def test_a_daemons_installation_says_what_run_needs(monkeypatch, capsys, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("yaml", "rich") else found(name))
    assert main(["run", "w.yml", "--output", str(tmp_path / "out")]) == 2
    assert "run needs PyYAML and rich; install with: pip install 'chris-on-moc[run]'" in capsys.readouterr().err


def test_bad_options_are_refused(capsys, tmp_path):
    for bad in (["--parallel", "0"], ["--parallel", "x"], []):
        with pytest.raises(SystemExit) as ended:
            main(["run", "w.yml", *(["--output", str(tmp_path)] if bad else []), *bad])
        assert ended.value.code == 2
    assert "--output" in capsys.readouterr().err


def test_missing_documents_are_both_named(capsys, tmp_path):
    assert main(["run", str(tmp_path / "w.yml"), "--output", str(tmp_path / "o"), "--resources", str(tmp_path / "r.yml")]) == 2
    assert capsys.readouterr().err.count("No such file") == 2


def console(*, terminal=False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, legacy_windows=False)


def written(console) -> str:
    return console.file.getvalue()


def test_progress_fits_where_it_is_shown():
    assert isinstance(progress_for(console(terminal=True), {}), LiveTable)
    assert isinstance(progress_for(console(), {}), Lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_tells_of_each_step(terminal):
    where = console(terminal=terminal)
    with progress_for(where, {"a": "here", "b": "there"}) as progress:
        progress.step("a", "submitting to here")
        progress.moved("a", "sending", 1_500_000, 3_000_000)
        if terminal:
            progress._live.refresh()
            assert "sending 1.5 MB of 3.0 MB" in written(where)
        progress.ended("a", Verdict.FAILED, "because [of] that\n    log")
        progress.ended("b", Verdict.SKIPPED, "needs a")
    assert "submitting to here" in written(where)
    assert "because [of] that" in written(where)
    assert "needs a" in written(where)


def test_the_report():
    results = [
        Result(node="a", resource="r", plugin="p:1", jid="j", status=Verdict.DONE, seconds=1.25, files=1234, bytes=5_000_000),
        Result(node="b", resource="r", plugin="p:1", jid="k", status=Verdict.SKIPPED, message="needs [x]"),
    ]
    where = console()
    print_table(where, results)
    assert "1,234" in written(where)
    assert "5,000,000" in written(where)
    assert "b: needs [x]" in written(where)
    made = document(workflow="w", run="run-1", status=Verdict.FAILED, seconds=2, results=results)
    assert made["nodes"][0] == {
        "node": "a", "resource": "r", "plugin": "p:1", "jid": "j", "status": "done", "seconds": 1.25,
        "files": 1234, "bytes": 5_000_000, "message": "",
    }  # fmt: skip
