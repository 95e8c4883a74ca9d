import os
import subprocess
import sys

import pytest
from harness.waiting import until

from pfmoc import pidfile
from pfmoc.errors import StartError

HOLD = """
import sys
from pathlib import Path
from pfmoc import pidfile
with pidfile.held(Path(sys.argv[1])):
    print('held', flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / "run" / "pfmoc.pid"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process, path
    process.kill()
    process.communicate()


def test_it_is_there_while_the_daemon_lives_and_gone_afterwards(tmp_path):
    path = tmp_path / "pfmoc.pid"
    with pidfile.held(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert list(tmp_path.iterdir()) == [path]
    assert not list(tmp_path.iterdir())


def test_a_live_daemons_file_is_respected(holder):
    process, path = holder
    with pytest.raises(StartError, match=rf"held by a running daemon \(pid {process.pid}\)"), pidfile.held(path):
        pass
    assert path.read_text() == f"{process.pid}\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_dead_daemons_file_is_taken_over(holder):
    process, path = holder
    process.kill()
    process.wait()
    assert path.exists()
    with pidfile.held(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be written"), pidfile.held(tmp_path / "file" / "pid"):
        pass


def test_of_many_that_start_at_once_one_wins(tmp_path):
    path = tmp_path / "pfmoc.pid"
    path.write_text("999999\n")
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(6)
    ]
    until(lambda: sum(process.poll() is not None for process in crowd) >= 5, what="all but one to give up")
    (winner,) = [process for process in crowd if process.poll() is None]
    assert winner.stdout is not None
    assert winner.stdout.readline() == b"held\n"
    assert path.read_text() == f"{winner.pid}\n"
    for process in crowd:
        process.communicate(b"")
    assert not path.exists()
