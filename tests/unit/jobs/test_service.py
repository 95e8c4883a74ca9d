import asyncio
import sqlite3
from dataclasses import replace

import pytest
from harness.waiting import eventually
from harness.zips import zip_file

from pfmoc.backoff import Backoff
from pfmoc.compute.base import RunState
from pfmoc.errors import ComputeRefused, ComputeUnavailable, Conflict, InvalidRequest, NoSuchJob, StartError, StorageFull
from pfmoc.jobs import background
from pfmoc.jobs.model import DeleteSpec, Kind, Phase, Status, UploadSpec


async def phase_of(jobs, jid, kind=Kind.PLUGIN):
    job = await jobs.board.find(jid, kind)
    return None if job is None else job.phase


async def until(jobs, jid, phase, kind=Kind.PLUGIN):
    async def reached():
        return await phase_of(jobs, jid, kind) is phase

    await eventually(reached)


async def copied(jobs, copy_spec, jid="j"):
    await jobs.submit_copy(jid, copy_spec)
    await until(jobs, jid, Phase.SUCCEEDED, Kind.COPY)


# A job's ordinary life


async def test_a_plugin_job_from_zip_to_end(zip_jobs, compute, spec, upload, storebase):
    made = await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    assert made.staged is not None
    assert made.staged.nfiles == 2
    assert made.job.status is Status.STARTED
    assert (storebase / "key-j/incoming/d/b.txt").read_text() == "b"

    compute.finish("j", logs="done\n")
    await until(zip_jobs, "j", Phase.SUCCEEDED)
    job = await zip_jobs.get("j", Kind.PLUGIN)
    assert await zip_jobs.log(job) == "done\n"
    assert job.cmd == "simpledsapp --prefix x /share/incoming /share/outgoing"


async def test_a_run_that_is_quicker_than_the_answer_is_answered_with_its_log(zip_jobs, compute, spec, upload):
    compute.ends_at_once = "the scanner is on fire\n"
    made = await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    assert made.job.phase is Phase.FAILED
    assert made.log == "the scanner is on fire\n"


async def test_the_end_is_seen_without_asking_the_engine_again(zip_jobs, compute, spec, upload):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.finish("j")
    await until(zip_jobs, "j", Phase.SUCCEEDED)
    compute.calls.clear()
    for _ in range(100):
        await zip_jobs.log(await zip_jobs.get("j", Kind.PLUGIN))
    assert compute.calls == []


async def test_a_crowd_of_pollers_costs_one_fetch_of_the_log(zip_jobs, compute, spec, upload):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.calls.clear()
    job = await zip_jobs.get("j", Kind.PLUGIN)
    await asyncio.gather(*(zip_jobs.log(job) for _ in range(100)))
    assert compute.calls.count("logs") == 1


async def test_events_that_come_twice_late_or_backwards_change_nothing(zip_jobs, compute, spec, upload):
    compute.duplicate_events = 3
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    running = await compute.inspect("j")
    ended = compute.finish("j", exit_code=1)
    compute.emit(running)
    compute.emit(ended)
    await until(zip_jobs, "j", Phase.FAILED)
    compute.emit(replace(ended, state=RunState.SUCCEEDED))
    compute.emit(running)
    await asyncio.sleep(0.05)  # gives a wrong move the chance to be made
    assert await phase_of(zip_jobs, "j") is Phase.FAILED


async def test_the_end_of_an_earlier_run_does_not_end_the_one_that_replaced_it(zip_jobs, compute, spec, upload):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    ended = compute.finish("j", exit_code=1)
    await until(zip_jobs, "j", Phase.FAILED)
    compute.freeze()
    again = asyncio.create_task(zip_jobs.submit_plugin("j", spec, upload=upload, copied=True))
    await eventually(lambda: compute.calls[-1] == "remove")
    compute.emit(ended)
    await eventually(lambda: zip_jobs._locks._entries["j"].users == 2, what="the late event to wait for the lock")
    compute.thaw()
    await again
    await eventually(lambda: "j" not in zip_jobs._locks._entries, what="the late event to be dealt with")
    assert await phase_of(zip_jobs, "j") is Phase.RUNNING


