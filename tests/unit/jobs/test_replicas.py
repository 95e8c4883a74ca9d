"""Several daemons over one cluster: each job is made once, moved by one, and lost by none."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.api_server import ApiServer
from fakes.compute import FakeCompute
from fakes.object_storage import FakeStore
from harness.waiting import eventually

from pfmoc.compute.base import RunState, Stages
from pfmoc.errors import ComputeRefused, ComputeUnavailable, Conflict, NoSuchData, NoSuchJob, StartError, TooLarge, Unavailable
from pfmoc.jobs import cluster_board, keeper
from pfmoc.jobs.board import Superseded
from pfmoc.jobs.cluster_board import ClusterBoard
from pfmoc.jobs.model import CopySpec, DeleteSpec, Job, Kind, Phase, PluginSpec, Status, UploadSpec
from pfmoc.jobs.service import Jobs
from pfmoc.settings import load

IN, OUT = "home/bob/in", "home/bob/out"
MAPS = "/api/v1/namespaces/x/configmaps"
COPY = CopySpec(input_dirs=(IN,), output_dir=OUT)

Open = Callable[..., AbstractAsyncContextManager[Jobs]]


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
def compute() -> FakeCompute:
    compute = FakeCompute(env="kubernetes")
    compute.keeps_digests = True
    return compute


@pytest.fixture
def store() -> FakeStore:
    store = FakeStore()
    store.objects_of[IN] = 3
    return store


@pytest.fixture
def plugin(spec: PluginSpec) -> PluginSpec:
    return replace(spec, input_dirs=(IN,), output_dir=OUT)


@pytest.fixture
def open_replica(tmp_path: Path, server: ApiServer, compute: FakeCompute, store: FakeStore, monkeypatch) -> Open:
    monkeypatch.setattr(keeper, "LOOK_S", 0.05)

    @asynccontextmanager
    async def opened(name: str = "a", *, dead_s: float = 60.0, deadline_s: float = 5.0, **variables: str) -> AsyncIterator[Jobs]:
        home = tmp_path / name
        settings = load(
            {"APPLICATION_MODE": "development", "STOREBASE_MOUNT": str(home), "PFMOC_STATE_DIR": str(home / "state"), **variables}
        )
        board = ClusterBoard(
            server.access, namespace="x", state_dir=home / "state", deadline_s=deadline_s, beat_s=0.05, dead_s=dead_s
        )
        async with Jobs(settings=settings, storage=store, compute=compute, board=board) as jobs:
            yield jobs

    return opened


@pytest.fixture
async def a(open_replica: Open) -> AsyncIterator[Jobs]:
    async with open_replica("a") as jobs:
        yield jobs


@pytest.fixture
async def b(open_replica: Open) -> AsyncIterator[Jobs]:
    async with open_replica("b") as jobs:
        yield jobs


async def reached(jobs: Jobs, phase: Phase | None, kind: Kind = Kind.PLUGIN, jid: str = "j") -> Job:
    async def there() -> Job | bool:
        job = await jobs.board.find(jid, kind)
        return (job is None or job) if (job.phase if job else None) is phase else False

    return await eventually(there, what=f"{kind} to be {phase}")


async def started(jobs: Jobs, plugin: PluginSpec, jid: str = "j") -> Job:
    await jobs.submit_copy(jid, COPY)
    await reached(jobs, Phase.SUCCEEDED, Kind.COPY, jid)
    return (await jobs.submit_plugin(jid, plugin, copied=True)).job


def held(thing: object, name: str) -> asyncio.Event:
    """Make the next call of a method wait for what this returns; the one after it does not."""
    go, method = asyncio.Event(), getattr(thing, name)

    async def waiting(*args: object, **kwargs: object) -> object:
        setattr(thing, name, method)
        await go.wait()
        return await method(*args, **kwargs)

    setattr(thing, name, waiting)
    return go


def records(server: ApiServer) -> set[str]:
    return {name for name in server.things.get(MAPS, {}) if not name.startswith("pfmoc.replica.")}


def kill(jobs: Jobs) -> None:
    """End what a replica does of itself, as SIGKILL would; requests under way hang, and it says nothing of its end."""
    board = jobs.board
    assert isinstance(board, ClusterBoard)
    for task in (*jobs._follower._tasks, *jobs._keeper._tasks, *jobs._background._tasks.values(), board._replicas._task):
        task.cancel()


# A job's life over both


async def test_one_job_through_two_replicas(a, b, compute, store, plugin, server):
    """CUBE's sequence, each request to the other replica."""
    compute.stages = Stages(waiting=1.0, pull=2.0, plugin=3.0, publish=4.0, node="n", pod="p")
    copy = await a.submit_copy("j", COPY)
    assert copy.job.status is Status.NOT_STARTED
    await reached(b, Phase.SUCCEEDED, Kind.COPY)
    made = await b.submit_plugin("j", plugin, copied=True)
    assert (made.job.status, made.staged) == (Status.STARTED, None)
    assert (await a.get("j", Kind.PLUGIN)).status is Status.STARTED
    store.outputs["j"] = {"r": b"result"}
    compute.finish("j", logs="done\n")
    ended = await reached(a, Phase.SUCCEEDED)
    assert await a.log(ended) == await b.log(await reached(b, Phase.SUCCEEDED)) == "done\n"
    assert await a.stages(ended) == compute.stages
    assert store.sealed == ["j"]
    await b.submit_upload("j", UploadSpec(job_output_path=OUT))
    await reached(a, Phase.SUCCEEDED, Kind.UPLOAD)
    assert await a.outputs.listing("j", OUT) == ["r"]
    await a.submit_delete("j", DeleteSpec())
    await reached(b, Phase.SUCCEEDED, Kind.DELETE)
    assert not store.staged
    for kind in Kind:
        await b.remove("j", kind)
    assert not records(server)
    assert await compute.inspect("j") is None


