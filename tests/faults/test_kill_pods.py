"""faults.md row 1 with pods: SIGKILL of the daemon between any two steps, before an API server and a Swift that are fakes.

What a real cluster makes of it is for ``tests/box`` to say.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from harness.fake_site import JOBS, SECRETS, FakeSite, at_work, copied, fake_site, is_now, submitted
from harness.http import Api, client
from harness.waiting import eventually

KILLPOINTS = Path(__file__).with_name("killpoints.py")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeSite]:
    async with fake_site(tmp_path) as site:
        yield site


async def died_at(site: FakeSite, point: str, requests: Callable[[Api], Awaitable[object]]) -> None:
    """Run a daemon that dies at a point, make the requests that lead there, and see it dead."""
    async with site.launch(KILLPOINTS, point, "serve") as served:
        listening = await eventually(lambda: served.event("listening"), deadline_s=60)
        async with client(listening["url"]) as api:
            with suppress(aiohttp.ClientError):
                await requests(api)
            assert await asyncio.wait_for(served.process.wait(), 20) == -signal.SIGKILL


def made(site: FakeSite, path: str) -> list[str]:
    """Uids of all that was ever made there."""
    return sorted({thing["metadata"]["uid"] for _, where, _, thing in site.server.history if where == path})


async def test_a_copy_that_was_promised_is_made(site):
    async def requests(api: Api) -> None:
        await copied(api)

    await died_at(site, "pods.staged", requests)
    async with site.serve() as served, client(served.url) as api:
        await eventually(lambda: is_now(api, "copyjobs/j/", "finishedSuccessfully"), what="the copy")


@pytest.mark.parametrize("point", ["pods.starting", "pods.started", "answered"])
async def test_a_job_is_undone_or_adopted_and_never_doubled(site, point):
    async def requests(api: Api) -> None:
        await at_work(api, site)

    await died_at(site, point, requests)
    async with site.serve() as served, client(served.url) as api:
        (await submitted(api)).expect(201)
        assert (len(site.server.things[JOBS]), len(site.server.things[SECRETS])) == (1, 1)
        assert len(made(site, JOBS)) == 1
        site.begin()
        site.finish()
        await eventually(lambda: is_now(api, "pluginjobs/j/", "finishedSuccessfully"), what="the end")


async def test_an_end_is_told_once_and_as_it_was(site):
    async def requests(api: Api) -> None:
        await at_work(api, site)
        site.finish()
        while True:  # until the daemon, and this connection with it, is gone
            await api.get("pluginjobs/j/")

    await died_at(site, "pods.ended", requests)
    async with site.serve() as served, client(served.url) as api:
        await eventually(lambda: is_now(api, "pluginjobs/j/", "finishedSuccessfully"), what="the end")
        (await submitted(api)).expect(201)
        assert len(made(site, JOBS)) == 1


@pytest.mark.parametrize("point", ["pods.withdrawn", "pods.deleted"])
@pytest.mark.parametrize("how", ["delete job", "removal"])
async def test_a_cancel_that_was_cut_off_can_be_made_again_and_leaves_nothing(site, point, how):
    async def cancel(api: Api) -> None:
        if how == "delete job":
            await api.post("deletejobs/", {"jid": "j"})
        else:
            await api.delete("pluginjobs/j/")
            await api.post("deletejobs/", {"jid": "j"})

    async def requests(api: Api) -> None:
        await at_work(api, site)
        playing = asyncio.create_task(obedient(site))
        try:
            await cancel(api)
            await eventually(lambda: is_now(api, "deletejobs/j/", "finishedSuccessfully"), what="the deletion")
        finally:
            playing.cancel()

    await died_at(site, point, requests)
    playing = asyncio.create_task(obedient(site))
    async with site.serve() as served, client(served.url) as api:
        await cancel(api)
        await eventually(lambda: is_now(api, "deletejobs/j/", "finishedSuccessfully"), what="the deletion")
        for kind in ("copy", "plugin", "upload", "delete"):
            (await api.delete(f"{kind}jobs/j/")).expect(204)
        assert site.left() == set()
        assert [name for name in site.swift.objects if name.startswith("key-")] == []
        assert site.swift.objects["home/bob/in/a"] == b"1"
    playing.cancel()


async def obedient(site: FakeSite) -> None:
    """Play the garbage collector: pods and Secrets go with their Job."""
    while True:
        if not site.server.things.get(JOBS):
            site.server.things.get(SECRETS, {}).clear()
        await asyncio.sleep(0.05)
