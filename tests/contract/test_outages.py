"""The whole daemon between an API server and a Swift that fail: what its clients see meanwhile (faults 5, 7, 8, 21)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes.api_server import ApiServer
from fakes.swift import Swift
from harness.daemon import PASSWORD, Served
from harness.fake_site import (
    DEADLINE_S,
    DIRS,
    HIDDEN,
    JOBS,
    SECRETS,
    TOKEN,
    FakeSite,
    at_work,
    copied,
    fake_site,
    is_now,
    submitted,
)
from harness.http import Api, Reply, client
from harness.waiting import eventually

SLACK_S = 10.0
"""Of a busy machine."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeSite]:
    async with fake_site(tmp_path) as site:
        yield site


@pytest.fixture
def server(site: FakeSite) -> ApiServer:
    return site.server


@pytest.fixture
def swift(site: FakeSite) -> Swift:
    return site.swift


@pytest.fixture
async def served(site: FakeSite) -> AsyncIterator[Served]:
    async with site.serve() as served:
        yield served


@pytest.fixture
async def api(served: Served) -> AsyncIterator[Api]:
    async with client(served.url) as api:
        yield api


@asynccontextmanager
async def away(server: ApiServer, how: str) -> AsyncIterator[None]:
    if how == "down":
        await server.stop()
        yield
        await server.start()
    elif how == "frozen":
        server.frozen = True
        yield
        server.frozen = False
    else:
        server.proxy_says = 502
        server.cut_watches()
        yield
        server.proxy_says = None


@pytest.mark.parametrize("how", ["down", "frozen", "a proxy answers"])
async def test_while_the_api_server_is_away_reads_are_old_and_writes_are_refused_in_time(api, site, server, how):
    await at_work(api, site)
    await copied(api, "new")
    async with away(server, how):
        began = time.monotonic()
        refused = [await submitted(api, "new"), await api.post("copyjobs/", {"jid": "newer", **DIRS})]
        refused += [await api.get("pluginjobs/unknown/"), await api.delete("pluginjobs/j/")]
        assert time.monotonic() - began < len(refused) * (DEADLINE_S + SLACK_S)
        for reply in refused:
            assert (reply.status, int(reply.headers["Retry-After"]) > 0) == (503, True), reply

        async def old() -> Reply | None:
            reply = await api.get("pluginjobs/j/")
            return reply if "Age" in reply.headers else None

        reply = await eventually(old, what="answers to say their age", deadline_s=30)
        assert (reply.status, reply.json()["compute"]["status"]) == (200, "started")
        ready = await api.get("/readyz")
        assert (ready.status, (await api.get("/livez")).status) == (503, 200)
        site.finish()
    await eventually(lambda: is_now(api, "pluginjobs/j/", "finishedSuccessfully"), what="the end to be heard of", deadline_s=60)
    (await submitted(api, "new")).expect(201)
    assert len(server.things[JOBS]) == 2

    async def fresh() -> bool:
        return "Age" not in (await api.get("pluginjobs/j/")).headers and (await api.get("/readyz")).status == 200

    await eventually(fresh, what="answers to be fresh again", deadline_s=60)


async def test_a_busy_api_server_is_waited_for_as_long_as_the_request_may_take(api, server):
    await copied(api, "j")
    server.answers = [(429, "1")]
    (await submitted(api, "j")).expect(201)
    assert not server.answers
    await copied(api, "k")
    server.refuses = {("POST", "/secrets"): (429, "TooManyRequests")}
    began = time.monotonic()
    reply = (await submitted(api, "k")).expect(503)
    assert time.monotonic() - began < DEADLINE_S + SLACK_S
    assert int(reply.headers["Retry-After"]) > 0
    server.refuses = {}
    (await submitted(api, "k")).expect(201)


@pytest.mark.parametrize(
    ("said", "reason", "status"),
    [(403, "Forbidden", 403), (404, "NotFound", 404), (409, "Conflict", 409), (422, "Invalid", 422), (500, "InternalError", 503)],
)
@pytest.mark.parametrize("what", ["/jobs", "/secrets"])
async def test_each_refusal_has_its_status_and_leaves_nothing(api, site, server, said, reason, status, what):
    await copied(api, "j")
    server.refuses = {("POST", what): (said, reason)}
    reply = (await submitted(api, "j")).expect(status)
    assert f"the fake says {reason}" in reply.message
    server.refuses = {}
    await eventually(lambda: not site.left(), what="nothing to be left")
    (await api.get("pluginjobs/j/")).expect(404)
    (await submitted(api, "j")).expect(201)


async def test_no_outage_is_read_as_no_such_job(api, server):
    (await api.get("pluginjobs/j/")).expect(404)
    for said, reason, status in ((403, "Forbidden", 403), (422, "Invalid", 422), (500, "InternalError", 503)):
        server.refuses = {("GET", "/pfmoc.plugin.j"): (said, reason)}
        (await api.get("pluginjobs/j/")).expect(status)
        assert (await api.delete("pluginjobs/j/")).status == status
    server.refuses = {}
    for said in (404, 403, 502):
        server.proxy_says = said
        (await api.get("pluginjobs/j/")).expect(503)
    server.proxy_says = None
    (await api.get("pluginjobs/j/")).expect(404)


async def test_nothing_secret_gets_out_whatever_fails(api, served, site, server, swift):
    told = [(await api.get(path)).body for path in ("pluginjobs/", "jobs/")]
    await at_work(api, site)
    signatures = [each["query"] for each in json.loads(swift.objects["key-j/ticket.json"])["parts"]]
    assert all("temp_url_sig=" in query for query in signatures)
    site.finish()
    await eventually(lambda: is_now(api, "pluginjobs/j/", "finishedSuccessfully"), what="the end")
    swift.deaf = True
    swift.revoke()
    told += [(await api.post("copyjobs/", {"jid": "k", **DIRS})).body]
    await eventually(lambda: is_now(api, "copyjobs/k/", "finishedWithError"), what="the copy to fail")
    told += [(await api.get(path)).body for path in ("copyjobs/k/", "pluginjobs/j/", "pluginjobs/j/file/", "/readyz", "/metrics")]
    swift.deaf = False
    server.refuses = {("POST", "/secrets"): (422, "Invalid")}
    await copied(api, "l")
    told += [(await submitted(api, "l")).body]
    assert await served.stop() == 0
    secrets = {name: kept for name, kept in server.things.items() if name != SECRETS}
    seen = [served.log.read_text(), json.dumps(secrets), *(body.decode() for body in told)]
    assert "simpledsapp" in seen[1]
    assert "credentials" in "".join(seen)
    hidden = [*HIDDEN.values(), PASSWORD, TOKEN, "token-of-swift", "tell-nobody", "temp_url_sig", api.token]
    assert [secret for secret in hidden for text in seen if secret in text] == []
    packed = [value for secret in server.things[SECRETS].values() for value in secret["data"].values()]
    kept = "".join(base64.b64decode(value).decode() for value in packed)
    assert "temp_url_sig" in kept
    assert [secret for secret in (*HIDDEN.values(), PASSWORD, TOKEN, "token-of-swift") if secret in kept] == []
