"""The daemon with pods and Swift: what clients see, two replicas at once, and death at each phase."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest
from harness.box import Box
from harness.clients import Client
from harness.cluster import Cluster
from harness.daemon import PASSWORD, USER, launched
from harness.http import Api, client
from harness.pod_site import ONCE, PATIENCE_S, TREE, PodSite, ended, inputs_of, outputs, planted, plugin, pod_site
from harness.tenants import sdk_warnings
from harness.waiting import eventually

pytestmark = sdk_warnings
KILLPOINTS = Path(__file__).parents[1] / "faults/killpoints.py"
COPIES = 'cp -r "$1"/. "$2"/ && echo copied'
SLOW = f"sleep 4; {ONCE}"
MESSAGES = {"runs": "running", "publishes": "publishing its output", "pulls": "pulling its input"}
HELD_S = {"runs": 7001, "publishes": 7002}
"""Seconds that the plugins of these would sleep, which tell their processes apart too; the test wakes them."""


@pytest.fixture(scope="module")
def site(box: Box, cluster: Cluster, images: None) -> Iterator[PodSite]:
    with pod_site(box, cluster) as made:
        yield made


def op(jid: str, **more: object) -> dict[str, object]:
    return {"jid": jid, **more}


async def copied(api: Api, jid: str) -> None:
    (await api.post("copyjobs/", op(jid, **inputs_of(jid)))).expect(201)
    assert (await ended(api, "copy", jid))["status"] == "finishedSuccessfully"


async def deleted(api: Api, jid: str) -> None:
    """What CUBE does at the end of a job's life."""
    (await api.post("deletejobs/", op(jid))).expect(201)
    await ended(api, "delete", jid)
    for kind in ("copy", "plugin", "upload", "delete"):
        (await api.delete(f"{kind}jobs/{jid}/")).expect(204)


JOURNEY_4 = """
from pfconclient.client import Client, JobType
client = Client(base, Client.get_auth_token(base + "auth-token/", user, password))
client.initial_wait = 1
info = client.get_server_info()
seen = []
steps = ((JobType.COPY, inputs), (JobType.PLUGIN, job), (JobType.UPLOAD, {"job_output_path": inputs["output_dir"]}))
for kind, descriptors in steps:
    submitted = client.submit_job(kind, jid, descriptors)["compute"]["status"]
    seen.append([submitted, client.poll_job_status(kind, jid)])
listing = client.get_plugin_job_json_data(jid, inputs["output_dir"])
logs = client.get_job_status(JobType.PLUGIN, jid)["compute"]["logs"]
client.submit_job(JobType.DELETE, jid, {})
deletion = client.poll_job_status(JobType.DELETE, jid)
for kind in JobType:
    client.delete_job(kind, jid)
result = {"info": info, "seen": seen, "listing": listing, "logs": logs, "deletion": deletion}
"""
JOURNEY_3 = """
from pfconclient.client import Client
client = Client(base, Client.get_auth_token(base + "auth-token/", user, password))
client.initial_wait = 1
submitted = client.submit_job(jid, job)
status = client.poll_job_status(jid)
listing = client.get_job_json_data(jid, inputs["output_dir"])
client.delete_job(jid)
result = {"data": submitted["data"], "status": status, "listing": listing}
"""