async def test_fifty_equal_requests_over_both_make_one_job_and_get_equal_answers(a, b, compute, store, plugin):
    await a.submit_copy("j", COPY)
    await reached(b, Phase.SUCCEEDED, Kind.COPY)
    answers = await asyncio.gather(*(jobs.submit_plugin("j", plugin, copied=True) for jobs in (a, b) * 25))
    assert len(compute.started) == 1
    assert {answer.job.status for answer in answers} == {Status.STARTED}
    assert len({answer.job.claim for answer in answers}) == 1


async def test_fifty_requests_that_stage_themselves(a, b, compute, plugin):
    answers = await asyncio.gather(*(jobs.submit_plugin("j", plugin, copied=False) for jobs in (a, b) * 25))
    assert len(compute.started) == 1
    assert {answer.job.status for answer in answers} == {Status.STARTED}


async def test_fifty_copies_are_one(a, b, store):
    await asyncio.gather(*(jobs.submit_copy("j", COPY) for jobs in (a, b) * 25))
    await reached(a, Phase.SUCCEEDED, Kind.COPY)
    await reached(b, Phase.SUCCEEDED, Kind.COPY)
    assert store.calls.count("stage") == 1


async def test_another_spec_is_refused_by_either(a, b, plugin):
    await started(a, plugin)
    with pytest.raises(Conflict, match="image"):
        await b.submit_plugin("j", replace(plugin, image="other"), copied=True)


async def test_a_failed_job_is_run_anew_by_one_of_both(a, b, compute, plugin):
    await started(a, plugin)
    compute.finish("j", exit_code=1)
    await reached(a, Phase.FAILED)
    await reached(b, Phase.FAILED)
    mended = replace(plugin, image="mended")
    answers = await asyncio.gather(*(jobs.submit_plugin("j", mended, copied=True) for jobs in (a, b) * 10))
    assert [run.image for run in compute.started] == [plugin.image, "mended"]
    assert {answer.job.status for answer in answers} == {Status.STARTED}
    assert len({run.digest for run in compute.started}) == 2


async def test_the_end_of_an_earlier_life_does_not_end_the_next(a, b, compute, plugin):
    await started(a, plugin)
    ended = compute.finish("j", exit_code=1)
    await reached(a, Phase.FAILED)
    await reached(b, Phase.FAILED)
    again = await b.submit_plugin("j", plugin, copied=True)
    compute.emit(ended)
    compute.emit(replace(ended, state=RunState.SUCCEEDED))
    compute.finish("j", logs="second\n")
    job = await reached(a, Phase.SUCCEEDED)
    assert job.claim == again.job.claim
    assert job.timestamp > ended.timestamp


