"""The supervisor of background processes, as the roles call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from harness.processes import lives
from harness.waiting import until

PROGRAM = Path(__file__).resolve().parents[3] / "roles" / "background_process" / "files" / "supervise.py"
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def supervise(tmp_path):
    def run(command: str, *more: str) -> str:
        argv = [sys.executable, str(PROGRAM), command, str(tmp_path), "thing", *more]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    yield run
    run("stop")


def pid(tmp_path: Path) -> int:
    return int(json.loads((tmp_path / "thing.pid").read_text())["pid"])


def test_it_starts_once_and_restarts_when_the_fingerprint_changes(supervise, tmp_path):
    assert supervise("status") == "stopped"
    assert supervise("ensure", "--fingerprint", "1", "--", *SLEEP) == "started"
    first = pid(tmp_path)
    assert supervise("ensure", "--fingerprint", "1", "--", *SLEEP) == "unchanged"
    assert pid(tmp_path) == first
    assert supervise("ensure", "--fingerprint", "2", "--", *SLEEP) == "restarted"
    assert pid(tmp_path) != first
    assert not lives(first)
    assert supervise("stop") == "stopped"
    assert supervise("stop") == "unchanged"
    assert supervise("status") == "stopped"


def test_the_program_inherits_only_what_is_named(supervise, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "of the shell")
    supervise("ensure", "--env", "NAMED=yes", "--", sys.executable, "-c", "import os; print(sorted(os.environ))")
    log = tmp_path / "thing.log"
    names = until(lambda: log.exists() and log.read_text())
    assert "'NAMED'" in names
    assert "SECRET_KEY" not in names


def test_a_program_that_dies_is_started_again(supervise, tmp_path):
    supervise("ensure", "--", *SLEEP)
    (child,) = psutil.Process(pid(tmp_path)).children()
    child.kill()
    again = until(lambda: [new for new in psutil.Process(pid(tmp_path)).children() if new.pid != child.pid])
    assert again
    assert "failure 1 in a row" in (tmp_path / "thing.log").read_text()


def test_a_program_dies_with_a_supervisor_that_is_killed(supervise, tmp_path):
    supervise("ensure", "--", *SLEEP)
    (child,) = psutil.Process(pid(tmp_path)).children()
    os.kill(pid(tmp_path), signal.SIGKILL)
    until(lambda: not lives(child.pid), what="the end of the program")
    assert supervise("status") == "stopped"


def test_a_program_that_is_not_there_is_named_in_the_log(supervise, tmp_path):
    supervise("ensure", "--", "/no/such/program")
    until(lambda: supervise("status") == "stopped")
    assert "/no/such/program: No such file or directory" in (tmp_path / "thing.log").read_text()
