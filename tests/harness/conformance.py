"""What every compute environment does: the protocol of ``compute.base`` as tests, for the directories that have a ``lab``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from harness.lab import Lab, ended
from harness.waiting import eventually
from pfmoc.compute.base import Compute, Limits, RunState
from pfmoc.errors import ComputeRefused, InvalidRequest


async def test_a_run_that_exits_0_succeeds(lab: Lab, compute: Compute):
    first = await compute.start(lab.run("exit 0"))
    assert first.state in (RunState.RUNNING, RunState.SUCCEEDED)
    seen = await ended(compute)
    assert (seen.state, seen.message, seen.exit_code) == (RunState.SUCCEEDED, "exited", 0)


async def test_a_run_that_exits_otherwise_fails_with_its_code(lab: Lab, compute: Compute):
    await compute.start(lab.run("exit 3"))
    seen = await ended(compute)
    assert (seen.state, seen.message, seen.exit_code) == (RunState.FAILED, "exited", 3)


async def test_a_run_that_dies_of_a_signal_fails(lab: Lab, compute: Compute):
    # The first process of a container is deaf to most signals, so it is a child that dies, as of a segmentation fault.
    await compute.start(lab.run("sh -c 'kill -SEGV $$'; exit $?"))
    seen = await ended(compute)
    assert (seen.state, seen.exit_code) == (RunState.FAILED, 139)


async def test_an_observation_says_what_was_asked(lab: Lab, compute: Compute):
    run = lab.run("echo 'a  b'", name="a-name", jid="A.Name")
    await compute.start(run)
    seen = await ended(compute, "a-name")
    assert (seen.name, seen.jid, seen.image) == ("a-name", "A.Name", run.image)
    assert seen.cmd == """sh -c 'echo '"'"'a  b'"'"'' sh /share/incoming /share/outgoing"""


async def test_times_are_utc_and_grow(lab: Lab, compute: Compute):
    first = await compute.start(lab.run('while [ ! -e "$1/go" ]; do sleep 0.05; done'))
    (lab.incoming / "go").touch()
    last = await ended(compute)
    assert first.timestamp.endswith("Z")
    assert last.timestamp.endswith("Z")
    started, finished = datetime.fromisoformat(first.timestamp), datetime.fromisoformat(last.timestamp)
    assert started < finished
    assert abs(datetime.now(UTC) - finished) < timedelta(minutes=1)


async def test_a_plugin_reads_its_input_and_leaves_its_output(lab: Lab, compute: Compute):
    (lab.incoming / "file").write_text("in\n")
    await compute.start(lab.run('cat "$1/file" > "$2/copy"'))
    assert (await ended(compute)).state is RunState.SUCCEEDED
    assert (lab.outgoing / "copy").read_text() == "in\n"


async def test_a_plugin_gets_its_environment_and_not_the_daemons(lab: Lab, compute: Compute, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_KEY", "the daemon's own")
    await compute.start(lab.run("env", env={"CHRIS_USER_TOKEN": "a=b c\nd"}))
    await ended(compute)
    log = await compute.logs("job", tail=1000)
    assert "CHRIS_USER_TOKEN=a=b c\nd\n" in log
    assert "the daemon's own" not in log


async def test_a_plugin_has_nothing_on_standard_input(lab: Lab, compute: Compute):
    await compute.start(lab.run("cat"))
    assert (await ended(compute)).state is RunState.SUCCEEDED


async def test_the_log_holds_both_outputs(lab: Lab, compute: Compute):
    await compute.start(lab.run("echo out; echo err >&2"))
    await ended(compute)
    assert sorted((await compute.logs("job", tail=10)).splitlines()) == ["err", "out"]


async def test_the_log_of_a_run_that_goes_on_can_be_read(lab: Lab, compute: Compute):
    await compute.start(lab.run("echo begun; sleep 100"))
    assert await eventually(lambda: compute.logs("job", tail=10)) == "begun\n"


@pytest.mark.parametrize(("tail", "expected"), [(0, ""), (1, "3\n"), (2, "2\n3\n"), (9, "1\n2\n3\n")])
async def test_the_log_ends_with_the_lines_asked_for(lab: Lab, compute: Compute, tail: int, expected: str):
    await compute.start(lab.run("echo 1; echo 2; echo 3"))
    await ended(compute)
    assert await compute.logs("job", tail=tail) == expected


async def test_bytes_that_are_no_text_are_replaced(lab: Lab, compute: Compute):
    await compute.start(lab.run(r"printf 'a\377\033[31mb\r\n'"))
    await ended(compute)
    assert await compute.logs("job", tail=10) == "a\N{REPLACEMENT CHARACTER}\x1b[31mb\r\n"


async def test_a_huge_line_is_cut(lab: Lab, compute: Compute):
    await compute.start(lab.run("head -c 3000000 /dev/zero | tr '\\0' x"))
    await ended(compute)
    log = await compute.logs("job", tail=10)
    assert 0 < len(log) <= 1 << 20
    assert set(log) == {"x"}


async def test_exceeding_the_memory_limit_fails(lab: Lab, compute: Compute):
    # It ends by itself, well, where there is no limit: then this test fails, and not the machine.
    await compute.start(lab.run("x=0123456789abcdef; while [ ${#x} -lt 200000000 ]; do x=$x$x; done"))
    seen = await ended(compute)
    assert seen.state is RunState.FAILED
    if seen.exit_code == 137:  # killed, where the limit is a cgroup's; else an allocation failed
        assert "OOMKilled" in seen.message or "memory limit of 64 MiB" in seen.message


async def test_starting_twice_gives_the_same_run(lab: Lab, compute: Compute):
    await compute.start(lab.run('echo once >> "$2/runs"; sleep 100'))
    seen = await compute.start(lab.run("echo other"))
    assert "once" in seen.cmd
    assert len(await compute.runs()) == 1


async def test_starting_many_times_at_once_starts_one(lab: Lab, compute: Compute):
    run = lab.run('echo once >> "$2/runs"')
    seen = await asyncio.gather(*(compute.start(run) for _ in range(20)))
    assert len({observed.cmd for observed in seen}) == 1
    await ended(compute)
    assert (lab.outgoing / "runs").read_text() == "once\n"


async def test_an_ended_run_is_not_started_again(lab: Lab, compute: Compute):
    await compute.start(lab.run("exit 3"))
    await ended(compute)
    assert (await compute.start(lab.run("exit 0"))).exit_code == 3


async def test_a_removed_name_is_free(lab: Lab, compute: Compute):
    await compute.start(lab.run("echo first; exit 3"))
    await ended(compute)
    await compute.remove("job")
    await compute.start(lab.run("echo second"))
    assert (await ended(compute)).state is RunState.SUCCEEDED
    assert await compute.logs("job", tail=10) == "second\n"


async def test_what_was_never_started_is_absent(compute: Compute):
    assert await compute.inspect("job") is None
    assert await compute.logs("job", tail=10) == ""
    assert list(await compute.runs()) == []
    await compute.remove("job")


async def test_removal_ends_a_run(lab: Lab, compute: Compute):
    await compute.start(lab.run('trap "" TERM; echo up > "$2/up"; while :; do sleep 1; done'))
    await eventually((lab.outgoing / "up").exists)
    await compute.remove("job")
    assert await compute.inspect("job") is None
    assert list(await compute.runs()) == []
    await compute.remove("job")


@pytest.mark.parametrize("argv", [["no-such-program"], ["/usr/local/bin/no-such-program"]])
async def test_a_program_that_is_not_there_is_refused(lab: Lab, compute: Compute, argv: list[str]):
    with pytest.raises(ComputeRefused, match=r"localhost/test/tools:1.*no-such-program") as refused:
        await compute.start(lab.run(argv=argv))
    assert refused.value.engine_status == 400
    assert await compute.inspect("job") is None
    assert list(await compute.runs()) == []


async def test_an_image_that_is_not_to_be_had_is_refused(lab: Lab, compute: Compute):
    async with asyncio.timeout(20):
        with pytest.raises(ComputeRefused, match=r"localhost/test/missing:1: ") as refused:
            await compute.start(lab.run(image="localhost/test/missing:1"))
    assert refused.value.engine_status == 404
    assert await compute.inspect("job") is None


@pytest.mark.parametrize("image", ["", "/etc", "../../etc", "a/../../b", "a b", "a\nb", "a?b", "x" * 600])
async def test_what_is_no_image_reference_is_refused(compute: Compute, image: str):
    with pytest.raises(InvalidRequest, match=r"^image: ") as refused:
        compute.check(image, Limits(cpu_millicores=1000, memory_mib=100))
    assert refused.value.field == "image"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(cpu_millicores=0, memory_mib=100), "cpu_limit: must be between 1 and 1000000 millicores, got 0"),
        (Limits(cpu_millicores=-1, memory_mib=100), "cpu_limit: must be between 1 and 1000000 millicores, got -1"),
        (Limits(cpu_millicores=10**18, memory_mib=100), f"cpu_limit: must be between 1 and 1000000 millicores, got {10**18}"),
        (Limits(cpu_millicores=1, memory_mib=0), "memory_limit: must be between 6 and 67108864 MiB, got 0"),
        (Limits(cpu_millicores=1, memory_mib=-5), "memory_limit: must be between 6 and 67108864 MiB, got -5"),
        (Limits(cpu_millicores=1, memory_mib=10**18), f"memory_limit: must be between 6 and 67108864 MiB, got {10**18}"),
        (Limits(cpu_millicores=1, memory_mib=100, gpus=-1), "gpu_limit: must be between 0 and 0, got -1"),
        (Limits(cpu_millicores=1, memory_mib=100, gpus=1), "gpu_limit: must be between 0 and 0, got 1"),
    ],
)
async def test_limits_out_of_bounds_are_refused_with_field_and_bound(compute: Compute, limits: Limits, text: str):
    compute._gpus = 0  # type: ignore[attr-defined]  # this machine may have one
    with pytest.raises(InvalidRequest) as refused:
        compute.check("localhost/test/tools:1", limits)
    assert refused.value.message.startswith(text)


@pytest.mark.parametrize("workers", [0, -1, 2, 10**18])
async def test_more_than_one_worker_is_refused_in_upstreams_words(compute: Compute, workers: int):
    with pytest.raises(ComputeRefused) as refused:
        compute.check("localhost/test/tools:1", Limits(number_of_workers=workers, cpu_millicores=1, memory_mib=100))
    assert refused.value.engine_status == 400
    assert refused.value.message == f"Compute environment only supports number_of_workers=1, got number_of_workers={workers}"


async def test_a_limit_above_the_machine_is_no_error(lab: Lab, compute: Compute):
    await compute.start(lab.run(limits=Limits(cpu_millicores=500_000, memory_mib=1 << 20)))
    assert (await ended(compute)).state is RunState.SUCCEEDED


async def test_a_well_environment_passes_the_probe(compute: Compute):
    await compute.probe()


async def test_a_watch_tells_what_is_there_and_what_changes(lab: Lab, compute: Compute):
    await compute.start(lab.run(name="before", script="true"))
    await ended(compute, "before")
    watch = compute.watch()
    told: dict[str, list[RunState]] = {"before": [], "after": []}

    async def follow() -> None:
        async for seen in watch:
            told[seen.name].append(seen.state)

    following = asyncio.create_task(follow())
    await eventually(lambda: told["before"])
    await compute.start(lab.run(name="after", script='while [ ! -e "$1/go" ]; do sleep 0.05; done'))
    await eventually(lambda: RunState.RUNNING in told["after"])
    (lab.incoming / "go").touch()
    await eventually(lambda: RunState.SUCCEEDED in told["after"])
    assert set(told["before"]) == {RunState.SUCCEEDED}
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_a_watch_ends_with_its_environment(lab: Lab):
    async with lab.open() as compute:

        async def follow() -> None:
            async for _ in compute.watch():
                pass

        following = asyncio.create_task(follow())
        await eventually(lambda: compute._watchers)  # type: ignore[attr-defined]  # the watch is set up
    await asyncio.wait_for(following, 5)


async def test_a_run_outlives_the_daemon_and_is_found_again(lab: Lab):
    script = 'echo begun; while [ ! -e "$1/go" ]; do sleep 0.05; done; echo done; exit 3'
    async with lab.open() as compute:
        await compute.start(lab.run(script, jid="The.Job"))
    async with lab.open() as compute:
        seen = await compute.inspect("job")
        assert seen is not None
        assert (seen.state, seen.jid) == (RunState.RUNNING, "The.Job")
        assert [found.name for found in await compute.runs()] == ["job"]
        (lab.incoming / "go").touch()
        assert (await ended(compute)).exit_code == 3
        assert await compute.logs("job", tail=10) == "begun\ndone\n"


async def test_a_run_that_ends_while_no_daemon_is_there_is_told(lab: Lab):
    async with lab.open() as compute:
        await compute.start(lab.run('echo done; touch "$2/done"; exit 3'))
    await eventually((lab.outgoing / "done").exists)
    async with lab.open() as compute:
        seen = await ended(compute)
        assert (seen.state, seen.exit_code) == (RunState.FAILED, 3)
        assert await compute.logs("job", tail=10) == "done\n"


async def test_cancelling_a_start_leaves_a_whole_run_or_none(lab: Lab, compute: Compute):
    start = asyncio.create_task(compute.start(lab.run("sleep 100")))
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    seen = await compute.inspect("job")
    assert seen is None or seen.state is RunState.RUNNING