async def test_a_job_that_the_other_replica_cannot_start_is_tried_by_this_one(a, b, compute, plugin):
    await a.submit_copy("j", COPY)
    await reached(b, Phase.SUCCEEDED, Kind.COPY)
    go, start = asyncio.Event(), compute.start

    async def refused_once(run):
        compute.start = start
        await go.wait()
        raise ComputeRefused("not this one", engine_status=422)

    compute.start = refused_once
    first = asyncio.create_task(a.submit_plugin("j", plugin, copied=True))
    await reached(b, Phase.STARTING)
    second = asyncio.create_task(b.submit_plugin("j", plugin, copied=True))
    await eventually(lambda: b._submissions.flights._flights)
    go.set()
    with pytest.raises(ComputeRefused):
        await first
    assert (await second).job.status is Status.STARTED
    assert len(compute.started) == 1


# Preconditions do not rest on a memory that lags


async def test_a_precondition_that_memory_denies_is_asked_for(a, b, store, plugin, server):
    store.freeze()
    await a.submit_copy("j", COPY)
    await reached(b, Phase.RUNNING, Kind.COPY)
    server.mute_watches = True
    store.thaw()
    await reached(a, Phase.SUCCEEDED, Kind.COPY)
    assert (await b.get("j", Kind.COPY)).phase is Phase.RUNNING
    assert (await b.submit_plugin("j", plugin, copied=True)).job.status is Status.STARTED
    server.mute_watches = False


async def test_upload_preconditions(a, b, compute, store, plugin):
    upload = UploadSpec(job_output_path=OUT)
    with pytest.raises(Conflict, match=r"^No plugin job found\. A plugin job must complete before scheduling an upload job\.$"):
        await a.submit_upload("j", upload)
    await started(a, plugin)
    with pytest.raises(Conflict, match=r"^Plugin job has not completed yet \(status: started\)\. The plugin job must finish bef"):
        await b.submit_upload("j", upload)
    store.outputs["j"] = {}
    compute.finish("j", exit_code=3)
    await reached(a, Phase.FAILED)
    await b.submit_upload("j", upload)
    await reached(b, Phase.SUCCEEDED, Kind.UPLOAD)
    with pytest.raises(Conflict, match="job_output_path"):
        await a.submit_upload("j", UploadSpec(job_output_path="home/bob/elsewhere"))
    with pytest.raises(Exception, match="output_dir"):
        await a.submit_upload("j", UploadSpec(job_output_path="../x"))


async def test_the_output_is_listed_brought_and_archived(a, compute, store, plugin):
    with pytest.raises(NoSuchData):
        await a.outputs.listing("j", OUT)
    await started(a, plugin)
    store.outputs["j"] = {"b": b"1", "a/c": b"22"}
    assert await a.outputs.listing("j", OUT) == ["a/c", "b"]
    assert await a.outputs.upload("j", "home/bob/brought") is None
    assert store.uploaded == [], "a pod may be publishing"
    compute.finish("j")
    await reached(a, Phase.SUCCEEDED)
    await a.outputs.upload("j", "home/bob/brought")
    assert store.uploaded == [("j", "home/bob/brought")]
    files = [(file.name, b"".join([piece async for piece in file.open()])) async for file in await a.outputs.archive("j")]
    assert dict(files) == store.outputs["j"]


# Cancelling


@pytest.mark.parametrize("same", [True, False])
async def test_delete_ends_a_job_of_either_replica(a, b, compute, store, plugin, same):
    await started(a, plugin)
    await reached(b, Phase.RUNNING)
    order = []
    withdraw, remove = store.withdraw, compute.remove

    async def withdrawn(jid):
        order.append("withdraw")
        await withdraw(jid)

    async def removed(name):
        order.append("remove")
        await remove(name)

    store.withdraw, compute.remove = withdrawn, removed
    await (a if same else b).submit_delete("j", DeleteSpec())
    await reached(a, Phase.SUCCEEDED, Kind.DELETE)
    assert order[:2] == ["withdraw", "remove"], "a pod that ends publishes, unless its rights are gone by then"
    assert await compute.inspect("j") is None
    assert not store.staged
    assert not store.tickets
    for jobs in (a, b):
        assert ((await reached(jobs, Phase.FAILED)).message, await compute.inspect("j")) == ("cancelled", None)


async def cancelled_while_it_starts(a, b, plugin, go):
    """One replica starts a job, and does not get on before the other has deleted it."""
    request = asyncio.create_task(a.submit_plugin("j", plugin, copied=True))
    await reached(b, Phase.STARTING)
    await b.submit_delete("j", DeleteSpec())
    await reached(b, Phase.SUCCEEDED, Kind.DELETE)
    go.set()
    with pytest.raises(Superseded):
        await request