# Idempotence


async def test_fifty_equal_requests_at_once_make_one_job_and_get_equal_answers(zip_jobs, compute, spec, upload):
    answers = await asyncio.gather(*(zip_jobs.submit_plugin("j", spec, upload=upload, copied=True) for _ in range(50)))
    assert len(compute.started) == 1
    assert len({repr(answer.job) for answer in answers}) == 1


async def test_an_equal_request_later_gets_the_standing_job_with_its_log(zip_jobs, compute, spec, upload):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.finish("j", logs="done\n")
    await until(zip_jobs, "j", Phase.SUCCEEDED)
    again = await zip_jobs.submit_plugin("j", replace(spec, env=["CHRIS_USER_TOKEN=new"]), upload=upload, copied=True)
    assert (again.job.status, again.log, again.staged) == (Status.SUCCEEDED, "done\n", None)
    assert len(compute.started) == 1


@pytest.mark.parametrize("change", [{"image": "other"}, {"args": ["--prefix", "y"]}, {"entrypoint": ["sh"]}])
async def test_another_spec_under_the_same_id_is_refused_with_the_field(zip_jobs, compute, spec, upload, change):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    with pytest.raises(Conflict, match=next(iter(change))):
        await zip_jobs.submit_plugin("j", replace(spec, **change), upload=upload, copied=True)
    assert await phase_of(zip_jobs, "j") is Phase.RUNNING
    assert len(compute.started) == 1


async def test_another_spec_is_refused_while_the_first_is_under_way(zip_jobs, compute, spec, upload):
    compute.freeze()
    first = asyncio.create_task(zip_jobs.submit_plugin("j", spec, upload=upload, copied=True))
    await until(zip_jobs, "j", Phase.STARTING)
    with pytest.raises(Conflict, match="image"):
        await zip_jobs.submit_plugin("j", replace(spec, image="other"), upload=upload, copied=True)
    compute.thaw()
    assert (await first).job.status is Status.STARTED


async def test_a_failed_job_is_run_anew(zip_jobs, compute, spec, upload):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.finish("j", exit_code=1)
    await until(zip_jobs, "j", Phase.FAILED)
    again = await zip_jobs.submit_plugin("j", replace(spec, image="mended"), upload=upload, copied=True)
    assert again.job.status is Status.STARTED
    assert [run.image for run in compute.started] == [spec.image, "mended"]


# What goes wrong on the way


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500])
async def test_a_refusal_leaves_nothing(zip_jobs, compute, spec, upload, storebase, status):
    compute.refuses = status
    with pytest.raises(ComputeRefused) as refused:
        await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    assert refused.value.engine_status == status
    assert not (storebase / "key-j").exists()
    with pytest.raises(NoSuchJob):
        await zip_jobs.get("j", Kind.PLUGIN)


async def test_bad_data_leave_nothing(zip_jobs, compute, spec, tmp_path, storebase):
    (tmp_path / "bad.zip").write_bytes(b"1000")
    with pytest.raises(InvalidRequest, match="data_file: Bad zip file"):
        await zip_jobs.submit_plugin("j", spec, upload=tmp_path / "bad.zip", copied=True)
    assert not (storebase / "key-j").exists()
    assert compute.started == []


async def test_an_outage_while_starting_is_not_forgotten_and_not_doubled(zip_jobs, compute, spec, upload):
    compute.fails_after_start = True
    compute.begin_at_once = True
    remove, compute.remove = compute.remove, None  # the engine is gone before the run can be taken back

    async def gone(name):
        raise ComputeUnavailable("gone")

    compute.remove = gone
    with pytest.raises(ComputeUnavailable):
        await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.remove = remove
    compute.fails_after_start = False
    again = await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    assert again.job.status is Status.STARTED
    assert len(compute.started) == 1


