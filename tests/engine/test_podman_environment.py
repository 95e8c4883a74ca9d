"""Podman itself, and what happens when its service goes away."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.lab import Lab, ended, settings_for
from harness.podman import IMAGE, PodmanService
from harness.waiting import eventually

from pfmoc.compute.base import Limits, Observation, RunState
from pfmoc.compute.podman import PodmanCompute
from pfmoc.errors import ComputeRefused, ComputeUnavailable
from pfmoc.settings import Settings


@pytest.fixture
def service(podman_service: PodmanService) -> Iterator[PodmanService]:
    """The service, running again however a test leaves it."""
    yield podman_service
    podman_service.stop()
    podman_service.start()


def inspected(service: PodmanService, name: str = "job") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(service.podman("container", "inspect", name))[0]
    return found


def memory_limits(pid: int) -> list[str]:
    """The limits of memory, and of memory with swap where the kernel has one, as the kernel says them."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if "memory" not in groups:
        return [Path(f"/sys/fs/cgroup{groups['']}/memory.max").read_text()]
    group = Path(f"/sys/fs/cgroup/memory{groups['memory']}")
    return [(group / f"memory.{name}limit_in_bytes").read_text() for name in ("", "memsw.")]


async def test_limits_and_privileges_are_what_was_asked(lab: Lab, podman_settings: Settings, podman_service: PodmanService):
    user = settings_for(lab.storebase, CONTAINER_ENV="process", CONTAINER_USER="1234:77").container_user
    settings = podman_settings.model_copy(update={"container_user": user, "shm_size_mib": 96})
    async with PodmanCompute(settings) as compute:
        script = "id; cat /proc/self/status /proc/self/mountinfo /proc/net/dev; echo told; sleep 1000"
        await compute.start(lab.run(script, limits=Limits(cpu_millicores=500, memory_mib=48)))

        async def told() -> str:
            """What it has told, once it has told all."""
            log = await compute.logs("job", tail=1000)
            return log if log.endswith("told\n") else ""

        log = await eventually(told)
    for limit in memory_limits(inspected(podman_service)["State"]["Pid"]):
        assert limit == f"{48 << 20}\n"
    host = inspected(podman_service)["HostConfig"]
    assert (host["CpuQuota"], host["CpuPeriod"]) == (50000, 100000)
    identity = log.splitlines()[0]
    assert "uid=1234" in identity
    assert "gid=0" in identity
    assert "77" in identity.partition("groups=")[2]
    assert "NoNewPrivs:\t1\n" in log
    assert "size=98304k" in log  # of /dev/shm
    assert "eth0" not in log


async def test_the_daemons_runs_are_known_by_label_and_anothers_are_left_alone(
    lab: Lab, podman_settings: Settings, podman_service: PodmanService
):
    podman_service.podman("create", "--network=none", "--name=job", IMAGE, "sleep", "1000")
    try:
        async with PodmanCompute(podman_settings) as compute:
            with pytest.raises(ComputeRefused, match="a container named job exists, and is not one of this daemon's") as refused:
                await compute.start(lab.run("true"))
            assert refused.value.engine_status == 409
            assert await compute.inspect("job") is None
            assert list(await compute.runs()) == []
            assert await compute.logs("job", tail=10) == ""
            await compute.remove("job")
            assert inspected(podman_service)["State"]["Status"] == "created"
    finally:
        podman_service.podman("rm", "--force", "--time=0", "job")


async def test_two_daemons_do_not_see_each_others_runs(lab: Lab, podman_settings: Settings):
    other = podman_settings.model_copy(update={"state_dir": lab.storebase / "other"})
    async with PodmanCompute(podman_settings) as compute, PodmanCompute(other) as elsewhere:
        await compute.start(lab.run("sleep 1000"))
        assert [seen.name for seen in await compute.runs()] == ["job"]
        assert list(await elsewhere.runs()) == []
        assert await elsewhere.inspect("job") is None


async def test_the_beginning_of_an_id_is_no_name(lab: Lab, podman_settings: Settings, podman_service: PodmanService):
    async with PodmanCompute(podman_settings) as compute:
        await compute.start(lab.run("sleep 1000"))
        beginning = inspected(podman_service)["Id"][:12]
        assert await compute.inspect(beginning) is None
        await compute.remove(beginning)
        assert await compute.inspect("job") is not None


