"""`make up` for real: twice, then faults in a workflow, then `make down`.

Everything is private to the test (cache, port), so that a deployment of the user's own goes on undisturbed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil
import pytest
import requests
import yaml
from dotenv import dotenv_values
from harness.ports import free_port
from harness.waiting import until

ROOT = Path(__file__).resolve().parents[2]
MINUTES_20 = 1200


@dataclass
class Kit:
    """A deployment of its own."""

    compute: str
    cache: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "ANSIBLE_", "PFMOC_"))}
        return outer | {"PFMOC_CACHE": str(self.cache), "PORT": str(self.port), "PFMOC_COMPUTE": self.compute}

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *words], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=MINUTES_20, check=False
        )

    def play(self, playbook: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), f"playbooks/{playbook}", *words]
        argv += ["--inventory", "inventories/common", "--inventory", "inventories/embedded"]
        return subprocess.run(
            argv, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=MINUTES_20, check=False
        )

    def start_workflow(self, document: Path, source: Path) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "workflows.runner", str(document), "--input", str(source), "--json"]
        return subprocess.Popen(argv, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @property
    def settings(self) -> dict[str, str]:
        return {name: value or "" for name, value in dotenv_values(self.cache / "daemon" / "pfmoc.env").items()}

    @cached_property
    def first(self) -> subprocess.CompletedProcess[str]:
        return self.make("up")

    @cached_property
    def second(self) -> subprocess.CompletedProcess[str]:
        assert self.first.returncode == 0, self.first.stdout + self.first.stderr
        return self.make("up", "RUN_FLAGS=--json")

    def job_status(self, jid: str) -> int:
        api = f"http://127.0.0.1:{self.port}/api/v1"
        user = {"pfcon_user": self.settings["PFCON_USER"], "pfcon_password": self.settings["PFCON_PASSWORD"]}
        token = requests.post(f"{api}/auth-token/", json=user, timeout=30).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{api}/pluginjobs/{jid}/", headers=headers, timeout=30).status_code

    def processes(self) -> list[list[str]]:
        """Command lines of all that this deployment runs; each names the cache somewhere."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(self.cache) in word for word in words):
                found.append(words)
        return found


@pytest.fixture(scope="module", params=["auto", "process"])
def kit(request):
    # A short path, for the sake of the socket in it.
    kit = Kit(request.param, Path(tempfile.mkdtemp(prefix="kit-")) / "cache", free_port())
    yield kit
    # Not `make clean`: that would remove the virtual environment that the tests run in.
    cleaned = kit.play("clean.yml")
    assert cleaned.returncode == 0, cleaned.stdout + cleaned.stderr
    until(lambda: not kit.processes(), what="the end of all processes")
    shutil.rmtree(kit.cache.parent)


