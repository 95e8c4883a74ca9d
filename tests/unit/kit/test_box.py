"""The programs of the role box: what they accept, and what they write."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from boxkit import logs, prepare, service, settings, supervisor
from boxkit.layout import Layout
from harness.boxkit import ROOT, ToyBox, toy
from harness.waiting import until


@pytest.fixture
def box(tmp_path):
    return ToyBox(tmp_path / "box")


def refusal(box: ToyBox, *documents: object) -> str:
    refused = box.ctl("apply", "toys", document=documents)
    assert refused.returncode == 1
    return refused.stderr


def test_what_is_no_service_is_refused_with_a_sentence(box):
    assert "unknown ['arguments']" in refusal(box, toy("one", arguments=[]))
    assert "argv begins with an absolute path" in refusal(box, toy("one", "sleep"))
    assert "a name is made of" in refusal(box, toy("One"))
    assert "waits for ['etcd'], which nobody handed over" in refusal(box, toy("one", after=["etcd"]))
    assert "the name is taken" in refusal(box, toy("one"), toy("one"))
    assert "needs ca" in refusal(box, toy("one", health={"url": "https://127.0.0.1:1/"}))
    assert "no signal STOPP" in refusal(box, toy("one", stop_signal="STOPP"))
    assert "not ['http']" in refusal(box, toy("one", health={"http": "x"}))


def test_what_runs_tells_whether_it_must_restart(tmp_path):
    conf = tmp_path / "conf"
    conf.write_text("1")
    one = service.parse(toy("one", files=[str(conf)]), "toys")
    before = one.fingerprint()
    assert replace(one, version="2", endpoint="x", after=("two",), health={"tcp": "h:1"}).fingerprint() == before
    assert replace(one, inside=True).fingerprint() != before
    assert replace(one, environment={"A": "b"}).fingerprint() != before
    conf.write_text("2")
    assert one.fingerprint() != before
    conf.unlink()
    with pytest.raises(service.SpecificationError, match=r"file .*/conf: No such file"):
        one.fingerprint()


def test_the_sandbox_comes_before_all_else_that_is_waited_for():
    assert service.parse(toy("one", inside=True, after=["two", "sandbox"]), "toys").waits_for == ["sandbox", "two"]
    assert service.parse(toy("one", after=["two"]), "toys").waits_for == ["two"]


def test_the_supervisor_s_configuration_survives_odd_paths(tmp_path):
    layout = Layout(tmp_path / "50 % of it")
    one = service.parse(toy("one"), "toys")
    text = supervisor.sections(layout, [one], {"one": "f"})
    assert f"command='{tmp_path}/50 %% of it/env/bin/python' -ES" in text
    assert f"stdout_logfile={tmp_path}/50 %% of it/log/one.log" in text


@pytest.mark.parametrize(("groups", "names"), [(["openstack"], {"OS_CLOUD"}), (["kubernetes"], {"KUBECONFIG"})])
def test_the_shell_learns_of_what_there_is(tmp_path, groups, names):
    layout = Layout(tmp_path / "a b")
    file = tmp_path / "env.sh"
    file.write_text(prepare.shell(layout, settings.Settings(groups=groups), ["/opt/bin"]))
    argv = ["sh", "-c", '. "$1" && env', "sh", str(file)]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}).stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    assert found.keys() & {"OS_CLOUD", "KUBECONFIG"} == names
    assert found["PATH"].startswith(f"{tmp_path}/a b/bin:/opt/bin:")


def test_a_log_is_followed_through_its_rotation(tmp_path):
    log = tmp_path / "one.log"
    log.write_text("before\n")
    place = logs.Place(log)
    with log.open("a") as file:
        file.write("first\nhalf a l")
    assert place.added() == "first\n"
    with log.open("a") as file:
        file.write("ine\n")
    assert place.added() == "half a line\n"
    log.rename(tmp_path / "one.log.1")
    assert place.added() == ""
    log.write_text("after\n")
    assert place.added() == "after\n"


def port_owner(ports: list[int], pid_file: Path) -> list[dict[str, object]]:
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {"host": "127.0.0.1", "ports": ports, "pid_file": str(pid_file)}})
    program = ROOT / "playbooks" / "library" / "port_owner.py"
    done = subprocess.run([sys.executable, str(program)], input=arguments, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout)["taken"])


def test_taken_ports_are_told_with_their_owner(tmp_path):
    with socket.socket() as free, socket.socket() as taken:
        for each in (free, taken):
            each.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [each.getsockname()[1] for each in (free, taken)]
        free.close()
        (found,) = port_owner(ports, tmp_path / "none.pid")
    assert found["port"] == ports[1]
    assert f"process {os.getpid()} (" in str(found["owner"])


def test_a_port_of_what_we_supervise_is_ours(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    supervise = [sys.executable, str(ROOT / "roles/background_process/files/supervise.py")]
    # A grandchild of the supervisor, as the services of the box are; and what started it ends it, as theirs does.
    server = f"trap 'kill $!' TERM; {sys.executable} -m http.server --bind 127.0.0.1 {port} & wait"
    argv = [*supervise, "ensure", str(tmp_path), "web", "--", "/bin/sh", "-c", server]
    subprocess.run(argv, check=True)
    try:
        until(lambda: port_owner([port], tmp_path / "none.pid"), what="the server")
        assert port_owner([port], tmp_path / "web.pid") == []
    finally:
        subprocess.run([*supervise, "stop", str(tmp_path), "web"], check=True)