async def test_delete_while_the_other_replica_starts_the_job(a, b, compute, store, plugin):
    await a.submit_copy("j", COPY)
    await reached(b, Phase.SUCCEEDED, Kind.COPY)
    go = held(compute, "start")
    await cancelled_while_it_starts(a, b, plugin, go)
    assert await compute.inspect("j") is None
    assert (await reached(a, Phase.FAILED)).message == "cancelled"
    assert not store.tickets


@pytest.mark.parametrize("when", ["staging", "before create"])
async def test_removal_while_the_other_replica_makes_the_job(a, b, compute, store, plugin, when):
    go = held(store, "stage") if when == "staging" else held(compute, "start")
    request = asyncio.create_task(a.submit_plugin("j", plugin, copied=False))
    await reached(b, Phase.STAGING if when == "staging" else Phase.STARTING)
    await b.remove("j", Kind.PLUGIN)
    go.set()
    with pytest.raises(Conflict):
        await request
    assert await compute.inspect("j") is None
    with pytest.raises(NoSuchJob):
        await a.get("j", Kind.PLUGIN)


async def test_a_copy_that_the_other_replica_cancels_leaves_nothing(a, b, store):
    go = held(store, "stage")
    await a.submit_copy("j", COPY)
    await reached(b, Phase.RUNNING, Kind.COPY)
    await b.submit_delete("j", DeleteSpec())
    await reached(b, Phase.SUCCEEDED, Kind.DELETE)
    go.set()
    await eventually(lambda: not a._background._tasks)
    assert "stage" in store.calls
    assert not store.staged
    assert (await reached(a, Phase.FAILED, Kind.COPY)).message == "cancelled"


@pytest.mark.parametrize("how", ["deletejob", "pfcon 5"])
async def test_staging_that_the_other_replica_cancels_leaves_nothing(a, b, store, plugin, how):
    go = held(store, "stage")
    request = asyncio.create_task(a.submit_plugin("j", plugin, copied=False))
    await reached(b, Phase.STAGING)
    if how == "deletejob":
        await b.submit_delete("j", DeleteSpec())
        await reached(b, Phase.SUCCEEDED, Kind.DELETE)
    else:
        await b.purge("j")
    go.set()
    with pytest.raises(Superseded):
        await request
    assert "stage" in store.calls
    assert not store.staged


async def test_rights_that_are_signed_after_the_other_replica_has_cancelled_are_taken_back(a, b, compute, store, plugin):
    await a.submit_copy("j", COPY)
    await reached(b, Phase.SUCCEEDED, Kind.COPY)
    go, data = asyncio.Event(), store.data

    async def late(inputs, **how):
        tickets = await data(inputs, **how)
        await go.wait()
        store.tickets.add("j")
        return tickets

    store.data = late
    await cancelled_while_it_starts(a, b, plugin, go)
    assert not store.tickets
    assert await compute.inspect("j") is None


async def test_a_copy_that_the_other_replica_has_finished_stays(a, b, store, plugin):
    go = held(store, "stage")
    await a.submit_copy("j", COPY)
    await b._keeper._resume(await b.board.take(await reached(b, Phase.RUNNING, Kind.COPY)))
    await reached(b, Phase.SUCCEEDED, Kind.COPY)
    go.set()
    await eventually(lambda: not a._background._tasks)
    assert store.calls.count("stage") == 2
    assert "discard" not in store.calls
    assert (await a.submit_plugin("j", plugin, copied=True)).job.status is Status.STARTED


async def test_cancel_twice_and_after_the_end(a, b, compute, store, plugin, server):
    await started(a, plugin)
    await asyncio.gather(a.remove("j", Kind.PLUGIN), b.remove("j", Kind.PLUGIN), a.remove("j", Kind.PLUGIN))
    await b.remove("j", Kind.PLUGIN)
    assert await compute.inspect("j") is None
    await a.submit_delete("j", DeleteSpec())
    await reached(b, Phase.SUCCEEDED, Kind.DELETE)
    assert (await b.submit_delete("j", DeleteSpec())).job.message == "deleteSkipped"


async def test_cancel_goes_on_while_the_store_is_away(a, compute, store, plugin):
    await started(a, plugin)
    store.unavailable = True
    await a.remove("j", Kind.PLUGIN)
    assert await compute.inspect("j") is None