def picture_of(path: Path) -> tuple[int, int, bytes]:
    """Width, height and pixels of a PNG, read as its specification says."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    packed, at = b"", 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    return width, height, zlib.decompress(packed)


def test_the_first_run_shows_its_steps_and_ends_with_a_table(kit):
    assert kit.first.returncode == 0, kit.first.stdout + kit.first.stderr
    lines = kit.first.stdout.splitlines()
    assert any("Make what is not there yet" in line and line.rstrip().endswith(" s") for line in lines)
    assert any("Plugins run" in line for line in lines), "it says which compute, and why"
    for name in ("prefix", "tags", "images", "gallery"):
        assert any(f" {name} " in line and " done " in line for line in lines)
    assert f"http://127.0.0.1:{kit.port}/api/v1/" in kit.first.stdout


def test_the_picture_is_one_that_a_person_can_open(kit):
    (line,) = (line for line in kit.first.stdout.splitlines() if line.startswith("Picture:"))
    width, height, pixels = picture_of(Path(line.partition(":")[2].strip()))
    assert width >= 64
    assert height >= 64
    assert len(set(pixels)) > 16, "a picture of something, not of one grey"


def test_the_second_run_finds_everything_there_and_still_runs_the_workflow(kit):
    assert kit.second.returncode == 0, kit.second.stdout + kit.second.stderr
    assert "everything is already there" in kit.second.stdout
    assert "changed" not in kit.second.stdout.partition("Workflow")[0].replace("0 changed", "")
    report = json.loads(kit.second.stdout.partition("Workflow\n")[2])
    assert report["succeeded"]
    files = {node["name"]: node["files"] for node in report["nodes"]}
    assert files == {"prefix": 5, "tags": 25, "images": 5, "gallery": 5}
    names = {path.name for path in Path(report["results"], "gallery").rglob("*.png")}
    assert names >= {"picture-of-study-abdomen.png", "picture-of-study-head.png"}
    assert all(kit.job_status(node["jid"]) == 404 for node in report["nodes"]), "the server keeps nothing of ours"


def test_secrets_are_in_one_private_file_and_nowhere_else(kit):
    secrets = [kit.settings["SECRET_KEY"], kit.settings["PFCON_PASSWORD"]]
    assert all(len(secret) >= 32 for secret in secrets)
    assert (kit.cache / "daemon" / "pfmoc.env").stat().st_mode & 0o777 == 0o600
    said = kit.first.stdout + kit.first.stderr + kit.second.stdout + kit.second.stderr
    said += (kit.cache / "daemon" / "pfmoc.log").read_text() + str(kit.processes())
    assert not any(secret in said for secret in secrets)


def test_a_failed_plugin_shows_its_log_and_spares_its_siblings(kit, tmp_path):
    assert kit.second.returncode == 0
    image = {"image": "localhost/chris/pl-simpledsapp:1.0.3", "entrypoint": ["simpledsapp"]}
    nodes = [
        {"name": "fails", **image, "args": ["--sleepLength", "long"]},
        {"name": "below", **image, "parents": ["fails"]},
        {"name": "beside", **image},
    ]
    document = tmp_path / "failing.yml"
    document.write_text(yaml.safe_dump({"name": "failing", "nodes": nodes}))
    runner = kit.start_workflow(document, ROOT / "workflows" / "dicom-input.yml")
    out, err = runner.communicate(timeout=300)
    assert runner.returncode == 1
    report = json.loads(out)
    assert {node["name"]: node["status"] for node in report["nodes"]} == {
        "fails": "failed",
        "below": "skipped",
        "beside": "done",
    }
    assert "fails failed" in err
    assert "invalid literal for int() with base 10: 'long'" in err


def test_a_signal_stops_the_workflow_and_removes_its_job(kit, tmp_path):
    assert kit.second.returncode == 0
    node = {"name": "sleeps", "image": "localhost/chris/pl-simpledsapp:1.0.3", "entrypoint": ["simpledsapp"]}
    document = tmp_path / "sleeping.yml"
    document.write_text(yaml.safe_dump({"name": "sleeping", "nodes": [{**node, "args": ["--sleepLength", "600"]}]}))
    runner = kit.start_workflow(document, ROOT / "workflows" / "dicom-input.yml")
    assert runner.stderr is not None
    assert any("sleeps: running" in line for line in iter(runner.stderr.readline, ""))
    runner.send_signal(signal.SIGINT)
    out, _ = runner.communicate(timeout=120)
    assert runner.returncode == 130
    (node_report,) = json.loads(out)["nodes"]
    assert node_report["status"] == "stopped"
    assert kit.job_status(node_report["jid"]) == 404


def test_a_taken_port_is_an_error_that_names_the_taker(kit):
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        port = taker.getsockname()[1]
        refused = kit.make("up", f"PORT={port}")
    assert refused.returncode != 0
    assert f"Port {port} on 127.0.0.1 is taken by process {os.getpid()}" in refused.stdout


def test_check_mode_works_on_the_first_run(kit):
    other = Kit(kit.compute, kit.cache.with_name("other"), free_port())
    checked = other.play("site.yml", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not other.cache.exists()


def test_down_ends_everything_and_up_again_keeps_the_secrets(kit):
    assert kit.second.returncode == 0
    before = kit.settings
    assert kit.processes()
    stopped = kit.make("down")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    until(lambda: not kit.processes(), what="the end of all processes")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", kit.port))
    again = kit.make("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert kit.settings == before