async def test_an_outage_is_never_read_as_no_such_job(zip_jobs, compute, spec, upload):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.unavailable = True
    assert (await zip_jobs.get("j", Kind.PLUGIN)).status is Status.STARTED
    assert await zip_jobs.log(await zip_jobs.get("j", Kind.PLUGIN)) == ""
    with pytest.raises(ComputeUnavailable):
        await zip_jobs.remove("j", Kind.PLUGIN)
    assert "compute" in await zip_jobs.probe()
    compute.unavailable = False
    compute.finish("j")
    await until(zip_jobs, "j", Phase.SUCCEEDED)


async def test_a_run_that_was_pruned_is_lost_not_running_for_ever(zip_jobs, compute, spec, upload):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.lose("j")
    compute.unavailable = True
    await eventually(lambda: not compute.watchers)
    compute.unavailable = False
    await until(zip_jobs, "j", Phase.LOST)
    assert (await zip_jobs.get("j", Kind.PLUGIN)).status is Status.UNDEFINED


async def test_an_ended_job_survives_a_prune(zip_jobs, compute, spec, upload):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.finish("j", logs="kept\n")
    await until(zip_jobs, "j", Phase.SUCCEEDED)
    compute.lose("j")
    assert await zip_jobs.log(await zip_jobs.get("j", Kind.PLUGIN)) == "kept\n"


# Copy jobs


async def test_copy_then_plugin(link_jobs, compute, spec, copy_spec, storebase):
    plugin = replace(spec, input_dirs=copy_spec.input_dirs, output_dir=copy_spec.output_dir)
    with pytest.raises(Conflict, match="No copy job found"):
        await link_jobs.submit_plugin("j", plugin, copied=True)
    first = await link_jobs.submit_copy("j", copy_spec)
    assert first.job.status is Status.NOT_STARTED
    await until(link_jobs, "j", Phase.SUCCEEDED, Kind.COPY)
    assert (storebase / "key-j/incoming/scan.dcm").read_bytes() == b"DICM"
    made = await link_jobs.submit_plugin("j", plugin, copied=True)
    assert made.staged is None
    assert compute.started[0].mounts.outgoing == storebase / "home/bob/out"


async def test_a_failed_copy_is_told_and_the_plugin_refused(link_jobs, spec, copy_spec, storebase):
    (storebase / "home/bob/in/gone.chrislink").write_text("home/nobody")
    await link_jobs.submit_copy("j", copy_spec)
    await until(link_jobs, "j", Phase.FAILED, Kind.COPY)
    assert "gone.chrislink" in (await link_jobs.get("j", Kind.COPY)).message
    with pytest.raises(Conflict, match=r"status: finishedWithError"):
        await link_jobs.submit_plugin("j", replace(spec, input_dirs=["home/bob/in"], output_dir="home/bob/out"), copied=True)


async def test_the_older_dialect_copies_in_the_request(link_jobs, spec, copy_spec, storebase):
    plugin = replace(spec, input_dirs=copy_spec.input_dirs, output_dir=copy_spec.output_dir)
    made = await link_jobs.submit_plugin("j", plugin, copied=False)
    assert made.staged is not None
    assert made.staged.nfiles == 1


async def test_steps_that_a_storage_does_not_need_are_skipped(zip_jobs, copy_spec):
    assert (await zip_jobs.submit_copy("j", copy_spec)).job.message == "copySkipped"
    assert (await zip_jobs.submit_upload("j", UploadSpec(job_output_path="x"))).job.message == "uploadSkipped"
    assert (await zip_jobs.submit_delete("j", DeleteSpec())).job.message == "deleteSkipped"
    for kind in (Kind.COPY, Kind.UPLOAD, Kind.DELETE):
        with pytest.raises(NoSuchJob):
            await zip_jobs.get("j", kind)