async def test_real_clients_from_input_to_nothing_left(site, tmp_path):
    done = ("finishedSuccessfully",) * 2
    async with site.store() as store, site.serve(tmp_path / "daemon") as served:
        values = {"base": f"{served.url}/api/v1/", "user": USER, "password": PASSWORD}

        async def journey(version: str, script: str) -> tuple[dict[str, object], dict[str, bytes]]:
            jid = f"Client_{version}"
            await planted(store, jid, TREE)
            job = {name: value for name, value in plugin(jid, COPIES).items() if name != "jid"}
            job["args"] = ["unused"]
            job["entrypoint"] = ["sh", "-c", COPIES.replace("$2", "$3").replace("$1", "$2"), "sh"]
            told = await Client(version).script(script, jid=jid, job=job, inputs=inputs_of(jid), **values)
            return told, await outputs(store, jid)

        (four, out4), (three, out3) = await asyncio.gather(journey("4.0.0", JOURNEY_4), journey("3.3.0", JOURNEY_3))
        assert out4 == out3 == TREE
        needs = ("pfcon_innetwork", "storage_env", "requires_copy_job", "requires_upload_job", "container_env")
        assert [four["info"][name] for name in needs] == [True, "swift", True, True, "kubernetes"]
        assert four["info"]["swift_auth_url"].startswith("http://127.0.0.1:")
        assert [seen[1] for seen in four["seen"]] == ["finishedSuccessfully"] * 3
        assert four["listing"] == {"job_output_path": inputs_of("Client_4.0.0")["output_dir"], "rel_file_paths": sorted(TREE)}
        assert (four["logs"], four["deletion"], three["status"]) == ("copied\n", *done)
        assert (three["data"]["nfiles"], sorted(three["listing"]["rel_file_paths"])) == (2, sorted(TREE))
        await eventually(lambda: not site.kept(), what="nothing to be left", deadline_s=60)
        assert [entry async for page in store.pages("key-") for entry in page] == []
        assert "tell-nobody" not in served.log.read_text()