async def test_a_run_that_appears_after_its_job_was_cancelled_is_removed(a, compute, store, plugin, monkeypatch):
    await started(a, plugin)
    run = compute.started[0]
    await a.submit_delete("j", DeleteSpec())
    await reached(a, Phase.FAILED)
    await reached(a, Phase.SUCCEEDED, Kind.DELETE)
    await compute.start(run)
    await a._follower._list()
    await eventually(lambda: compute.removed.count("j") >= 2)
    assert await compute.inspect("j") is None


# Restarts, deaths and takeovers


async def test_what_the_predecessor_left_is_taken_up_at_once(open_replica, compute, store, plugin, server):
    async with open_replica("a") as jobs:
        await started(jobs, plugin)
        me = jobs.board.me
    compute.finish("j", logs="while nobody looked\n")
    async with open_replica("a") as jobs:
        assert jobs.board.me == me
        assert await jobs.log(await reached(jobs, Phase.SUCCEEDED)) == "while nobody looked\n"
    assert len(compute.started) == 1


async def test_a_second_daemon_on_the_state_directory_does_not_start(open_replica):
    async with open_replica("a"):
        with pytest.raises(StartError, match="another pfmoc"):
            async with open_replica("a"):
                pass


async def test_the_work_of_a_replica_that_left_is_taken_over(open_replica, compute, store, plugin):
    async with open_replica("b") as b:
        async with open_replica("a") as a:
            await started(a, plugin)
            store.freeze()
            await a.submit_copy("k", COPY)
            await reached(b, Phase.RUNNING, Kind.COPY, "k")
        store.thaw()
        await reached(b, Phase.SUCCEEDED, Kind.COPY, "k")
        compute.finish("j", logs="seen by the other\n")
        assert await b.log(await reached(b, Phase.SUCCEEDED)) == "seen by the other\n"
    assert len(compute.started) == 1


async def test_the_work_of_a_replica_that_died_is_taken_over(open_replica, compute, store, plugin, server):
    async with open_replica("b", dead_s=1.5) as b, open_replica("a") as a:
        await started(a, plugin)
        kill(a)
        compute.finish("j", logs="seen by the other\n")
        job = await reached(b, Phase.SUCCEEDED)
        assert b.board.mine(job)
        await eventually(lambda: f"pfmoc.replica.{a.board.me}" not in server.things[MAPS])


async def test_a_replica_that_lives_keeps_its_jobs(open_replica, compute, plugin, server):
    def beats() -> int:
        return sum(1 for method, path, _ in server.requests if method == "PATCH" and path.endswith(a.board.me))

    async with open_replica("a", dead_s=2) as a, open_replica("b", dead_s=2) as b:
        job = await started(a, plugin)
        before, began = beats(), asyncio.get_running_loop().time()
        await eventually(lambda: beats() > before + 10 and asyncio.get_running_loop().time() > began + 3)
        assert a.board.mine(job)
        assert not b.board.mine(job)


async def test_a_replica_that_stood_still_takes_nobody_for_dead(open_replica, plugin, server):
    async with open_replica("a") as a, open_replica("b", dead_s=1) as b:
        await started(a, plugin)
        seen = b.board._replicas
        await eventually(lambda: a.board.me in seen._noted)
        time.sleep(1.5)  # noqa: ASYNC251 - the machine stands still
        assert not seen.dead(a.board.me)
        await eventually(lambda: not seen._stood_still())
        assert not seen.dead(a.board.me)


async def test_a_silent_cluster_kills_nobody(open_replica, plugin, server):
    async with open_replica("a", dead_s=1) as a, open_replica("b", dead_s=1) as b:
        job = await started(a, plugin)
        server.cut_watches()
        server.answers = [(503, "")] * 80  # two replicas use them up in two seconds
        await eventually(lambda: not server.answers)
        await eventually(lambda: a.age_s is None and b.age_s is None)
        assert a.board.mine(job)


@pytest.mark.parametrize("phase", [Phase.STAGING, Phase.STARTING])
async def test_a_request_that_died_with_its_replica_is_undone_or_adopted(open_replica, compute, store, plugin, phase):
    """The other replica was asked the same meanwhile, and waits: it gets the job."""
    async with open_replica("b", dead_s=1.5) as b, open_replica("a") as a:
        go = held(store, "stage") if phase is Phase.STAGING else held(compute, "start")
        request = asyncio.create_task(a.submit_plugin("j", plugin, copied=False))
        await reached(b, phase)
        same = asyncio.create_task(b.submit_plugin("j", plugin, copied=False))
        kill(a)
        made = await same
        assert made.job.status is Status.STARTED
        assert b.board.mine(made.job)
        request.cancel()
        go.set()
        assert len(compute.started) == 1


