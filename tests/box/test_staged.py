"""The daemon that brings data from Swift to its own directory and back: jobs are processes of this machine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from harness.box import Box
from harness.cluster import Cluster
from harness.http import Api, client
from harness.lab import install_tools
from harness.pod_site import ONCE, PATIENCE_S, TREE, PodSite, ended, inputs_of, outputs, planted, plugin, pod_site
from harness.tenants import sdk_warnings
from harness.waiting import eventually

pytestmark = sdk_warnings
TOOLS = ("sh", "cp", "sleep", "touch", "cat")


@pytest.fixture(scope="module")
def site(box: Box, cluster: Cluster) -> Iterator[PodSite]:
    with pod_site(box, cluster) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A daemon's, with an image for its processes."""
    install_tools(tmp_path / "daemon" / "images", TOOLS)
    return tmp_path / "daemon"


def serve(site: PodSite, home: Path):
    return site.serve(home, CONTAINER_ENV="process", KUBECONFIG="", JOB_NAMESPACE="", PFMOC_PUBLISH_DEADLINE_S=60)


def job(jid: str, script: str) -> dict[str, object]:
    return {**plugin(jid, script), "image": "localhost/test/tools:1", "memory_limit": 200}


async def submitted(api: Api, jid: str, script: str) -> None:
    """Copy, and start the plugin."""
    (await api.post("copyjobs/", {"jid": jid, **inputs_of(jid)})).expect(201)
    assert (await ended(api, "copy", jid))["status"] == "finishedSuccessfully"
    (await api.post("pluginjobs/", job(jid, script))).expect(201)


async def deleted(api: Api, jid: str) -> None:
    (await api.post("deletejobs/", {"jid": jid})).expect(201)
    assert (await ended(api, "delete", jid))["status"] == "finishedSuccessfully"


async def nothing_left(store, home: Path) -> None:
    assert not list((home / "storeBase").glob("key-*"))
    assert [entry async for page in store.pages("key-") for entry in page] == []


async def test_from_input_to_nothing_left(site, home):
    async with site.store() as store, serve(site, home) as served, client(served.url) as api:
        info = (await api.get("pluginjobs/")).expect(200).json()
        assert (info["storage_env"], info["requires_copy_job"], info["container_env"]) == ("swift", True, "process")
        for jid, end in (("good", 0), ("bad", 3)):
            await planted(store, jid, TREE)
            await submitted(api, jid, f"{ONCE}; exit {end}")
            status = "finishedWithError" if end else "finishedSuccessfully"
            assert (await ended(api, "plugin", jid))["status"] == status
            left = await outputs(store, jid)
            assert {name: left[name] for name in TREE} == TREE, "outputs of a failed plugin are published too"
            assert len(left) == len(TREE) + 1
        output = inputs_of("good")["output_dir"]
        (await api.post("uploadjobs/", {"jid": "good", "job_output_path": output})).expect(201)
        assert (await ended(api, "upload", "good"))["status"] == "finishedSuccessfully"
        listing = (await api.get(f"pluginjobs/good/file/?job_output_path={output}")).json()
        assert set(listing["rel_file_paths"]) > set(TREE)
        zipped = await api.get("pluginjobs/good/file/")
        assert (zipped.status, zipped.body[:2]) == (200, b"PK")
        for jid in ("good", "bad"):
            await deleted(api, jid)
        await nothing_left(store, home)


async def test_a_cancelled_job_publishes_nothing(site, home):
    async with site.store() as store, serve(site, home) as served, client(served.url) as api:
        await planted(store, "cut", TREE)
        await submitted(api, "cut", f"{ONCE}; sleep 1000")

        async def running() -> bool:
            return bool(list((home / "storeBase/key-cut/outgoing").glob("run-*")))

        await eventually(running, deadline_s=PATIENCE_S)
        await deleted(api, "cut")
        assert (await ended(api, "plugin", "cut"))["status"] == "finishedWithError"
        assert await outputs(store, "cut") == {}
        await nothing_left(store, home)


async def test_an_input_that_swift_does_not_give_is_no_job(site, home):
    async with site.store() as store, serve(site, home) as served, client(served.url) as api:
        await planted(store, "gone", {"lies.chrislink": b"home/nowhere"})
        (await api.post("copyjobs/", {"jid": "gone", **inputs_of("gone")})).expect(201)
        copy = await ended(api, "copy", "gone")
        assert copy["status"] == "finishedWithError"
        assert "lies.chrislink" in copy["message"]
        assert (await api.post("pluginjobs/", job("gone", ONCE))).status == 409
        await nothing_left(store, home)


async def test_a_daemon_that_is_killed_while_it_publishes_goes_on(site, home):
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(site.store())
        served = await stack.enter_async_context(serve(site, home))
        api = await stack.enter_async_context(client(served.url))
        await planted(store, "killed", TREE)
        # Looked for before: it takes longer than the plugin.
        process = site.box.living("swift-proxy")
        await submitted(api, "killed", f"sleep 3; {ONCE}")
        with site.box.frozen("swift-proxy", process):
            # It has run, and nothing of it can be published.
            await eventually(lambda: list((home / "storeBase/key-killed/outgoing").glob("run-*")), deadline_s=PATIENCE_S)
            assert (await api.get("pluginjobs/killed/")).json()["compute"]["status"] == "started"
            await served.stop(signal.SIGKILL)
        served = await stack.enter_async_context(serve(site, home))
        api = await stack.enter_async_context(client(served.url))
        assert (await ended(api, "plugin", "killed"))["status"] == "finishedSuccessfully"
        left = await outputs(store, "killed")
        assert {name: left[name] for name in TREE} == TREE
        assert len([name for name in left if name.startswith("run-")]) == 1
        await deleted(api, "killed")
        await nothing_left(store, home)


async def test_a_job_can_be_cancelled_while_it_publishes(site, home):
    async with site.store() as store, serve(site, home) as served, client(served.url) as api:
        await planted(store, "late", TREE)
        process = site.box.living("swift-proxy")
        await submitted(api, "late", f"sleep 3; {ONCE}")
        with site.box.frozen("swift-proxy", process):
            await eventually(lambda: list((home / "storeBase/key-late/outgoing").glob("run-*")), deadline_s=PATIENCE_S)
            await eventually(lambda: list((home / "state/runs").glob("*/ended.json")), what="the plugin's end")
            # Nobody tells that it begins to publish; it does so at once.
            await asyncio.sleep(1)
            asked = asyncio.create_task(api.post("deletejobs/", {"jid": "late"}))
            # With Swift back before the daemon has heard, it would be published.
            await asyncio.wait([asked], timeout=10)
        (await asked).expect(201)
        assert (await ended(api, "delete", "late"))["status"] == "finishedSuccessfully"
        assert (await ended(api, "plugin", "late"))["status"] == "finishedWithError"
        await nothing_left(store, home)
