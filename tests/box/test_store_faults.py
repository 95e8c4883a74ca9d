"""Swift's proxy is killed under a job's pull and publish: the mover waits for it, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from aiohttp import web
from harness.box import Box
from harness.pods import Pod
from harness.stores import content_of, fill, identity_of, swift_storage
from harness.tenants import Tenant, administrator, sdk_warnings, tenant
from harness.waiting import until

from pfmoc.storage.base import Inputs
from pfmoc.storage.object_storage import Tuning

pytestmark = sdk_warnings
BACK_S = 180
TREE = {f"{number:02}": os.urandom(100_000) for number in range(12)}
INPUTS = Inputs(jid="killed", input_dirs=["home/u/in"], output_dir="home/u/out")


@pytest.fixture(scope="module")
def alice(box: Box) -> Iterator[Tenant]:
    with administrator(box) as admin, tenant(box, admin, "b-killed") as made:
        made.swift.put_container("data")
        yield made


async def test_a_proxy_that_is_killed_midway_costs_time_and_nothing_else(box, alice, proxy, tmp_path):
    tuning = Tuning(connections=2, patience_s=BACK_S, publish_s=BACK_S)

    def kill_after(method: str, path: str) -> None:
        pid = int(box.status()["swift-proxy"]["pid"])
        asked: list[str] = []

        def watch(request: web.BaseRequest) -> None:
            if request.method == method and path in request.path:
                asked.append(request.path)
                if len(asked) == len(TREE) // 2:
                    os.kill(pid, signal.SIGKILL)

        proxy.watch = watch

    def healthy() -> bool:
        return bool(box.status()["swift-proxy"]["health"] == "healthy")

    async with swift_storage(identity_of(box, alice, proxy.url), "data", tuning=tuning) as storage:
        await fill(storage.store, {f"home/u/in/{name}": content for name, content in TREE.items()})
        await storage.stage(INPUTS)
        pod = Pod(tmp_path, await storage.data(INPUTS, lifetime_s=3600))
        kill_after("GET", "/in/")
        pulled = await pod.pull()
        assert (pulled.status, pod.pulled()) == (0, TREE), pulled
        assert "trying again" in pulled.log
        await asyncio.to_thread(until, healthy, what="Swift to be back", deadline_s=BACK_S)
        pod.outgoing.rmdir()
        pod.incoming.rename(pod.outgoing)
        kill_after("PUT", "/out/")
        process = await pod.publisher()
        published = await pod.end(process)
        assert (published.status, published.message["files"]) == (0, len(TREE)), published
        assert "trying again" in published.log
        await asyncio.to_thread(until, healthy, what="Swift to be back", deadline_s=BACK_S)
        assert await content_of(storage.store, "home/u/out/") == TREE
        assert await storage.listing(INPUTS, "any") == sorted(TREE)
        await storage.discard(INPUTS.jid)
        assert not await storage.holds(INPUTS.jid)
