"""The compute environment against an API server that misbehaves."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.api_server import ApiServer
from harness.kube_lab import run, settings_for
from harness.kube_objects import COMPLETE, FAILED, LABELS, at, ended, job, pod, running, waiting
from harness.waiting import eventually

from pfmoc.cluster.errors import ClusterRefused, ClusterUnavailable, ServerError
from pfmoc.cluster.informer import Informer
from pfmoc.compute import kubernetes_chores as chores_module
from pfmoc.compute.base import Limits, RunState
from pfmoc.compute.kubernetes import KubernetesCompute
from pfmoc.compute.kubernetes_facts import FAILURE, job_facts, pod_facts
from pfmoc.compute.kubernetes_index import Index
from pfmoc.compute.kubernetes_status import status
from pfmoc.errors import ComputeConflict, ComputeRefused, ComputeUnavailable, InvalidRequest

JOBS = "/apis/batch/v1/namespaces/x/jobs"
PODS = "/api/v1/namespaces/x/pods"
COUNT, BYTES = 2_000, 4_000
"""So 10,000 jobs take less than 40 MB."""
SECRETS = "/api/v1/namespaces/x/secrets"


@pytest.fixture
async def server():
    async with ApiServer() as server:
        server.create("/api/v1/namespaces", {"metadata": {"name": "x"}})
        yield server


@asynccontextmanager
async def opened(server: ApiServer, *, patience_s: float = 100.0, **settings: str):
    chosen = settings_for(Path("/nowhere"), "x", **{"PFMOC_ENGINE_DEADLINE_S": "10", **settings})
    async with KubernetesCompute(chosen, reached=server.access, patience_s=patience_s) as compute:
        await compute.probe()
        yield compute


def names(server: ApiServer, path: str) -> list[str]:
    return sorted(server.things.get(path, {}))


async def test_a_start_makes_a_secret_and_a_job_that_owns_it(server):
    async with opened(server) as compute:
        seen = await compute.start(run("job"))
        assert (seen.state, seen.message) == (RunState.PENDING, "pending: waits for its pod")
        (made,) = server.things[JOBS].values()
        (secret,) = server.things[SECRETS].values()
        assert secret["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        assert replace(await compute.start(run("job")), stages=None) == replace(seen, stages=None)
        with pytest.raises(ComputeConflict):
            await compute.start(run("job", digest="another"))
        assert (len(names(server, JOBS)), len(names(server, SECRETS))) == (1, 1)


async def test_replicas_that_start_a_run_at_once_make_one_job_and_leave_one_secret(server):
    async with opened(server) as one, opened(server) as other:
        await asyncio.gather(*(each.start(run("job")) for each in (one, other)))
        assert (len(names(server, JOBS)), len(names(server, SECRETS))) == (1, 1)


async def test_a_lost_answer_is_found_out(server):
    async with opened(server) as compute:
        plain, lost = compute.cluster.request, []

        async def request(verb: str, path: str, **more):
            answer = await plain(verb, path, **more)
            if verb == "POST" and path == JOBS and not lost:
                lost.append(path)
                raise ClusterUnavailable("the line was cut")
            return answer

        compute.cluster.request = request
        assert (await compute.start(run("job"))).state is RunState.PENDING
        assert lost
        assert (len(names(server, JOBS)), len(names(server, SECRETS))) == (1, 1)


@pytest.mark.parametrize("status_code", [403, 404, 409, 413, 422, 500, 503])
async def test_a_refused_job_leaves_nothing_and_says_how(server, status_code):
    async with opened(server) as compute:
        await compute._whom()
        plain = compute.cluster.request

        async def request(verb: str, path: str, **more):
            if verb == "POST" and path == JOBS:
                server.answers = [(status_code, "")]
            return await plain(verb, path, **more)

        compute.cluster.request = request
        with pytest.raises((ComputeRefused, ComputeUnavailable)) as error:
            await compute.start(run("job"))
        assert isinstance(error.value, ComputeUnavailable) is (status_code >= 500)
        if isinstance(error.value, ComputeRefused):
            assert error.value.engine_status == status_code
        assert names(server, SECRETS) == names(server, JOBS) == []


async def test_an_outage_is_never_no_such_job(server):
    async with opened(server, PFMOC_ENGINE_DEADLINE_S="3") as compute:
        assert await compute.inspect("job") is None
        for proxy in (404, 403, 503):
            server.proxy_says = proxy
            with pytest.raises(ComputeUnavailable):
                await compute.inspect("job")
            with pytest.raises(ComputeUnavailable):
                await compute.remove("job")
        server.proxy_says = None
        server.frozen = True
        with pytest.raises(ComputeUnavailable):
            await compute.inspect("job")
        with pytest.raises(ComputeUnavailable):
            await compute.start(run("job"))
        server.frozen = False


async def test_another_s_job_is_left_alone(server):
    server.create(JOBS, {"metadata": {"name": "job"}, "spec": {}})
    async with opened(server) as compute:
        for attempt in (compute.start, compute.remove, compute.inspect):
            with pytest.raises(ComputeRefused, match="not one of this daemon's"):
                await attempt(run("job") if attempt == compute.start else "job")
        assert list(await compute.runs()) == []
        assert names(server, JOBS) == ["job"]


async def test_what_the_jobs_end_is_told_before_its_pods_is_asked_for(server):
    server.create(JOBS, job())
    server.create(PODS, pod(publish=running(), plugin=ended(), phase="Running"))
    async with opened(server) as compute:
        lagging = pod(publish=ended(1, message='{"error": "full"}'), plugin=ended(), phase="Succeeded")
        server.things[PODS]["job-a"] = {**lagging, "metadata": {**lagging["metadata"], "resourceVersion": "900"}}  # no event
        server.create(JOBS, job(COMPLETE))
        seen = await eventually(lambda: ended_one(compute))
        assert (seen.state, seen.message) == (RunState.FAILED, "publish failed: full")


async def ended_one(compute):
    seen = await compute.inspect("job")
    return seen if seen is not None and seen.state.ended else None


async def test_without_its_pods_last_words_a_run_is_not_said_to_have_ended(server):
    server.create(JOBS, job())
    server.create(PODS, pod(publish=running(), plugin=ended(), phase="Running"))
    async with opened(server) as compute:
        server.proxy_says = 503
        compute._jobs.put({**job(COMPLETE), "metadata": {**job()["metadata"], "resourceVersion": "999"}})
        seen = await compute.inspect("job")
        assert seen is not None
        assert (seen.state, seen.message, seen.exit_code) == (RunState.RUNNING, "has ended; asks how", None)


async def test_a_pod_that_is_gone_is_remembered_with_its_job(server):
    server.create(JOBS, job())
    server.create(PODS, pod(plugin=running(), phase="Running"))
    async with opened(server) as compute:
        server.create(PODS, pod(plugin=ended(3), phase="Failed"))
        server.delete(PODS, "job-a")
        server.create(JOBS, job(FAILED))
        seen = await eventually(lambda: ended_one(compute))
        assert (seen.message, seen.exit_code) == ("exited with code 3", 3)
        server.delete(JOBS, "job")
        await eventually(lambda: not compute._index._pods)
        assert not compute._index._job_of


async def test_a_status_asks_the_cluster_nothing(server):
    for number in range(50):
        server.create(JOBS, job(name=f"job-{number}"))
    async with opened(server) as compute:
        asked = len(server.requests)
        for _ in range(20):
            for number in range(50):
                assert await compute.inspect(f"job-{number}") is not None
        assert len(await compute.runs()) == 50
        assert [path for _, path, _ in server.requests[asked:] if path != "/version"] == []


async def test_while_many_runs_are_looked_at_others_have_their_turn(server):
    for number in range(1000):
        server.create(JOBS, job(name=f"job-{number}"))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with opened(server) as compute:
        task = asyncio.create_task(other())
        assert len(await compute.runs()) == 1000
        task.cancel()
    assert turns >= 4


async def test_a_pod_that_cannot_begin_is_given_up_in_time(server, monkeypatch):
    monkeypatch.setattr(chores_module, "EVERY_S", 0.01)
    server.create(JOBS, job())
    server.create(PODS, pod(plugin=waiting("ImagePullBackOff", "not found")))
    async with opened(server, patience_s=1):
        made = server.things[JOBS]["job"]
        assert FAILURE not in made["metadata"]["annotations"]
        await eventually(lambda: server.things[JOBS]["job"]["spec"].get("activeDeadlineSeconds") == 1)
        noted = server.things[JOBS]["job"]["metadata"]["annotations"][FAILURE]
        assert noted == "image localhost/plugin:1: ImagePullBackOff: not found"


async def test_a_run_at_its_deadline_is_ended_with_its_pods_first(server, monkeypatch):
    monkeypatch.setattr(chores_module, "EVERY_S", 0.01)
    late = job()
    late["status"]["startTime"] = at(0)  # long ago
    server.create(PODS, pod(plugin=running()))
    server.create(JOBS, late)
    async with opened(server, PFMOC_JOB_DEADLINE_S="60"):
        await eventually(lambda: FAILURE in server.things[JOBS]["job"]["metadata"]["annotations"])
        order = [(method, path) for method, path, _ in server.requests if method in ("DELETE", "PATCH")]
        assert order[0] == ("DELETE", f"{PODS}/job-a")
        assert order[1][0] == "PATCH"


async def test_a_pod_that_the_job_controller_makes_at_the_last_moment_is_removed_too(server):
    server.create(JOBS, job())
    async with opened(server) as compute:
        plain = compute.cluster.request

        async def request(verb: str, path: str, **more):
            if verb == "DELETE" and path == f"{JOBS}/job":
                server.create(PODS, pod("job-late"))
            return await plain(verb, path, **more)

        compute.cluster.request = request
        await compute.remove("job")
        assert names(server, PODS) == names(server, JOBS) == []


@pytest.mark.parametrize("error", [ClusterRefused("a webhook says no", engine_status=403), ServerError("a webhook is not there")])
async def test_a_run_that_cannot_be_ended_is_in_no_other_s_way(server, monkeypatch, caplog, error):
    monkeypatch.setattr(chores_module, "EVERY_S", 3600)  # the environment's own are not to join in
    for name in ("a", "b", "c"):
        late = job(name=name)
        late["status"]["startTime"] = at(0)  # long ago
        server.create(JOBS, late)
    async with opened(server) as compute:
        plain = compute.cluster.request

        async def request(verb: str, path: str, **more):
            if verb == "PATCH" and path == f"{JOBS}/a":
                raise error
            return await plain(verb, path, **more)

        compute.cluster.request = request
        chores = chores_module.Chores(
            compute.cluster, "x", jobs=compute._jobs, pods=compute._pods, patience_s=1, deadline_s=60, grace_s=1
        )
        for _ in range(2):
            await chores.once()
        noted = [name for name in ("a", "b", "c") if FAILURE in server.things[JOBS][name]["metadata"]["annotations"]]
    assert noted == ["b", "c"]
    assert [record.cause for record in caplog.records if record.message == "a run cannot be ended"] == [error.message]


async def test_a_secret_that_cannot_be_removed_is_in_no_other_s_way(server):
    async with opened(server) as compute:
        for name in ("other-1", "other-2"):
            notes = {"pfmoc.chrisproject.org/run": "other"}
            server.create(SECRETS, {"metadata": {"name": name, "labels": LABELS, "annotations": notes}})
        plain = compute.cluster.request

        async def request(verb: str, path: str, **more):
            if verb == "DELETE" and path == f"{SECRETS}/other-1":
                raise ClusterRefused("a finalizer of somebody's", engine_status=403)
            return await plain(verb, path, **more)

        compute.cluster.request = request
        chores = chores_module.Chores(
            compute.cluster, "x", jobs=compute._jobs, pods=compute._pods, patience_s=1, deadline_s=1000, grace_s=1
        )
        await chores.sweep()
        assert names(server, SECRETS) == ["other-1"]


async def test_a_secret_whose_job_was_never_made_is_removed_and_a_lone_one_is_given_to_its_job(server):
    async with opened(server) as compute:
        await compute.start(run("job"))
        (name,) = names(server, SECRETS)
        server.things[SECRETS][name]["metadata"].pop("ownerReferences")
        orphan = {"name": "other-1", "labels": LABELS, "annotations": {"pfmoc.chrisproject.org/run": "other"}}
        server.create(SECRETS, {"metadata": orphan})
        server.create(SECRETS, {"metadata": {**orphan, "name": "young-1", "creationTimestamp": "2100-01-01T00:00:00Z"}})
        chores = chores_module.Chores(
            compute.cluster, "x", jobs=compute._jobs, pods=compute._pods, patience_s=1, deadline_s=1000, grace_s=1
        )
        await chores.sweep()
        assert names(server, SECRETS) == sorted([name, "young-1"])
        assert "ownerReferences" in server.things[SECRETS][name]["metadata"]


@pytest.mark.parametrize("workers", [0, -1, 1001, 10**18])
async def test_how_many_workers_there_may_be(server, workers):
    async with opened(server) as compute:
        limits = Limits(cpu_millicores=1, memory_mib=8, number_of_workers=workers)
        with pytest.raises(InvalidRequest, match="number_of_workers: must be between 1 and 1000 workers, got"):
            await compute.start(run("job", limits=limits))
        two = Limits(cpu_millicores=1, memory_mib=8, number_of_workers=2)
        with pytest.raises(ComputeRefused, match="too long for 2 workers"):
            await compute.start(run("j" * 63, limits=two))


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        (Limits(cpu_millicores=4001, memory_mib=200), "cpu_limit: must be between 1 and 4000 millicores, got 4001"),
        (Limits(cpu_millicores=1000, memory_mib=8193), "memory_limit: must be between 6 and 8192 MiB, got 8193"),
        (Limits(cpu_millicores=1000, memory_mib=200, gpus=3), "gpu_limit: must be between 0 and 2, got 3"),
        (
            Limits(cpu_millicores=1000, memory_mib=200, gpus=1, gpu_product="H100"),
            "gpu_product: must be one of A100, V100, got 'H100'",
        ),
    ],
)
async def test_a_site_says_what_one_run_may_ask_for(server, limits, complaint):
    site = {"PFMOC_MAX_CPU_M": "4000", "PFMOC_MAX_MEMORY_MIB": "8192", "PFMOC_GPUS": "2", "PFMOC_GPU_PRODUCTS": "A100,V100"}
    async with opened(server, **site) as compute:
        most = Limits(cpu_millicores=4000, memory_mib=8192, gpus=2, gpu_product="V100")
        await compute.start(run("most", limits=most))
        with pytest.raises(InvalidRequest, match=complaint):
            await compute.start(run("more", limits=limits))
        assert names(server, JOBS) == ["most"]


async def test_a_job_takes_little_memory():
    jobs, pods, notes = (Informer(None, "/x", reduce) for reduce in (job_facts, pod_facts, lambda _: None))  # type: ignore[arg-type]
    index = Index(jobs, pods, notes)
    tracemalloc.start()
    done = {"pull": ended(), "publish": ended(), "plugin": ended()}
    for number in range(COUNT):
        jobs.put(job(COMPLETE, name=f"job-{number}"))
        pods.put(pod(f"job-{number}-a", phase="Succeeded", of=f"job-{number}", **done))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / COUNT < BYTES
    facts = jobs.get("job-77")
    assert facts is not None
    assert status(facts, index.pods(facts), now=0).state is RunState.SUCCEEDED