async def test_everything_is_rebuilt_from_the_runs_when_the_records_are_lost(open_replica, compute, store, plugin, server):
    async with open_replica("a") as jobs:
        job = await started(jobs, plugin)
    server.things[MAPS].clear()
    async with open_replica("c") as jobs, open_replica("b") as other:
        again, twice = await asyncio.gather(*(each.submit_plugin("j", plugin, copied=False) for each in (jobs, other)))
        assert again.job.claim == twice.job.claim == job.claim
        assert again.job.spec.limits == plugin.limits
        assert again.job.spec.env == ()
        with pytest.raises(Conflict, match="image"):
            await jobs.submit_plugin("j", replace(plugin, image="other"), copied=False)
    assert len(compute.started) == 1


async def test_a_run_that_is_gone_is_lost_for_its_replica_only_to_say(a, b, compute, plugin):
    await started(a, plugin)
    await reached(b, Phase.RUNNING)
    compute.lose("j")
    await b._follower._list()
    assert (await b.get("j", Kind.PLUGIN)).phase is Phase.RUNNING
    await a._follower._list()
    assert (await reached(b, Phase.LOST)).status is Status.UNDEFINED


# The API server away


async def test_reads_go_on_and_say_their_age_while_writes_fail_in_time(compute, plugin, server, open_replica):
    async with open_replica("q") as jobs:
        await started(jobs, plugin)
        jobs.board._cluster._deadline_s = 0.3
        server.frozen = True
        with pytest.raises(ComputeUnavailable):
            await jobs.submit_copy("k", COPY)
        with pytest.raises(ComputeUnavailable):
            await jobs.get("unknown", Kind.PLUGIN)
        assert (await jobs.get("j", Kind.PLUGIN)).status is Status.STARTED
        server.cut_watches()
        server.frozen = False
        server.answers = [(503, "")] * 1000
        server.cut_watches()
        await eventually(lambda: jobs.age_s is not None)
        assert (await jobs.get("j", Kind.PLUGIN)).status is Status.STARTED
        server.answers = []
        jobs.board._cluster._deadline_s = 5.0
        await eventually(lambda: jobs.age_s is None)
        compute.finish("j")
        await reached(jobs, Phase.SUCCEEDED)


@pytest.mark.parametrize(("status", "error"), [(403, ComputeRefused), (422, ComputeRefused), (500, ComputeUnavailable)])
@pytest.mark.parametrize("call", [0, 1])
async def test_a_refusal_or_an_outage_is_never_read_as_no_such_job(a, store, server, status, error, call):
    """The first question is whether there is a record, the second makes one."""
    answered = iter([False] * call + [True])
    request, turn = a.board._cluster.request, asyncio.Lock()

    async def refused(verb, path, **how):
        async with turn:  # or a heartbeat takes the answer
            if "/pfmoc.replica." not in path and next(answered, False):
                server.answers = [(status, "")]
            return await request(verb, path, **how)

    a.board._cluster.request = refused
    with pytest.raises(error):
        await a.submit_copy("j", COPY)
    a.board._cluster.request = request
    server.answers = []
    with pytest.raises(NoSuchJob):
        await a.get("j", Kind.COPY)
    assert not store.staged
    await a.submit_copy("j", COPY)
    await reached(a, Phase.SUCCEEDED, Kind.COPY)


async def test_an_answer_that_was_lost_does_not_lose_the_job(a, b, compute, plugin, server):
    """The record was made, and nobody heard of it: it is undone, and the request that comes again makes the job."""
    server.loses_answers = True
    with pytest.raises(ComputeUnavailable):
        await a.submit_plugin("j", plugin, copied=False)
    assert records(server) == {"pfmoc.plugin.j"}
    server.loses_answers = False
    assert (await a.submit_plugin("j", plugin, copied=False)).job.status is Status.STARTED
    assert len(compute.started) == 1


async def test_old_answers_turn_readiness_off(a, compute):
    await eventually(lambda: not a._follower.stale)
    assert await a.probe() == {}
    compute.age = 5.0
    assert await a.probe() == {}
    compute.age = 11.0
    wrong = await a.probe()
    assert list(wrong) == ["watch"]
    assert wrong["watch"].message == "what is known of the jobs was last confirmed 11 s ago"


