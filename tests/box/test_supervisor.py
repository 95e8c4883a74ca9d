"""The box's supervisor, wrapper and commands, with toys for services: what is true before there is a cloud."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from harness.boxkit import ToyBox, toy
from harness.ports import free_port
from harness.processes import lives
from harness.waiting import until

BACK_S = 120
"""For services that were killed, on a machine that has other work too."""
ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="namespaces need root")
SANDBOX = toy(
    "sandbox",
    "/usr/bin/unshare",
    "--net",
    "--mount",
    "--propagation=private",
    "/bin/sh",
    "-c",
    "ip link set lo up && mount -t tmpfs tmpfs /run && touch /run/ready && exec sleep 600",
    health={"argv": ["/usr/bin/test", "-e", "/run/ready"]},
)


@pytest.fixture
def box():
    directory = Path(tempfile.mkdtemp(prefix="box-"))
    box = ToyBox(directory / "box")
    yield box
    box.down()
    shutil.rmtree(directory)


@pytest.fixture
def running(box):
    box.prepare()
    return box


def web(port: int, name: str = "web", **more: object):
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    return toy(name, *argv, health={"url": f"http://127.0.0.1:{port}/"}, endpoint=f"http://127.0.0.1:{port}", **more)


def test_services_start_in_order_and_a_second_time_nothing_happens(running):
    port = free_port()
    group = [toy("last", after=["web"]), web(port)]
    first = running.apply(*group)
    assert first["changed"]
    assert first["started"] == ["last", "web"]
    rows = running.status()
    assert rows["web"]["since"] <= rows["last"]["since"]
    assert rows["web"]["endpoint"] == f"http://127.0.0.1:{port}"
    assert rows["web"]["memory"] > 0
    assert not running.apply(*group)["changed"]
    assert {name: row["pid"] for name, row in running.status().items()} == {name: row["pid"] for name, row in rows.items()}
    assert running.ctl("status").returncode == 0


def test_only_what_changed_restarts(running, tmp_path):
    conf = tmp_path / "conf"
    conf.write_text("1")
    group = [toy("one", files=[str(conf)]), toy("two"), toy("three")]
    running.apply(*group)
    before = running.status()
    conf.write_text("2")
    group[2]["version"] = "7"
    done = running.apply(*group)
    assert done["changed"]
    assert done["restarted"] == ["one"]
    after = running.status()
    assert after["one"]["pid"] != before["one"]["pid"]
    # Not by what it holds in memory, of which others have their share.
    assert {**after["two"], "memory": 0} == {**before["two"], "memory": 0}
    assert after["three"]["version"] == "7"
    assert running.apply(*group[1:])["removed"] == ["one"]
    assert not lives(after["one"]["pid"])
    assert "one" not in running.status()


def test_a_program_gets_only_the_environment_that_is_named(running, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "of the shell")
    running.apply(toy("shows", "/bin/sh", "-c", "env; exec sleep 600", environment={"NAMED": "50 % of it"}))
    log = running.directory / "log" / "shows.log"
    lines = until(lambda: log.read_text().splitlines())
    names = {line.partition("=")[0] for line in lines} - {"PWD", "OLDPWD", "SHLVL", "_"}
    assert names == {"PATH", "HOME", "LANG", "NAMED", "PFMOC_BOX"}
    assert "NAMED=50 % of it" in lines


def test_what_is_killed_comes_back_and_its_leftovers_do_not(running):
    port = free_port()
    # Its child holds the port, and outlives it.
    running.apply(
        toy("parent", "/bin/sh", "-c", f"{sys.executable} -m http.server {port} & wait", health={"tcp": f"127.0.0.1:{port}"})
    )
    before = running.pid("parent")
    (child,) = psutil.Process(before).children()
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        row = running.status()["parent"]
        return row["health"] == "healthy" and row["pid"] != before

    until(back, what="another process", deadline_s=BACK_S)
    # It is killed before the new one starts; until it has died, its port answers, too.
    until(lambda: not lives(child.pid), what="the end of the child")
    until(back, what="another process that answers", deadline_s=BACK_S)


def test_all_die_with_the_supervisor_and_come_back_with_it(running):
    running.apply(web(free_port()), toy("last", after=["web"]))
    before = {row["pid"] for row in running.status().values()}
    supervisor = running.directory / "run" / "supervisord.pid"
    number = int(supervisor.read_text())
    os.kill(number, signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in before), what="the end of the services")
    until(lambda: running.ctl("status").returncode == 0, what="all to be healthy", deadline_s=BACK_S)
    assert int(supervisor.read_text()) != number
    assert not before & {row["pid"] for row in running.status().values()}


def test_what_cannot_start_is_told_with_its_log(running):

    def refused(seconds: str, *argv: str) -> str:
        failed = running.ctl("apply", "toys", "--seconds", seconds, document=[toy("fails", *argv)])
        assert failed.returncode == 1
        assert "service fails is not healthy" in failed.stderr
        return failed.stderr

    # On a busy machine the time may be over before the program has run.
    until(lambda: "no luck today" in refused("3", "/bin/sh", "-c", "echo no luck today; exit 1"), what="its log")
    log = running.directory / "log" / "fails.log"
    until(lambda: "starts again in 2 s" in log.read_text(), what="a later start each time")
    until(lambda: "/no/such/program: No such file or directory" in refused("1", "/no/such/program"), what="its log")


def test_one_that_waits_says_for_what(running):
    document = [toy("never", health={"tcp": f"127.0.0.1:{free_port()}"}), toy("waits", after=["never"])]
    assert running.ctl("apply", "toys", "--seconds", "1", document=document).returncode == 1
    told = {"never": "Connection refused", "waits": "waits for never"}
    # On a busy machine the second is over before both have begun.
    until(lambda: {name: row["health"] for name, row in running.status().items()} == told, what="what each lacks")
    assert running.ctl("status").returncode == 1


def test_down_ends_what_got_away(running):
    escape = "import os; os.fork() or (os.setsid(), os.fork() or os.execv('/bin/sleep', ['sleep', '601'])); os.wait()"
    running.apply(toy("parent", sys.executable, "-c", f"{escape}; import time; time.sleep(600)"))
    (escaped,) = until(lambda: [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "601"]])
    running.down()
    until(lambda: not lives(escaped), what="its end")
    assert running.ctl("status").returncode == 3
    assert not running.down()


def test_a_box_that_was_cut_off_starts_again(running):
    running.apply(web(free_port()))
    before = [int((running.directory / "box.pid").read_text().split(":")[1].split(",")[0]), running.pid("web")]
    # As after a reboot: all files are there and true of nothing.
    for pid in before:
        with suppress(ProcessLookupError):  # the second may end with the first
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in before), what="their end")
    running.prepare()
    until(lambda: running.ctl("status").returncode == 0, what="the services of before", deadline_s=BACK_S)


def test_a_group_that_is_not_wanted_any_more_is_stopped(running):
    running.prepare("toys", "others")
    running.apply(toy("one"))
    running.apply(toy("two"), group="others")
    two = running.pid("two")
    running.prepare("toys")
    assert list(running.status()) == ["one"]
    assert not lives(two)


@ROOT_ONLY
def test_inside_services_live_and_die_with_the_sandbox(running):
    # A container of its own kind: other mounts, another session, no environment, no living parent.
    rootfs = running.directory / "rootfs"
    rootfs.mkdir()
    container = (
        f"setsid unshare --mount --propagation=private sh -c 'mount --bind {rootfs} /mnt && exec env -i sleep 602' & "
        "exec sleep 600"
    )
    group = [SANDBOX, web(80, inside=True), toy("holder", "/bin/sh", "-c", container, inside=True)]
    running.apply(*group)
    assert not running.apply(*group)["changed"]
    before = {name: running.pid(name) for name in ("sandbox", "web", "holder")}
    networks = {Path("/proc", str(pid), "ns/net").readlink() for pid in before.values()}
    assert len(networks) == 1
    assert Path("/proc/self/ns/net").readlink() not in networks
    (contained,) = until(lambda: [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "602"]])

    os.kill(before["sandbox"], signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in [*before.values(), contained]), what="the end of all inside", deadline_s=BACK_S)
    until(lambda: running.ctl("status").returncode == 0, what="all to be healthy", deadline_s=BACK_S)
    (contained,) = until(lambda: [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "602"]])
    running.down()
    assert not lives(contained)


def test_the_logs_that_are_meant(running):
    running.apply(
        *(toy(name, "/bin/sh", "-c", f"echo I am {name}; exec sleep 600") for name in ("swift-proxy", "swift-object", "nova"))
    )
    until(lambda: "I am nova" in running.ctl("logs", "nova").stdout)
    assert running.ctl("logs", "nova").stdout.splitlines()[-1] == "I am nova"
    until(lambda: "swift-object | I am swift-object" in running.ctl("logs", "swift").stdout)
    assert "nova | " in running.ctl("logs", "toys").stdout
    unknown = running.ctl("logs", "glance")
    assert unknown.returncode == 1
    assert "There are: nova, supervisord, swift-object, swift-proxy; and the groups toys" in unknown.stderr