async def test_a_container_that_was_created_and_never_started_is_started_anew(lab: Lab, podman_settings: Settings):
    """As a daemon leaves it that is killed between the two."""
    async with PodmanCompute(podman_settings) as compute:
        spec = await compute._spec(lab.run("exit 7"))
        await compute._docker.containers.create(spec, name="job")
        seen = await compute.inspect("job")
        assert seen is not None
        assert (seen.state, seen.message) == (RunState.PENDING, "created")
        await compute.start(lab.run("exit 3"))
        assert (await ended(compute)).exit_code == 3


async def test_a_container_that_was_paused_is_running_and_can_be_removed(
    lab: Lab, podman_settings: Settings, podman_service: PodmanService
):
    async with PodmanCompute(podman_settings) as compute:
        await compute.start(lab.run("sleep 1000"))
        pid = inspected(podman_service)["State"]["Pid"]
        podman_service.podman("pause", "job")
        seen = await compute.inspect("job")
        assert seen is not None
        assert (seen.state, seen.message) == (RunState.RUNNING, "paused")
        await compute.remove("job")
        assert not psutil.pid_exists(pid)


async def test_a_container_removed_behind_the_daemons_back_is_absent(
    lab: Lab, podman_settings: Settings, podman_service: PodmanService
):
    async with PodmanCompute(podman_settings) as compute:
        await compute.start(lab.run("sleep 1000"))
        podman_service.podman("rm", "--force", "--time=0", "job")
        assert await compute.inspect("job") is None
        await compute.remove("job")


async def test_an_image_whose_registry_never_answers_is_refused_in_time(lab: Lab, podman_settings: Settings):
    settings = podman_settings.model_copy(update={"pull_deadline_s": 0.5})
    with socket.create_server(("127.0.0.1", 0)) as registry:
        image = f"127.0.0.1:{registry.getsockname()[1]}/missing:1"
        async with PodmanCompute(settings) as compute:
            with pytest.raises(ComputeRefused, match=f"^{re.escape(image)}: could not be fetched within 0.5 s") as refused:
                await compute.start(lab.run(image=image))
            assert refused.value.engine_status == 504
            assert await compute.inspect("job") is None


# Where the storeBase is.


async def test_the_storebase_can_be_a_volume(lab: Lab, podman_settings: Settings, podman_service: PodmanService):
    podman_service.podman("volume", "create", "storebase")
    mountpoint = Path(podman_service.podman("volume", "inspect", "--format={{.Mountpoint}}", "storebase").strip())
    settings = podman_settings.model_copy(update={"volume_type": "docker_local_volume", "volume_name": "storebase"})
    for name in ("in", "out"):
        (mountpoint / name).mkdir()
    async with PodmanCompute(settings) as compute:
        await compute.start(lab.run('echo done > "$2/file"'))
        assert (await ended(compute)).state is RunState.SUCCEEDED
        assert (mountpoint / "out/file").read_text() == "done\n"
        await compute.remove("job")


async def test_the_storebase_can_be_found_through_the_daemons_own_container(
    lab: Lab, podman_settings: Settings, podman_service: PodmanService
):
    elsewhere = lab.storebase / "elsewhere"
    for name in ("in", "out"):
        (elsewhere / name).mkdir(parents=True)
    podman_service.podman(
        *("run", "--detach", "--network=none", "--label=org.chrisproject.role=pfcon", "--name=pfcon"),
        *(f"--volume={elsewhere}:{lab.storebase}", IMAGE, "sleep", "1000"),
    )
    try:
        async with PodmanCompute(podman_settings.model_copy(update={"volume_type": None})) as compute:
            await compute.start(lab.run('echo done > "$2/file"'))
            assert (await ended(compute)).state is RunState.SUCCEEDED
            assert (elsewhere / "out/file").read_text() == "done\n"
            await compute.remove("job")
    finally:
        podman_service.podman("rm", "--force", "--time=0", "pfcon")


