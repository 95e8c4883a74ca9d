"""The box comes, stays, and goes, whatever happens to it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import openstack
import psutil
import pytest
from harness.box import BACK_S, ROOT, Box
from harness.processes import lives
from harness.tenants import sdk_warnings
from harness.waiting import until
from kubernetes import client, config

pytestmark = sdk_warnings

KEYS = ["service", "group", "version", "endpoint", "pid", "memory", "since", "health"]
MINUTES_5 = 300


def processes(box: Box) -> list[str]:
    """Command lines of all that the box runs, told by environment, by mounts, or by words."""
    own_mounts = Path("/proc/self/ns/mnt").readlink()
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = process.info["cmdline"] or []
        directory = Path("/proc", str(process.info["pid"]))
        try:
            marked = f"PFMOC_BOX={box.directory}".encode() in (directory / "environ").read_bytes().split(b"\0")
            walled = (directory / "ns/mnt").readlink() != own_mounts and f"{box.directory}/" in (
                directory / "mountinfo"
            ).read_text()
        except (OSError, ProcessLookupError):
            continue
        named = any(f"{box.directory}/" in word for word in words)
        if process.info["status"] != psutil.STATUS_ZOMBIE and (marked or walled or named):
            found.append(" ".join(words))
    return found


def listening(box: Box) -> list[int]:
    """Those of the box's ports on which somebody listens."""

    def answers(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return [box.port(offset) for offset in range(13) if answers(box.port(offset))]


@contextmanager
def cloud(box: Box) -> Iterator[openstack.connection.Connection]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OS_CLIENT_CONFIG_FILE", str(box.clouds_yaml))
        with openstack.connect(cloud="box") as connection:
            yield connection


@contextmanager
def core(box: Box) -> Iterator[client.CoreV1Api]:
    api = config.new_client_from_config(str(box.kubeconfig))
    yield client.CoreV1Api(api)
    api.rest_client.pool_manager.clear()
    api.close()


def supervisor(box: Box) -> int:
    """Its process; 0 while it has not written that down."""
    return int((box.directory / "run" / "supervisord.pid").read_text() or 0)


def healthy_again(box: Box) -> None:
    until(lambda: not box.unhealthy(), what="all services to be healthy", deadline_s=MINUTES_5)


def unwell(box: Box) -> list[str]:
    """What is not healthy, once every service has answered: a look ends in seconds, on a busy machine too."""

    def told() -> list[list[str]]:
        found = box.unhealthy()
        late = [each for each in found if each.endswith("gives no answer") or "timed out" in each]
        return [] if late else [found]

    (found,) = until(told, what="an answer of every service", deadline_s=BACK_S)
    return found


@pytest.fixture(scope="module", autouse=True)
def left_as_it_was(box: Box) -> Iterator[None]:
    """What fails here is no reason for all that comes after it to fail, too."""
    yield
    if box.unhealthy():
        box.up()


def test_a_second_run_changes_nothing(box):
    before = {name: row["pid"] for name, row in box.status().items()}
    assert "everything is already there" in box.up()
    assert {name: row["pid"] for name, row in box.status().items()} == before


def test_the_status_for_programs_has_a_row_for_each_service(box):
    rows = box.status()
    assert "keystone" in rows
    assert all(list(row) == KEYS for row in rows.values())
    assert not unwell(box)
    assert all(psutil.pid_exists(row["pid"]) and row["memory"] > 0 for row in rows.values())
    assert {row["group"] for row in rows.values()} == {
        "openstack",
        *(("kubernetes", "openshift") if box.profile == "full" else ()),
    }


def test_the_status_for_people_is_a_table(box):
    shown = until(lambda: (made := box.make("box-status")).returncode == 0 and made, what="exit status 0", deadline_s=BACK_S)
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["service", "group", "version", "endpoint", "pid", "memory", "MiB", "since", "health"]
    assert len(lines) >= len(box.status()) + 1


def test_the_logs_of_a_service_and_of_several(box):
    assert box.make("box-logs", "S=keystone").stdout
    several = box.make("box-logs", "S=swift", "N=5").stdout.splitlines()
    assert len({line.partition(" | ")[0] for line in several}) > 1
    unknown = box.make("box-logs", "S=keystne")
    assert unknown.returncode != 0
    assert "There are: " in unknown.stderr
    assert "keystone" in unknown.stderr


def test_the_shell_finds_the_clients(box):
    found = subprocess.run(
        ["bash", "-c", "command -v openstack swift"], env=box.environment, capture_output=True, text=True, check=True
    )
    assert len(found.stdout.split()) == 2
    assert box.environment["OS_CLOUD"] == "box"


def test_the_end_of_the_supervisor_is_not_the_end_of_the_box(box):
    before = supervisor(box)
    pids = {row["pid"] for row in box.status().values()}
    os.kill(before, signal.SIGKILL)
    until(lambda: supervisor(box) not in (0, before), what="another supervisor", deadline_s=BACK_S)
    healthy_again(box)
    assert not pids & {row["pid"] for row in box.status().values()}


@pytest.mark.usefixtures("root")
def test_the_end_of_the_sandbox_is_the_end_of_all_that_is_inside_and_they_come_back(box):
    if box.profile != "full":
        pytest.skip("OpenStack alone has no sandbox")
    rows = box.status()
    within = Path("/proc", str(rows["sandbox"]["pid"]), "ns/net").readlink()
    inside = [process for process in psutil.process_iter() if _network(process.pid) == within]
    assert inside
    os.kill(rows["sandbox"]["pid"], signal.SIGKILL)
    until(lambda: box.status()["sandbox"]["pid"] != rows["sandbox"]["pid"], what="another sandbox", deadline_s=BACK_S)
    healthy_again(box)
    # Told by the processes: the kernel gives the number of a namespace that is gone to the next one, such as the new sandbox's.
    assert not [process for process in inside if lives(process)]


def _network(pid: int) -> Path | None:
    try:
        return Path("/proc", str(pid), "ns/net").readlink()
    except OSError:
        return None


def test_a_taken_port_is_an_error_before_anything_starts(box):
    # Not pytest's own directory: with that of a worker in its path, the supervisor's socket would have too long a name.
    with socket.socket() as taker, tempfile.TemporaryDirectory() as cache:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        port = taker.getsockname()[1]
        other = Box(cache=Path(cache), port_base=port - 3, profile=box.profile)
        refused = other.make("box")
        assert not other.directory.exists()
    assert refused.returncode != 0
    assert f"port {port} is taken by process {os.getpid()}" in refused.stdout
    assert "make box PORT_BASE=" in refused.stdout


def test_full_without_root_names_the_way_without(box):
    if os.getuid() == 0:
        pytest.skip("this is root")
    refused = box.make("box", PROFILE="full")
    assert refused.returncode != 0
    assert "make box PROFILE=openstack" in refused.stdout


def test_an_interrupted_run_is_gone_on_with(box):
    box.down()
    run = subprocess.Popen(["make", "box"], cwd=ROOT, env=box.own, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout is not None
    assert any("Ensure the supervisor runs" in line or "background process box" in line for line in run.stdout)
    # Now and then Ansible, interrupted, waits for a thread of its own for ever: then a person presses Ctrl-C once more.
    for patience_s in (30, 30):
        os.killpg(run.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            run.communicate(timeout=patience_s)
            break
    assert run.returncode
    box.up()
    assert not unwell(box)


def test_down_leaves_nothing_but_files_and_up_finds_them(box):
    mark = f"lifecycle-{secrets.token_hex(4)}"  # what a test leaves that fails must not be what the next one meets
    with cloud(box) as connection:
        connection.object_store.create_container(mark)
        connection.object_store.upload_object(container=mark, name="a", data=b"kept")
    if box.profile == "full":
        with core(box) as api:
            api.create_namespace({"metadata": {"name": mark}})
    cgroup = json.loads((box.directory / "conf" / "box.json").read_text())["cgroup"]  # another worker's box has its own
    box.down()
    assert not processes(box)
    assert not listening(box)
    assert f" {box.directory}/" not in Path("/proc/mounts").read_text()
    # Not by a glob, which ends with an error when another box's cgroup goes meanwhile.
    assert not [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"/{cgroup}")]
    assert box.make("box-status").returncode != 0
    assert "unchanged" not in box.down(), "a second time there is nothing to do, and no error"

    box.up()
    assert not unwell(box)
    with cloud(box) as connection:
        assert connection.object_store.download_object("a", container=mark) == b"kept"
        connection.object_store.delete_object("a", container=mark)
        until(lambda: not list(connection.object_store.objects(mark)), what="the listing to follow")
        connection.object_store.delete_container(mark)
    if box.profile == "full":
        with core(box) as api:
            api.delete_namespace(mark)
