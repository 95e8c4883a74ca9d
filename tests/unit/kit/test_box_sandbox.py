"""The namespaces that the box's cluster lives in, and the machine, which does not notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness.waiting import until

PROGRAM = Path(__file__).resolve().parents[3] / "roles/box_kubernetes/files/sandbox.py"
MACHINE = (
    "/proc/self/mountinfo",
    "/proc/net/route",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/vm/overcommit_memory",
    "/etc/hosts",
)


def can_unshare() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "--net", "--mount", "true"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="namespaces need root")


@pytest.fixture
def inside(tmp_path):
    """Run a command inside, and return what it prints."""
    cgroup = f"pfmoc-test-{os.getpid()}"
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.89.0.1 node\n")
    (tmp_path / "resolv.conf").touch()
    specification = {
        "directory": str(tmp_path),
        "keep": [str(tmp_path)],
        "cgroup": cgroup,
        "network": "inside",
        "address": "10.89.0.1",
        "services": "10.96.0.0/16",
    }
    (tmp_path / "sandbox.json").write_text(json.dumps(specification))
    process = subprocess.Popen([sys.executable, PROGRAM, tmp_path / "sandbox.json"])

    def run(*command: str) -> str:
        enter = ["nsenter", f"--target={process.pid}", "--mount", "--net", "--", *command]
        return subprocess.run(enter, capture_output=True, text=True, check=False).stdout

    try:
        until(lambda: run("ls", "/run/netns") == "inside\nmachine\n", what="the sandbox")
        yield run
    finally:
        process.terminate()
        assert process.wait(10) == 0
        for directory in Path("/sys/fs/cgroup").glob(f"**/{cgroup}"):
            directory.rmdir()


def test_inside_there_is_one_address_and_no_way_out(inside):
    assert inside("ip", "-4", "-o", "address").count("inet ") == 2
    assert "10.89.0.1/32" in inside("ip", "-4", "-o", "address")
    assert inside("ip", "route").split()[:3] == ["10.96.0.0/16", "dev", "lo"]
    assert len(inside("ip", "route").splitlines()) == 1


def test_the_machines_network_has_a_name_for_what_listens_there(inside):
    assert inside("stat", "--format=%i", "/run/netns/machine").strip() == str(Path("/proc/self/ns/net").stat().st_ino)


def test_inside_directories_and_settings_are_its_own(inside, tmp_path):
    assert "10.89.0.1 node" in inside("cat", "/etc/hosts")
    assert set(inside("ls", "/var").split()) == {"lib", "log", "run", "tmp"}
    inside("touch", "/var/lib/kept")
    assert (tmp_path / "var/lib/kept").exists()
    inside("sh", "-c", "echo 7 > /proc/sys/kernel/panic")
    assert inside("cat", "/proc/sys/kernel/panic") == "7\n"
    assert Path("/proc/sys/kernel/panic").read_text() != "7\n"


def test_the_machine_is_as_it_was(request):
    before = {file: Path(file).read_text() for file in MACHINE}
    run = request.getfixturevalue("inside")
    assert run("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
    assert {file: Path(file).read_text() for file in MACHINE} == before
