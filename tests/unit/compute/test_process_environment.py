"""The ``process`` environment under faults: what only a supervisor of real processes can get wrong."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from harness.lab import Lab, ended, install_tools, make_directories, settings_for
from harness.processes import processes_with
from harness.waiting import eventually, until

from pfmoc import durable
from pfmoc.compute import proc, rundir
from pfmoc.compute.base import Limits, Observation, Run, RunState
from pfmoc.compute.cgroup import MemoryCgroup
from pfmoc.compute.process import ProcessCompute
from pfmoc.compute.process_status import SUPERVISOR_KILLED
from pfmoc.errors import ComputeRefused, ComputeUnavailable
from pfmoc.settings import Settings, SettingsError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")

HIDING = """\
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.environ.clear()
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)", sys.argv[1]], {})
    os._exit(0)
os.wait()
"""
"""A program that leaves a daemon behind: forked twice, in a session of its own, with an empty environment."""


@pytest.fixture
def runs(process_settings: Settings) -> Path:
    return process_settings.state_dir / "runs"


def python(lab: Lab, program: str, *arguments: str, name: str = "job", memory_mib: int = 512) -> Run:
    """A run of a Python program."""
    image = lab.storebase / "images/localhost/test/python/latest/bin"
    image.mkdir(parents=True, exist_ok=True)
    if not (image / "python").exists():
        # A link would make the interpreter look for its library beside the link.
        (image / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (image / "python").chmod(0o755)
    limits = Limits(cpu_millicores=1000, memory_mib=memory_mib)
    return lab.run(
        name=name, image="localhost/test/python", argv=["python", "-c", textwrap.dedent(program), *arguments], limits=limits
    )


def entries(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def supervisor_of(runs: Path, name: str = "job") -> int:
    named = rundir.read_lock(runs / name)
    assert named is not None
    return named[0]


def cgroups_work() -> bool:
    group = MemoryCgroup.create("probe", limit=None)
    if group is not None:
        group.remove()
    return group is not None


async def follow(compute: ProcessCompute, told: list[Observation]) -> None:
    """Write down what a watch tells."""
    async for seen in compute.watch():
        told.append(seen)  # noqa: PERF401 - as it comes; the watch has no end


# Starting.


async def test_a_missing_interpreter_is_refused_and_leaves_nothing(lab: Lab, process_settings: Settings, runs: Path):
    script = lab.storebase / "images/localhost/test/tools/1/bin/script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    async with ProcessCompute(process_settings) as compute:
        with pytest.raises(ComputeRefused, match=r"^localhost/test/tools:1: script: cannot execute: No such file") as refused:
            await compute.start(lab.run(argv=["script"]))
        assert refused.value.engine_status == 400
    assert entries(runs) == []


async def test_what_is_no_program_is_refused(lab: Lab, process_settings: Settings):
    noise = lab.storebase / "images/localhost/test/tools/1/bin/noise"
    noise.write_bytes(b"\x7fELF, but no more")
    noise.chmod(0o755)
    async with ProcessCompute(process_settings) as compute:
        with pytest.raises(ComputeRefused, match="cannot execute: Exec format error"):
            await compute.start(lab.run(argv=["noise"]))


async def test_a_command_line_that_is_too_long_is_refused(lab: Lab, process_settings: Settings):
    async with ProcessCompute(process_settings) as compute:
        with pytest.raises(ComputeRefused, match="cannot execute: Argument list too long"):
            await compute.start(lab.run(argv=["true", "x" * (1 << 20)]))


async def test_a_supervisor_that_does_not_start_is_unavailable_and_leaves_nothing(
    lab: Lab, process_settings: Settings, runs: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with ProcessCompute(process_settings) as compute:
        with pytest.raises(ComputeUnavailable, match="a supervisor did not start"):
            await compute.start(lab.run("true"))
    assert entries(runs) == []


async def test_a_state_directory_that_cannot_be_written_is_unavailable(lab: Lab, process_settings: Settings, runs: Path):
    async with ProcessCompute(process_settings) as compute:
        elsewhere = await asyncio.to_thread(runs.rename, runs.with_name("elsewhere"))
        with pytest.raises(ComputeUnavailable, match="the directory of runs cannot be used: No such file or directory"):
            await compute.start(lab.run("true"))
        with pytest.raises(ComputeUnavailable):
            await compute.probe()
        await asyncio.to_thread(elsewhere.rename, runs)
        await compute.probe()


async def test_what_a_killed_daemon_left_half_made_is_swept(process_settings: Settings, runs: Path):
    (runs / "half").mkdir(parents=True)
    durable.write_json(runs / "half/run.json", {"jid": "half", "image": "i", "cmd": "c", "created": rundir.now()})
    (runs / "half/tmp/locked").mkdir(parents=True)
    (runs / "half/tmp/locked/file").touch()
    (runs / "half/tmp/locked").chmod(0)
    (runs / ".removed.1234").mkdir()
    async with ProcessCompute(process_settings) as compute:
        assert list(await compute.runs()) == []
    assert entries(runs) == []


# What the plugin gets.


async def test_the_plugin_sees_real_directories_in_its_arguments(lab: Lab, process_settings: Settings):
    argv = ["sh", "-c", 'printf "%s\\n" "$@"', "sh", "/share/incoming", "/share/incoming/a", "--out=/share/outgoing/b"]
    untouched = ["/share/incomingx", "x/share/incoming", "a=/share/incoming", "see /share/incoming"]
    async with ProcessCompute(process_settings) as compute:
        seen = await compute.start(lab.run(argv=[*argv, *untouched]))
        assert seen.cmd.endswith(" /share/incoming /share/incoming/a " + shlex.join(["--out=/share/outgoing/b", *untouched]))
        await ended(compute)
        assert (await compute.logs("job", tail=100)).splitlines() == [
            str(lab.incoming),
            f"{lab.incoming}/a",
            f"--out={lab.outgoing}/b",
            *untouched,
        ]


async def test_the_plugin_has_its_own_directory_and_no_descriptor_of_ours(lab: Lab, process_settings: Settings, runs: Path):
    program = """
        import os
        print(os.getcwd(), os.environ["HOME"], os.environ["TMPDIR"], os.getsid(0) == os.getpid() or os.getsid(0))
        print(sorted(os.listdir("/proc/self/fd"))[:-1])
        print([line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")])
    """
    leaked = os.open(lab.storebase, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        async with ProcessCompute(process_settings) as compute:
            await compute.start(python(lab, program))
            await ended(compute)
            first, second, third = (await compute.logs("job", tail=100)).splitlines()
    finally:
        os.close(leaked)
    tmp = str(runs / "job/tmp")
    assert first.split()[:3] == [tmp, tmp, tmp]
    assert first.split()[3] == "True"
    assert second == "['0', '1', '2']"
    assert third == r"['NoNewPrivs:\t1\n']"


async def test_home_can_be_tmp(lab: Lab, process_settings: Settings):
    settings = process_settings.model_copy(update={"home_workaround": True})
    async with ProcessCompute(settings) as compute:
        await compute.start(lab.run('echo "$HOME"', env={"HOME": "/elsewhere"}))
        await ended(compute)
        assert await compute.logs("job", tail=1) == "/tmp\n"


async def test_secrets_of_the_environment_are_neither_on_disk_nor_in_an_argv(lab: Lab, process_settings: Settings, runs: Path):
    secret = "token-5f1c"
    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run("sleep 100", env={"CHRIS_USER_TOKEN": secret}))
        for file in (path for path in (runs / "job").rglob("*") if path.is_file()):
            assert secret.encode() not in file.read_bytes()
        for process in psutil.process_iter(["cmdline"]):
            assert secret not in " ".join(process.info["cmdline"] or ())
        supervisor = psutil.Process(supervisor_of(runs))
        assert secret not in supervisor.environ().values()


async def test_runs_are_spread_over_the_cpus_and_bound_to_them(lab: Lab, process_settings: Settings):
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("this machine has one CPU")
    program = "import os, time; print(*os.sched_getaffinity(0), flush=True); time.sleep(1000)"
    async with ProcessCompute(process_settings) as compute:
        for name in ("one", "two"):
            await compute.start(python(lab, program, name=name))
        logs = [await eventually(lambda name=name: compute.logs(name, tail=1)) for name in ("one", "two")]
        assert sorted(logs) == [f"{cpu}\n" for cpu in cpus[:2]]
    # A daemon that starts anew knows what is taken.
    async with ProcessCompute(process_settings) as compute:
        await compute.remove("one")
        await compute.start(python(lab, program, name="three"))
        assert await eventually(lambda: compute.logs("three", tail=1)) == logs[0]


async def test_limits_can_be_ignored(lab: Lab, process_settings: Settings):
    settings = process_settings.model_copy(update={"ignore_limits": True})
    program = "import os; print(len(os.sched_getaffinity(0)), len(bytearray(100 << 20)))"
    async with ProcessCompute(settings) as compute:
        await compute.start(python(lab, program, memory_mib=32))
        await ended(compute)
        assert (await compute.logs("job", tail=1)).split() == [str(len(os.sched_getaffinity(0))), str(100 << 20)]


async def test_without_a_cgroup_an_allocation_above_the_limit_fails(lab: Lab, process_settings: Settings):
    async with ProcessCompute(process_settings, cgroups=False) as compute:
        await compute.start(python(lab, "bytearray(100 << 20)", memory_mib=64))
        seen = await ended(compute)
        assert (seen.state, seen.exit_code) == (RunState.FAILED, 1)
        assert "MemoryError" in await compute.logs("job", tail=10)
        await compute.start(python(lab, "bytearray(100 << 20)", memory_mib=256, name="enough"))
        assert (await ended(compute, "enough")).state is RunState.SUCCEEDED


async def test_with_a_cgroup_the_limit_holds_for_all_processes_together(lab: Lab, process_settings: Settings, runs: Path):
    if not cgroups_work():
        pytest.skip("no memory cgroup can be made here")
    program = """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                held = bytearray(b"x") * (40 << 20)
                time.sleep(1000)
        os.wait()
    """
    async with ProcessCompute(process_settings) as compute:
        await compute.start(python(lab, program, memory_mib=100))
        seen = await ended(compute)
        assert (seen.state, seen.message) == (RunState.FAILED, "OOMKilled")
    document = rundir.read_document(runs / "job/started.json")
    assert document is not None
    assert MemoryCgroup(Path(document["cgroup"])).pids() == []
    assert not os.access(document["cgroup"], os.F_OK)


@needs_root
async def test_a_plugin_can_run_as_another_user():
    storebase = Path("/var/tmp") / f"pfmoc-test-{os.getpid()}"  # pytest's own directories are closed to others
    storebase.mkdir(mode=0o755)
    try:
        make_directories(storebase)
        install_tools(storebase / "images")
        settings = settings_for(
            storebase, CONTAINER_ENV="process", PFMOC_PROCESS_IMAGES=str(storebase / "images"), CONTAINER_USER="12345:54321"
        )
        lab = Lab(storebase=storebase, open=lambda: ProcessCompute(settings))
        async with ProcessCompute(settings) as compute:
            await compute.start(lab.run('id -u; id -G; echo "$HOME" > file; cat "$HOME/../run.json" || echo denied'))
            await ended(compute)
            assert await compute.logs("job", tail=10) != ""
            lines = (await compute.logs("job", tail=10)).splitlines()
            assert (lines[0], lines[1], lines[-1]) == ("12345", "54321", "denied")
            await compute.remove("job")
    finally:
        shutil.rmtree(storebase)


@needs_root
async def test_another_user_who_cannot_reach_its_directory_is_told(lab: Lab, process_settings: Settings):
    settings = settings_for(
        lab.storebase,
        CONTAINER_ENV="process",
        PFMOC_PROCESS_IMAGES=str(process_settings.process_images),
        CONTAINER_USER="12345:",
    )
    lab.storebase.chmod(0o700)
    async with ProcessCompute(settings) as compute:
        with pytest.raises(ComputeRefused, match="cannot enter its working directory: Permission denied"):
            await compute.start(lab.run("true"))


def test_another_user_needs_root(process_settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SettingsError, match="CONTAINER_USER: only root"):
        ProcessCompute(settings_for(process_settings.storebase_mount, CONTAINER_ENV="process", CONTAINER_USER="1:1"))


# Ends.


@pytest.mark.parametrize("how", ["exit", "remove"])
@pytest.mark.parametrize("cgroups", [True, False])
async def test_no_process_outlives_its_run_however_it_hides(
    lab: Lab, process_settings: Settings, runs: Path, how: str, cgroups: bool
):
    word = f"hidden-{os.getpid()}-{how}-{cgroups}"
    program = HIDING + ("" if how == "exit" else "time.sleep(1000)\n")
    async with ProcessCompute(process_settings, cgroups=cgroups) as compute:
        await compute.start(python(lab, program, word))
        if how == "exit":
            seen = await ended(compute)
            assert seen.state is RunState.SUCCEEDED
        else:
            await eventually(lambda: len(processes_with(word)) == 2)
            supervisor = supervisor_of(runs)
            await compute.remove("job")
            assert proc.process(supervisor) is None
        assert processes_with(word) == []


async def test_orphans_are_reaped_while_the_run_goes_on(lab: Lab, process_settings: Settings, runs: Path):
    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run('for i in 1 2 3; do (sh -c "sleep 0.01 & exit" ); done; echo up; sleep 1000'))
        await eventually(lambda: compute.logs("job", tail=1))
        supervisor = psutil.Process(supervisor_of(runs))
        await eventually(lambda: len(supervisor.children()) == 1)


async def test_a_supervisor_that_is_killed_takes_its_run_along_and_that_is_told(lab: Lab, process_settings: Settings, runs: Path):
    word = f"orphan-{os.getpid()}"
    async with ProcessCompute(process_settings) as compute:
        await compute.start(python(lab, HIDING + "time.sleep(1000)\n", word))
        await eventually(lambda: len(processes_with(word)) == 2)
        told: list[Observation] = []
        following = asyncio.create_task(follow(compute, told))
        await eventually(lambda: told)
        os.kill(supervisor_of(runs), signal.SIGKILL)
        seen = await ended(compute)
        assert (seen.state, seen.message, seen.exit_code) == (RunState.FAILED, SUPERVISOR_KILLED, None)
        await eventually(lambda: told[-1].message == SUPERVISOR_KILLED)
        if cgroups_work():  # else what hides so well is out of reach
            await eventually(lambda: not processes_with(word))
        following.cancel()
        await asyncio.wait([following])


async def test_what_a_killed_supervisor_left_is_killed_by_the_next_daemon(lab: Lab, process_settings: Settings, runs: Path):
    word = f"left-{os.getpid()}"
    program = "import os, time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep(1000)"
    async with ProcessCompute(process_settings, cgroups=False) as compute:
        await compute.start(python(lab, program, word))
        await eventually(lambda: len(processes_with(word)) == 2)
    os.kill(supervisor_of(runs), signal.SIGKILL)
    async with ProcessCompute(process_settings, cgroups=False) as compute:
        await eventually(lambda: not processes_with(word))
        assert (await ended(compute)).message == SUPERVISOR_KILLED


async def test_a_supervisor_that_was_stopped_can_be_removed(lab: Lab, process_settings: Settings, runs: Path):
    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run("sleep 1000"))
        os.kill(supervisor_of(runs), signal.SIGSTOP)
        await compute.remove("job")
        assert entries(runs) == []


async def test_a_run_that_was_stopped_can_be_removed(lab: Lab, process_settings: Settings, runs: Path):
    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run("kill -STOP $$"))
        plugin = json.loads((runs / "job/started.json").read_text())["plugin"]
        await eventually(lambda: psutil.Process(plugin).status() == psutil.STATUS_STOPPED)
        await compute.remove("job")
        assert not psutil.pid_exists(plugin)


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


async def test_a_pid_that_was_given_to_another_is_not_mistaken(
    lab: Lab, process_settings: Settings, runs: Path, innocent: subprocess.Popen[bytes]
):
    """The lock names an innocent process: the run is over all the same, and removing it harms nobody."""
    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run("sleep 1000"))
        os.kill(supervisor_of(runs), signal.SIGKILL)
        await ended(compute)
    (runs / "job/lock").write_text(f"{innocent.pid} 1\n")
    async with ProcessCompute(process_settings) as compute:
        assert (await ended(compute)).message == SUPERVISOR_KILLED
        await compute.remove("job")
    assert innocent.poll() is None
    assert proc.open_pidfd(innocent.pid, 1) is None


# Daemons come and go.

DAEMON = """\
import asyncio, sys
from pathlib import Path
from pfmoc.compute.base import Limits, Run
from pfmoc.compute.process import ProcessCompute
from pfmoc.data import Mounts
from pfmoc.settings import load

async def main(base):
    settings = load({"APPLICATION_MODE": "development", "STOREBASE_MOUNT": base, "PFMOC_STATE_DIR": base + "/state",
                     "CONTAINER_ENV": "process", "PFMOC_PROCESS_IMAGES": base + "/images"})
    async with ProcessCompute(settings) as compute:
        script = 'echo begun; while [ ! -e "$1/go" ]; do sleep 0.02; done; echo done; exit 3'
        await compute.start(Run(
            name="job", jid="The.Job", image="localhost/test/tools:1", argv=["sh", "-c", script, "sh", "/share/incoming"],
            data=Mounts(incoming=Path(base, "in"), outgoing=Path(base, "out")),
            limits=Limits(cpu_millicores=1000, memory_mib=64)))
        print("started", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def daemon(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that starts a run, and then waits to be killed."""
    process = subprocess.Popen([sys.executable, "-c", DAEMON, str(lab.storebase)], stdout=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


async def test_a_run_survives_the_sigkill_of_its_daemon(
    lab: Lab, process_settings: Settings, daemon: subprocess.Popen[bytes], runs: Path
):
    assert daemon.stdout is not None
    assert await asyncio.to_thread(daemon.stdout.readline) == b"started\n"
    daemon.kill()
    daemon.wait()
    async with ProcessCompute(process_settings) as compute:
        told: list[Observation] = []
        following = asyncio.create_task(follow(compute, told))
        await eventually(lambda: told)
        assert (told[0].state, told[0].jid) == (RunState.RUNNING, "The.Job")
        (lab.incoming / "go").touch()
        await eventually(lambda: told[-1].state.ended)
        assert (told[-1].state, told[-1].exit_code) == (RunState.FAILED, 3)
        assert await compute.logs("job", tail=10) == "begun\ndone\n"
        following.cancel()
        await asyncio.wait([following])
        await compute.remove("job")
    assert entries(runs) == []


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5])
async def test_a_daemon_killed_at_any_moment_leaves_a_whole_run_or_none(
    lab: Lab, process_settings: Settings, daemon: subprocess.Popen[bytes], runs: Path, after_s: float
):
    await asyncio.sleep(after_s)  # the moment is what is varied; nothing is waited for
    daemon.kill()
    daemon.wait()
    async with ProcessCompute(process_settings) as compute:
        seen = await compute.inspect("job")
        if seen is None:
            assert list(await compute.runs()) == []
            seen = await compute.start(lab.run('while [ ! -e "$1/go" ]; do sleep 0.02; done; exit 3'))
        assert seen.state in (RunState.PENDING, RunState.RUNNING)
        (lab.incoming / "go").touch()
        assert (await ended(compute)).exit_code == 3
        await compute.remove("job")
    await eventually(lambda: entries(runs) == [])
    assert processes_with(str(runs / "job")) == []


async def test_no_supervisor_is_left_as_a_zombie(lab: Lab, process_settings: Settings, runs: Path):
    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run("true"))
        supervisor = supervisor_of(runs)
        await ended(compute)
        await eventually(lambda: proc.process(supervisor) is None)


async def test_no_descriptor_is_left_open(lab: Lab, process_settings: Settings):
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run("true", name="warm"))
        await ended(compute, "warm")
        before = await eventually(count)
        for number in range(5):
            await compute.start(lab.run("true", name=f"job-{number}"))
            await ended(compute, f"job-{number}")
            await compute.remove(f"job-{number}")
            with pytest.raises(ComputeRefused):
                await compute.start(lab.run(argv=["nothing"]))
        await eventually(lambda: count() <= before)


# Logs, disks and clocks.


async def test_a_log_without_end_stays_small(lab: Lab, process_settings: Settings, runs: Path):
    size = 40 << 20
    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run(f"head -c {size} /dev/zero | tr '\\0' x; echo; echo end"))
        await ended(compute)
        assert (await compute.logs("job", tail=1)) == "end\n"
        assert sum(path.stat().st_size for path in (runs / "job").glob("log*")) <= 17 << 20


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Path]:
    mount = lab.storebase / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield mount
    subprocess.run(["umount", mount], check=True)


async def test_a_full_disk_swallows_neither_the_run_nor_its_outcome(lab: Lab, process_settings: Settings, small_disk: Path):
    settings = process_settings.model_copy(update={"state_dir": small_disk})
    async with ProcessCompute(settings) as compute:
        # Filled any earlier, the disk would have no room for the word that the run has started.
        await compute.start(lab.run('while [ ! -e "$1/go" ]; do sleep 0.02; done; cat /dev/zero > fill; echo full; exit 3'))
        (lab.incoming / "go").touch()
        seen = await ended(compute)
        assert (seen.state, seen.exit_code) == (RunState.FAILED, 3)
        with pytest.raises(ComputeUnavailable, match="No space left on device"):
            await compute.start(lab.run("true", name="next"))
        with pytest.raises(ComputeUnavailable, match="No space left on device"):
            await compute.probe()
        await compute.remove("job")
        await compute.start(lab.run("true", name="next"))
        assert (await ended(compute, "next")).state is RunState.SUCCEEDED
        await compute.remove("next")


async def test_times_are_utc_in_every_time_zone(lab: Lab, process_settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        before = time.time()
        async with ProcessCompute(process_settings) as compute:
            seen = await compute.start(lab.run("true"))
        assert before - 1 < datetime.fromisoformat(seen.timestamp).timestamp() < time.time() + 1
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_a_wall_clock_that_jumps_changes_nothing(lab: Lab, process_settings: Settings, monkeypatch: pytest.MonkeyPatch):
    async with ProcessCompute(process_settings) as compute:
        await compute.start(lab.run('while [ ! -e "$1/go" ]; do sleep 0.02; done'))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    async with ProcessCompute(process_settings) as compute:
        seen = await compute.inspect("job")
        assert seen is not None
        assert seen.state is RunState.RUNNING
        (lab.incoming / "go").touch()
        assert (await ended(compute)).state is RunState.SUCCEEDED


def test_the_lock_is_free_as_soon_as_its_holder_is_dead(tmp_path: Path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from pfmoc.compute import rundir;"
            "rundir.take_lock(Path(sys.argv[1])); print(flush=True); time.sleep(1000)",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert rundir.alive(tmp_path)
    assert rundir.alive(tmp_path)
    holder.kill()
    until(lambda: not rundir.alive(tmp_path))
    holder.wait()
    holder.stdout.close()
    os.close(rundir.take_lock(tmp_path))
