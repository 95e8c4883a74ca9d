"""How a job ends whose output is in an object store: with all of it there, or with the reason why it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.compute import FakeCompute
from fakes.objects import MemoryStorage, MemoryStore, publish
from harness.waiting import eventually

from pfmoc.backoff import Backoff
from pfmoc.data import Tickets
from pfmoc.errors import StorageFull, StorageRefused, StorageUnavailable
from pfmoc.jobs import follower
from pfmoc.jobs.model import Job, Kind, PluginSpec
from pfmoc.jobs.service import Jobs
from pfmoc.settings import Settings, load
from pfmoc.storage import object_storage


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(object_storage, "_LATE", Backoff(first_s=0.001))
    monkeypatch.setattr(follower, "RESYNC_S", 0.05)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = str(tmp_path)
    variables = {"STOREBASE_MOUNT": home, "PFMOC_STATE_DIR": home, "PFMOC_QUEUE_WAIT_S": "200", "PFMOC_JOB_DEADLINE_S": "30"}
    return load({"APPLICATION_MODE": "development", "PFMOC_PUBLISH_DEADLINE_S": "40", **variables})


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage(MemoryStore({"in/x": b"1"}), limit=100)


@pytest.fixture
async def jobs(settings: Settings, compute: FakeCompute, storage: MemoryStorage) -> AsyncIterator[Jobs]:
    async with compute, Jobs(settings=settings, storage=storage, compute=compute) as jobs:
        yield jobs


@pytest.fixture
async def started(jobs: Jobs, spec: PluginSpec) -> Jobs:
    await jobs.submit_plugin("j", replace(spec, input_dirs=("in",), output_dir="out"), copied=False)
    return jobs


async def ended(jobs: Jobs) -> Job:
    async def there() -> Job | None:
        job = await jobs.get("j", Kind.PLUGIN)
        return job if job.phase.terminal else None

    return await eventually(there, what="the job to end")


async def test_a_run_that_has_published_has_succeeded(started, compute, storage):
    publish(storage.store, {"a": b"1"})
    compute.finish("j")
    job = await ended(started)
    assert (job.status, job.message) == ("finishedSuccessfully", "exited")


async def test_a_run_that_says_success_and_has_published_nothing_has_failed(started, compute):
    compute.finish("j", message="finished; its pods were gone before they could be seen", logs="all well\n")
    job = await ended(started)
    assert (job.status, job.message, job.exit_code) == (
        "finishedWithError",
        "publish failed: worker 0 has not said what it published",
        0,
    )
    assert await started.log(job) == "all well\n"


async def test_a_run_that_failed_need_not_have_published(started, compute):
    compute.finish("j", exit_code=1, message="pull failed: no such object")
    assert (await ended(started)).message == "pull failed: no such object"


@pytest.mark.parametrize("refusal", [StorageFull("the quota is used up"), StorageRefused("the quota is used up")])
@pytest.mark.parametrize(("code", "message"), [(0, "publish failed: "), (3, "exited; publish failed: ")])
async def test_a_refusal_for_good_ends_the_job_with_its_reason(started, compute, storage, refusal, code, message):
    publish(storage.store, {}, large={"big": []})
    storage.refusal = refusal
    compute.finish("j", exit_code=code)
    job = await ended(started)
    assert (job.status, job.message, job.exit_code) == ("finishedWithError", message + "the quota is used up", code)


async def test_asking_for_the_output_takes_nothing_from_an_attempt_that_publishes(started, compute, storage):
    publish(storage.store, {"a": b"1", "first": b"1"}, attempt="one")
    publish(storage.store, {"a": b"2", "second": b"2"}, attempt="two", concluded=False)
    assert await started.outputs.upload("j", "out") is None
    assert {"out/a", "out/first", "out/second"} <= storage.store.objects.keys()
    publish(storage.store, {"a": b"2", "second": b"2"}, attempt="two")
    compute.finish("j")
    assert (await ended(started)).status == "finishedSuccessfully"
    assert {name for name in storage.store.objects if name.startswith("out/")} == {"out/a", "out/second"}
    assert await started.outputs.upload("j", "out") == 2


async def test_an_outage_is_waited_out(started, compute, storage, monkeypatch):
    publish(storage.store, {}, large={"big": []})
    storage.refusal = StorageUnavailable("it answered 503")
    seals, seal = [], storage.seal

    async def counted(*args: object, **more: object) -> object:
        seals.append(args)
        return await seal(*args, **more)

    monkeypatch.setattr(storage, "seal", counted)
    compute.finish("j")
    await eventually(lambda: len(seals) > 3, what="further attempts")
    assert not (await started.get("j", Kind.PLUGIN)).phase.terminal
    storage.refusal = None
    assert (await ended(started)).status == "finishedSuccessfully"


async def test_tickets_outlive_the_queue_and_both_deadlines(jobs, spec, storage, monkeypatch):
    lifetimes, data = [], storage.data

    async def noted(inputs: object, *, lifetime_s: float) -> Tickets:
        lifetimes.append(lifetime_s)
        return await data(inputs, lifetime_s=lifetime_s)

    monkeypatch.setattr(storage, "data", noted)
    await jobs.submit_plugin("j", replace(spec, input_dirs=("in",), output_dir="out"), copied=False)
    assert lifetimes == [200 + 30 + 40]