async def test_what_is_seen_of_a_job_at_work_and_what_is_left_of_one_that_is_cancelled(site, tmp_path):
    async with site.store() as store, site.serve(tmp_path / "daemon") as served, client(served.url) as api:
        await asyncio.gather(*(planted(store, jid, TREE) for jid in ("seen", "cut", "bad")))
        await asyncio.gather(*(copied(api, jid) for jid in ("seen", "cut", "bad")))
        for jid, script in (
            ("seen", f"echo one; sleep 3; echo two; {COPIES}"),
            ("cut", "sleep 1000"),
            ("bad", f"{COPIES}; exit 7"),
        ):
            (await api.post("pluginjobs/", plugin(jid, script))).expect(201)
        early = await api.post("uploadjobs/", op("cut", job_output_path="home/cut/out/data"))
        assert (early.status, early.message[:40]) == (409, "Plugin job has not completed yet (status")

        async def begun(jid: str) -> bool:
            """And not "at work": of a few seconds' work nothing may be heard until it is done."""
            return (await api.get(f"pluginjobs/{jid}/")).json()["compute"]["status"] != "notStarted"

        await eventually(lambda: begun("seen"), deadline_s=PATIENCE_S)
        followed = await api.get("pluginjobs/seen/logs/?follow=true", timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
        assert (followed.status, followed.body) == (200, b"one\ntwo\ncopied\n")
        assert (await ended(api, "plugin", "seen"))["status"] == "finishedSuccessfully"
        stages = (await api.get("pluginjobs/seen/stages/")).json()
        assert stages["plugin"] >= 3
        assert None not in stages.values()
        failed = await ended(api, "plugin", "bad")
        assert (failed["status"], failed["logs"]) == ("finishedWithError", "copied\n")
        assert await outputs(store, "bad") == TREE, "outputs of a failed plugin are published too"
        for jid in ("seen", "bad"):
            (await api.post("uploadjobs/", op(jid, job_output_path=f"home/{jid}/out/data"))).expect(201)
            assert (await ended(api, "upload", jid))["status"] == "finishedSuccessfully"
        zipped = await api.get("pluginjobs/seen/file/")
        assert (zipped.status, zipped.body[:2]) == (200, b"PK")
        await eventually(lambda: begun("cut"), deadline_s=PATIENCE_S)
        await asyncio.gather(*(deleted(api, jid) for jid in ("seen", "cut", "bad")))
        assert await outputs(store, "cut") == {}
        await eventually(lambda: not site.kept(), what="nothing to be left", deadline_s=60)
        assert [entry async for page in store.pages("key-") for entry in page] == []


async def test_two_replicas_make_one_job_of_fifty_requests_and_one_goes_on_when_the_other_dies(site, tmp_path):
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(site.store())
        first, second = [await stack.enter_async_context(site.serve(tmp_path / name)) for name in "ab"]
        a, b = [await stack.enter_async_context(client(served.url)) for served in (first, second)]
        await planted(store, "fifty", TREE)
        await asyncio.gather(*(each.post("copyjobs/", op("fifty", **inputs_of("fifty"))) for each in (a, b) * 10))
        assert (await ended(b, "copy", "fifty"))["status"] == "finishedSuccessfully"
        replies = await asyncio.gather(*(each.post("pluginjobs/", plugin("fifty", SLOW)) for each in (a, b) * 25))
        assert {reply.status for reply in replies} == {201}
        assert {reply.json()["compute"]["status"] for reply in replies} <= {"notStarted", "started"}
        assert len([name for name in site.kept(of="fifty") if name.startswith("job ")]) == 1
        other = {**plugin("fifty", SLOW), "entrypoint": ["other"]}
        refused = await b.post("pluginjobs/", other)
        assert (refused.status, refused.message.partition(":")[0]) == (409, "entrypoint")
        await first.stop(signal.SIGKILL)
        assert (await ended(b, "plugin", "fifty", deadline_s=PATIENCE_S))["status"] == "finishedSuccessfully"
        left = await outputs(store, "fifty")
        assert len([name for name in left if name.startswith("run-")]) == 1
        await deleted(b, "fifty")
        await eventually(lambda: not site.kept(of="fifty"), what="nothing to be left", deadline_s=60)


@pytest.mark.parametrize("victim", ["daemon", "kube-apiserver", "kubelet", "containerd", "swift-proxy"])
async def test_a_death_costs_none_of_the_jobs_at_work_its_one_end(site, tmp_path, victim):
    """One pulls and one publishes, at which a frozen Swift keeps them, and one runs, which fails in the end."""
    phases = {f"{name}-{victim}": message for name, message in MESSAGES.items()}
    runs, publishes, pulls = phases
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(site.store())
        served = await stack.enter_async_context(site.serve(tmp_path))
        api = await stack.enter_async_context(client(served.url))
        await asyncio.gather(*(planted(store, jid, TREE) for jid in phases))
        await asyncio.gather(*(copied(api, jid) for jid in phases))
        for jid, held, end in ((runs, "runs", "exit 3"), (publishes, "publishes", "exit 0")):
            (await api.post("pluginjobs/", plugin(jid, f"sleep {HELD_S[held]}; {ONCE}; {end}"))).expect(201)
        await said(api, {runs: "running", publishes: "running"})
        # Looked for before: it takes longer than a pull.
        frozen = site.box.living("swift-proxy")
        (await api.post("pluginjobs/", plugin(pulls, ONCE))).expect(201)
        os.kill(frozen, signal.SIGSTOP)
        try:
            await woken("publishes")
            await said(api, phases)
            if victim == "daemon":
                await served.stop(signal.SIGKILL)
            else:
                await asyncio.to_thread(site.box.kill, victim)
        finally:
            with suppress(ProcessLookupError):
                os.kill(frozen, signal.SIGCONT)
        if victim == "daemon":
            served = await stack.enter_async_context(site.serve(tmp_path))
            api = await stack.enter_async_context(client(served.url))
        await woken("runs")
        ends = await asyncio.gather(*(ended(api, "plugin", jid) for jid in phases))
        assert [end["status"] for end in ends] == ["finishedWithError", "finishedSuccessfully", "finishedSuccessfully"], ends
        for jid in phases:
            left = await outputs(store, jid)
            once = [name for name in left if name.startswith("run-")]
            assert len(once) == 1, f"{jid} ran {len(once)} times"
            assert {name: left[name] for name in left.keys() - set(once)} == TREE
        assert [await ended(api, "plugin", jid) for jid in phases] == ends
        await asyncio.gather(*(deleted(api, jid) for jid in phases))
        await eventually(lambda: not site.kept(), what="nothing to be left", deadline_s=60)
        assert [entry async for page in store.pages("key-") for entry in page] == []


async def woken(held: str) -> None:
    """Let a plugin that sleeps go on with its work. A container that has just started may not sleep yet."""
    words = ["sleep", str(HELD_S[held])]

    def found() -> list[psutil.Process]:
        return [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == words]

    (sleeping,) = await eventually(found, what="a plugin that sleeps")
    sleeping.terminate()


async def said(api: Api, wanted: dict[str, str]) -> None:
    """Wait until each plugin job says what it should."""
    heard: dict[str, str] = {}

    async def all_of_them() -> bool:
        for jid in wanted:
            heard[jid] = (await api.get(f"pluginjobs/{jid}/")).json()["compute"]["message"]
        return heard == wanted

    try:
        await eventually(all_of_them, deadline_s=PATIENCE_S)
    except AssertionError:
        assert heard == wanted


async def whole_journey(api: Api, jid: str) -> None:
    """From copy to delete, as often as asked: each request may come again."""
    await copied(api, jid)
    (await api.post("pluginjobs/", plugin(jid, ONCE))).expect(201)
    assert (await ended(api, "plugin", jid))["status"] == "finishedSuccessfully"
    (await api.post("uploadjobs/", op(jid, job_output_path=inputs_of(jid)["output_dir"]))).expect(201)
    assert (await ended(api, "upload", jid))["status"] == "finishedSuccessfully"
    (await api.post("deletejobs/", op(jid))).expect(201)
    assert (await ended(api, "delete", jid))["status"] == "finishedSuccessfully"


POINTS = (
    "pods.staged",
    "pods.starting",
    "pods.started",
    "answered",
    "pods.ended",
    "pods.uploaded",
    "pods.withdrawn",
    "pods.deleted",
)


async def test_killed_at_any_point_nothing_is_lost_doubled_or_left(site, tmp_path):
    room = asyncio.Semaphore(3)

    async def killed_at(point: str, store: object) -> tuple[str, object]:
        jid = point.replace(".", "-")
        home = tmp_path / jid
        await planted(store, jid, TREE)
        async with room:
            async with launched(home, str(KILLPOINTS), point, "serve", module=False, **site.variables) as served:
                listening = await eventually(lambda: served.event("listening"), deadline_s=60)
                async with client(listening["url"]) as api:
                    with suppress(aiohttp.ClientError):
                        await whole_journey(api, jid)
                    assert await asyncio.wait_for(served.process.wait(), 60) == -signal.SIGKILL, point
            async with site.serve(home) as served, client(served.url) as api:
                if point not in ("pods.uploaded", "pods.withdrawn", "pods.deleted"):
                    await whole_journey(api, jid)
                elif point == "pods.uploaded":
                    assert (await ended(api, "upload", jid))["status"] == "finishedSuccessfully"
                    assert (await ended(api, "plugin", jid))["status"] == "finishedSuccessfully"
                    await deleted(api, jid)
                else:
                    assert (await ended(api, "delete", jid))["status"] == "finishedSuccessfully"
                for kind in ("copy", "plugin", "upload", "delete"):
                    (await api.delete(f"{kind}jobs/{jid}/")).expect(204)
            left = await outputs(store, jid)
        runs = [name for name in left if name.startswith("run-")]
        return point, (len(runs), {name: left[name] for name in left.keys() - set(runs)} == TREE)

    async with site.store() as store:
        told = await asyncio.gather(*(killed_at(point, store) for point in POINTS))
        assert dict(told) == dict.fromkeys(POINTS, (1, True))
        await eventually(lambda: not site.kept(), what="nothing to be left", deadline_s=60)
        assert [entry async for page in store.pages("key-") for entry in page] == []