@pytest.mark.parametrize(
    ("volume", "problem"),
    [
        ("missing", "VOLUME_NAME: the container engine has no volume missing"),
        (None, "no container with the label org.chrisproject.role=pfcon has a volume mounted at .*; set VOLUME_NAME, or"),
    ],
)
async def test_a_storebase_that_is_not_found_is_unavailable_and_says_what_to_set(
    lab: Lab, podman_settings: Settings, volume: str | None, problem: str
):
    settings = podman_settings.model_copy(update={"volume_type": "docker_local_volume", "volume_name": volume})
    async with PodmanCompute(settings) as compute:
        with pytest.raises(ComputeUnavailable, match=problem):
            await compute.probe()
        with pytest.raises(ComputeUnavailable, match=problem):
            await compute.start(lab.run())


# Outages.


async def refuses_everything(compute: PodmanCompute, lab: Lab) -> None:
    for question in (
        compute.probe(),
        compute.start(lab.run(name="other")),
        compute.inspect("job"),
        compute.runs(),
        compute.logs("job", tail=10),
        compute.remove("job"),
    ):
        with pytest.raises(ComputeUnavailable):
            await question


async def test_a_service_that_stops_is_unavailable_and_its_runs_are_found_again(
    lab: Lab, podman_settings: Settings, service: PodmanService
):
    async with PodmanCompute(podman_settings) as compute:
        await compute.start(lab.run('while [ ! -e "$1/go" ]; do sleep 0.05; done; exit 3'))
        service.stop()
        await refuses_everything(compute, lab)
        (lab.incoming / "go").touch()
        service.start()
        await compute.probe()
        assert (await ended(compute)).exit_code == 3


async def test_a_service_that_freezes_is_unavailable_within_the_deadline(
    lab: Lab, podman_settings: Settings, service: PodmanService
):
    settings = podman_settings.model_copy(update={"engine_deadline_s": 0.3})
    async with PodmanCompute(podman_settings) as compute:
        await compute.start(lab.run("sleep 1000"))
    async with PodmanCompute(settings) as compute:
        service.freeze()
        async with asyncio.timeout(10):
            await refuses_everything(compute, lab)
        service.thaw()
    async with PodmanCompute(podman_settings) as compute:
        seen = await compute.inspect("job")
        assert seen is not None
        assert seen.state is RunState.RUNNING


async def test_a_daemon_that_starts_before_its_engine_is_unavailable_until_then(
    lab: Lab, podman_settings: Settings, service: PodmanService
):
    service.stop()
    async with PodmanCompute(podman_settings) as compute:
        with pytest.raises(ComputeUnavailable):
            await compute.probe()
        service.start()
        await compute.probe()
        await compute.start(lab.run("true"))


async def test_a_watch_breaks_with_its_service_and_can_be_taken_up_again(
    lab: Lab, podman_settings: Settings, service: PodmanService
):
    async with PodmanCompute(podman_settings) as compute:
        told: list[Observation] = []

        async def follow() -> None:
            async for seen in compute.watch():
                told.append(seen)  # noqa: PERF401 - as it comes; the watch has no end

        following = asyncio.create_task(follow())
        await compute.start(lab.run('while [ ! -e "$1/go" ]; do sleep 0.05; done'))
        await eventually(lambda: told)
        service.stop()
        with pytest.raises(ComputeUnavailable):
            await following
        with pytest.raises(ComputeUnavailable):
            await follow()
        service.start()
        following = asyncio.create_task(follow())
        (lab.incoming / "go").touch()
        await eventually(lambda: told[-1].state is RunState.SUCCEEDED)
        following.cancel()
        await asyncio.wait([following])


async def test_a_watch_whose_events_fall_silent_still_learns_of_the_end(
    lab: Lab, podman_settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pfmoc.compute.podman.RESYNC_S", 0.2)

    async def deaf(_self: PodmanCompute, _news: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(PodmanCompute, "_listen", deaf)
    async with PodmanCompute(podman_settings) as compute:
        await compute.start(lab.run("sleep 0.5; exit 3"))
        async with asyncio.timeout(20):
            async for seen in compute.watch():
                if seen.state.ended:
                    assert seen.exit_code == 3
                    break