# Ending


async def test_delete_ends_what_runs_and_removes_the_data(zip_jobs, compute, spec, upload, storebase):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    accepted = await zip_jobs.submit_delete("j", DeleteSpec())
    assert accepted.job.status is Status.NOT_STARTED
    await until(zip_jobs, "j", Phase.SUCCEEDED, Kind.DELETE)
    assert not (storebase / "key-j").exists()
    assert await compute.inspect("j") is None
    cancelled = await zip_jobs.get("j", Kind.PLUGIN)
    assert (cancelled.status, cancelled.message) == (Status.FAILED, "cancelled")


async def test_delete_ends_a_plugin_that_has_no_directory_of_its_own(make_jobs, compute, spec):
    async with make_jobs(PFCON_INNETWORK="true", STORAGE_ENV="filesystem") as jobs:
        plugin = replace(spec, input_dirs=["home/bob/in"], output_dir="home/bob/out")
        await jobs.submit_plugin("j", plugin, copied=True)
        await jobs.submit_delete("j", DeleteSpec())
        await until(jobs, "j", Phase.SUCCEEDED, Kind.DELETE)
        assert await compute.inspect("j") is None
        assert (await jobs.get("j", Kind.PLUGIN)).message == "cancelled"


async def test_delete_ends_a_copy_that_waits_for_its_turn(link_jobs, copy_spec, storebase):
    for _ in range(4):
        await link_jobs._background.turns.acquire()
    await link_jobs.submit_copy("j", copy_spec)
    await link_jobs.submit_delete("j", DeleteSpec())
    await until(link_jobs, "j", Phase.SUCCEEDED, Kind.DELETE)
    assert (await link_jobs.get("j", Kind.COPY)).message == "cancelled"
    assert not (storebase / "key-j").exists()


async def test_the_end_of_a_copy_is_told_even_if_the_records_were_full_then(link_jobs, copy_spec, monkeypatch):
    save, failures = link_jobs.board.save, iter(range(2))

    async def full_at_the_end(job, *, log=""):
        if job.phase.terminal and next(failures, None) is not None:
            raise StorageFull("the disk of the job records is full")
        await save(job, log=log)

    monkeypatch.setattr(link_jobs.board, "save", full_at_the_end)
    monkeypatch.setattr(background, "_SAVING", Backoff(first_s=0.001))
    await link_jobs.submit_copy("j", copy_spec)
    await until(link_jobs, "j", Phase.SUCCEEDED, Kind.COPY)


async def test_a_job_that_comes_while_its_data_are_removed_keeps_its_own(zip_jobs, compute, spec, upload, storebase, monkeypatch):
    discard, removing, go = zip_jobs.storage.discard, asyncio.Event(), asyncio.Event()

    async def slow(jid):
        removing.set()
        await go.wait()
        await discard(jid)

    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    monkeypatch.setattr(zip_jobs.storage, "discard", slow)
    await zip_jobs.submit_delete("j", DeleteSpec())
    await removing.wait()
    again = asyncio.create_task(zip_jobs.submit_plugin("j", spec, upload=upload, copied=True))
    await asyncio.wait([again], timeout=0.1)  # gives it the chance to come in between
    go.set()
    await again
    await until(zip_jobs, "j", Phase.SUCCEEDED, Kind.DELETE)
    assert (storebase / "key-j/incoming/d/b.txt").read_text() == "b"


async def test_an_id_that_was_used_anew_is_deleted_anew(zip_jobs, compute, spec, upload, storebase):
    for _ in range(2):
        await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
        await zip_jobs.submit_delete("j", DeleteSpec())
        await until(zip_jobs, "j", Phase.SUCCEEDED, Kind.DELETE)
        assert not (storebase / "key-j").exists()
    assert (await zip_jobs.submit_delete("j", DeleteSpec())).job.message == "deleteSkipped"