async def test_a_move_that_cannot_be_written_waits(a, compute, store, server):
    server.answers = []
    store.freeze()
    await a.submit_copy("j", COPY)
    await reached(a, Phase.RUNNING, Kind.COPY)
    server.answers = [(500, "")] * 2
    store.thaw()
    await reached(a, Phase.SUCCEEDED, Kind.COPY)


# What is in the records


async def test_the_users_token_and_the_tickets_are_in_no_record(a, compute, plugin, server):
    await started(a, plugin)
    compute.finish("j", logs="x\n")
    await reached(a, Phase.SUCCEEDED)
    everything = json.dumps(server.things) + json.dumps([thing for *_, thing in server.history])
    assert "simpledsapp" in everything
    assert "hush" not in everything
    assert "secret" not in everything
    assert "hush" not in compute.started[0].record


async def test_long_logs_are_kept_as_far_as_they_fit(a, compute, plugin, monkeypatch, server):
    monkeypatch.setattr(cluster_board, "_LOG_MAX", 2000)
    text = "".join(f"{number * 7919 % 10007}\n" for number in range(1000))
    await started(a, plugin)
    compute.finish("j", logs=text)
    job = await reached(a, Phase.SUCCEEDED)
    kept = await a.log(job)
    assert 100 < len(kept) < len(text)
    assert text.endswith(kept)
    (log,) = [thing for name, thing in server.things[MAPS].items() if name.startswith("pfmoc.log.")]
    assert log["metadata"]["ownerReferences"][0]["name"] == "pfmoc.plugin.j"
    await a.remove("j", Kind.PLUGIN)
    assert records(server) == {"pfmoc.copy.j"}


async def test_a_long_log_is_fetched_once_and_never_keeps_a_status_from_being_told(a, b, compute, plugin, server):
    text = "0123456789abcde\n" * 128
    await started(a, plugin)
    compute.finish("j", logs=text)
    job = await reached(a, Phase.SUCCEEDED)
    other = await reached(b, Phase.SUCCEEDED)
    assert [await a.log(job) for _ in range(3)] == [text] * 3
    assert server.asked(watch=False, path=f"{MAPS}/pfmoc.log.plugin.j") == 1
    server.refuses["GET", f"{MAPS}/pfmoc.log.plugin.j"] = (503, "")
    assert await a.log(job) == text
    assert await b.log(other) == ""
    with pytest.raises(ComputeUnavailable):
        await anext(b.follow(other))
    server.refuses.clear()
    assert await b.log(other) == text


async def test_the_log_of_an_earlier_life_is_not_told_of_the_next(a, compute, plugin):
    logs = [letter * 2048 for letter in "ab"]
    for log in logs:
        await a.submit_plugin("j", plugin, copied=False)
        compute.finish("j", logs=log)
        assert await a.log(await reached(a, Phase.SUCCEEDED)) == log
        await a.remove("j", Kind.PLUGIN)


async def test_a_job_that_no_record_can_hold_is_refused(a, plugin, compute):
    with pytest.raises(TooLarge):
        await a.submit_plugin("j", replace(plugin, args=["x" * 1000] * 1000), copied=False)
    assert not compute.started


async def test_a_record_that_cannot_be_read_is_no_absence(a, plugin, server):
    server.create(MAPS, {"metadata": {"name": "pfmoc.plugin.j", "labels": {cluster_board.KEEPS: "record"}}, "data": {"job": "{"}})
    with pytest.raises(Unavailable, match=r"pfmoc\.plugin\.j"):
        await a.get("j", Kind.PLUGIN)
    with pytest.raises(Unavailable):
        await a.submit_plugin("j", plugin, copied=False)


async def test_old_records_are_forgotten(open_replica, compute, plugin, server):
    async with open_replica("a") as a:
        await started(a, plugin)
        compute.finish("j")
        await reached(a, Phase.SUCCEEDED)
        assert await a._keeper.reap() == 0
    for name in ("pfmoc.plugin.j", "pfmoc.copy.j"):
        thing = server.things[MAPS][name]
        server.create(MAPS, {**thing, "data": {**thing["data"], "ended": "1000000000"}})
    async with open_replica("a"):
        await eventually(lambda: not records(server))
    assert await compute.inspect("j") is None
