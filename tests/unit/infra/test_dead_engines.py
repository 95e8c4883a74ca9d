"""Engines that are no more, and what they leave: real processes in real sessions."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from harness.processes import processes_with
from harness.waiting import until

from infra.dead_engines import end_remains, is_dead, remains
from infra.failures import Holder


def holder(**more) -> Holder:
    return Holder(**{"user": "ann", "host": os.uname().nodename, "pid": 1, "since": "now", **more})


def test_only_an_engine_of_this_machine_is_known_to_be_dead():
    assert is_dead(holder(pid=os.getpid())), "a process that took the number over is no engine"
    assert is_dead(holder(pid=2**22 + 1))
    assert not is_dead(holder(host="elsewhere", pid=2**22 + 1))


def test_what_a_killed_engine_leaves_is_ended_and_nothing_else(tmp_path: Path):
    """Also in its session: a process that is not of Pulumi's."""
    plugin = tmp_path / "pulumi-resource-openstack"
    plugin.symlink_to("/bin/sleep")
    script = f"{plugin} 1000 & sleep 1000 & echo $!; {plugin} 1000"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True) as engine:
        other = int(engine.stdout.readline())
        try:
            until(lambda: len(processes_with(str(plugin))) == 2, what="both plugins")
            assert remains(engine.pid) == [], "it lives"
            engine.kill()
            engine.wait()
            assert sorted(each.pid for each in remains(engine.pid)) == sorted(processes_with(str(plugin)))
            assert end_remains(engine.pid) == 2
            until(lambda: not processes_with(str(plugin)), what="the end of both")
            os.kill(other, 0)
            assert end_remains(engine.pid) == 0
        finally:
            os.kill(other, signal.SIGKILL)