async def test_delete_waits_for_its_siblings_where_upstream_parity_is_wanted(make_jobs, compute, spec, upload, storebase):
    async with make_jobs(PFMOC_DELETE_ACTIVE="refuse") as jobs:
        await jobs.submit_plugin("j", spec, upload=upload, copied=True)
        with pytest.raises(Conflict, match=r"The plugin job is still active \(status: started\)"):
            await jobs.submit_delete("j", DeleteSpec())
        compute.finish("j")
        await until(jobs, "j", Phase.SUCCEEDED)
        await jobs.submit_delete("j", DeleteSpec())
        await until(jobs, "j", Phase.SUCCEEDED, Kind.DELETE)


async def test_remove_twice_and_of_nothing(zip_jobs, compute, spec, upload, storebase):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=True)
    await zip_jobs.remove("j", Kind.PLUGIN)
    await zip_jobs.remove("j", Kind.PLUGIN)
    await zip_jobs.remove("never", Kind.COPY)
    with pytest.raises(NoSuchJob):
        await zip_jobs.get("j", Kind.PLUGIN)
    assert (storebase / "key-j").exists(), "removing a job does not touch its data (contract 2.5)"


async def test_purge_tells_the_unknown_job_from_the_known(zip_jobs, compute, spec, upload, storebase):
    await zip_jobs.submit_plugin("j", spec, upload=upload, copied=False)
    await zip_jobs.purge("j")
    assert not (storebase / "key-j").exists()
    with pytest.raises(NoSuchJob):
        await zip_jobs.purge("j")


async def test_jobs_are_kept_where_the_operator_wants_to_look_at_them(make_jobs, compute, spec, upload, storebase):
    async with make_jobs(REMOVE_JOBS="no") as jobs:
        await jobs.submit_plugin("j", spec, upload=upload, copied=True)
        await jobs.remove("j", Kind.PLUGIN)
        assert (await jobs.get("j", Kind.PLUGIN)).status is Status.STARTED
        await jobs.purge("j")
        assert not (storebase / "key-j").exists()


async def test_cancel_while_the_run_is_being_created(zip_jobs, compute, spec, upload):
    compute.freeze()
    request = asyncio.create_task(zip_jobs.submit_plugin("j", spec, upload=upload, copied=True))
    await until(zip_jobs, "j", Phase.STARTING)
    removal = asyncio.create_task(zip_jobs.remove("j", Kind.PLUGIN))
    compute.thaw()
    await asyncio.gather(request, removal)
    assert await compute.inspect("j") is None
    assert await phase_of(zip_jobs, "j") is None


async def test_cancel_while_the_input_is_being_staged(zip_jobs, compute, spec, upload, storebase, monkeypatch):
    staging = asyncio.Event()

    async def stage_for_ever(inputs):
        staging.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(zip_jobs.storage, "stage", stage_for_ever)
    request = asyncio.create_task(zip_jobs.submit_plugin("j", spec, upload=upload, copied=True))
    await staging.wait()
    await zip_jobs.remove("j", Kind.PLUGIN)
    with pytest.raises(Conflict, match="cancelled"):
        await request
    assert compute.started == []
    assert not (storebase / "key-j").exists()


# Restarts


async def test_a_running_job_is_found_again(open_zip_jobs, compute, spec, upload):
    async with open_zip_jobs() as jobs:
        await jobs.submit_plugin("j", spec, upload=upload, copied=True)
    compute.finish("j", logs="while nobody looked\n")
    async with open_zip_jobs() as jobs:
        await until(jobs, "j", Phase.SUCCEEDED)
        assert await jobs.log(await jobs.get("j", Kind.PLUGIN)) == "while nobody looked\n"
        assert len(compute.started) == 1


async def test_a_job_that_was_started_but_not_answered_is_adopted(open_zip_jobs, compute, spec, upload):
    async with open_zip_jobs() as jobs:
        made = await jobs.submit_plugin("j", spec, upload=upload, copied=True)
        await jobs.board.save(replace(made.job, phase=Phase.STARTING))
    async with open_zip_jobs() as jobs:
        await until(jobs, "j", Phase.RUNNING)
        again = await jobs.submit_plugin("j", spec, upload=upload, copied=True)
        assert again.job.status is Status.STARTED
        assert len(compute.started) == 1


@pytest.mark.parametrize("phase", [Phase.STAGING, Phase.STARTING])
async def test_a_job_that_was_not_started_is_undone(open_zip_jobs, compute, spec, upload, storebase, phase):
    async with open_zip_jobs() as jobs:
        made = await jobs.submit_plugin("j", spec, upload=upload, copied=True)
        await jobs.board.save(replace(made.job, phase=phase))
        compute.lose("j")
    async with open_zip_jobs() as jobs:

        async def undone():
            return await phase_of(jobs, "j") is None

        await eventually(undone)
        assert not (storebase / "key-j").exists()


async def test_a_copy_that_was_interrupted_is_made_again(open_link_jobs, copy_spec, storebase):
    async with open_link_jobs() as jobs:
        made = await jobs.submit_copy("j", copy_spec)
        await until(jobs, "j", Phase.SUCCEEDED, Kind.COPY)
        await jobs.board.save(replace(made.job, phase=Phase.RUNNING))
        (storebase / "key-j/incoming/scan.dcm").unlink()
        (storebase / "key-j/incoming/half").touch()
    async with open_link_jobs() as jobs:
        await until(jobs, "j", Phase.SUCCEEDED, Kind.COPY)
    assert [path.name for path in (storebase / "key-j/incoming").iterdir()] == ["scan.dcm"]


async def test_a_run_without_a_record_is_adopted(open_zip_jobs, compute, spec, upload, tmp_path):
    async with open_zip_jobs() as jobs:
        await jobs.submit_plugin("j", spec, upload=upload, copied=True)
    for path in (tmp_path / "state").glob("records.db*"):
        path.unlink()
    async with open_zip_jobs() as jobs:
        await until(jobs, "j", Phase.RUNNING)
        again = await jobs.submit_plugin("j", spec, upload=upload, copied=True)
        assert len(compute.started) == 1
        assert again.job.status is Status.STARTED


async def test_one_state_directory_one_daemon(open_zip_jobs):
    async with open_zip_jobs():
        with pytest.raises(StartError, match="another pfmoc"):
            async with open_zip_jobs():
                pass


async def test_the_users_token_is_recorded_nowhere(open_zip_jobs, compute, spec, upload, tmp_path):
    async with open_zip_jobs() as jobs:
        await jobs.submit_plugin("j", spec, upload=upload, copied=True)
        compute.finish("j")
        await until(jobs, "j", Phase.SUCCEEDED)
        assert "hush" not in repr(await jobs.get("j", Kind.PLUGIN))
    assert compute.started[0].env == {"CHRIS_USER_TOKEN": "hush"}
    with sqlite3.connect(tmp_path / "state/records.db") as database:
        dump = "".join(database.iterdump())
    assert "simpledsapp" in dump
    assert "hush" not in dump
    database.close()


# Input that cannot run


async def test_limits_are_checked_before_anything_is_staged(zip_jobs, compute, spec, tmp_path, storebase):
    for limits, field in (
        (replace(spec.limits, cpu_millicores=-1), "cpu_limit"),
        (replace(spec.limits, memory_mib=10**18), "memory_limit"),
        (replace(spec.limits, gpus=1), "gpu_limit"),
    ):
        upload = zip_file(tmp_path / "again.zip", {"a": b"a"})
        with pytest.raises(InvalidRequest, match=field):
            await zip_jobs.submit_plugin("j", replace(spec, limits=limits), upload=upload, copied=True)
    assert not (storebase / "key-j").exists()
