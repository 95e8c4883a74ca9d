"""What the API server's answers become."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.api_server import ApiServer
from harness.waiting import eventually

from pfmoc.cluster.access import access
from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import (
    Absent,
    AlreadyThere,
    ClusterUnavailable,
    Forbidden,
    Gone,
    Outdated,
    ServerError,
    TooBusy,
    Unfit,
    of_answer,
)
from pfmoc.errors import ComputeRefused, ComputeUnavailable
from pfmoc.settings import SettingsError

THINGS = "/api/v1/namespaces/x/configmaps"


def status(code: int, reason: str = "", **more: object) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "reason": reason, "message": "why", **more}).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", Unfit),
        (401, "Unauthorized", ClusterUnavailable),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", Absent),
        (409, "AlreadyExists", AlreadyThere),
        (409, "Conflict", Outdated),
        (410, "Expired", Gone),
        (413, "RequestEntityTooLarge", ComputeRefused),
        (422, "Invalid", Unfit),
        (429, "TooManyRequests", TooBusy),
        (500, "InternalError", ServerError),
        (503, "ServiceUnavailable", ServerError),
        (504, "Timeout", ServerError),
    ],
)
def test_each_answer_is_an_error_of_its_own(code, reason, kind):
    error = of_answer(code, status(code, reason))
    assert isinstance(error, kind)
    assert "why" in error.message
    if isinstance(error, ComputeRefused):
        assert error.engine_status == code


@pytest.mark.parametrize("code", [401, 403, 404, 409, 410, 422, 500, 503])
@pytest.mark.parametrize("body", [b"", b"404 page not found", b"<html>", b"[]", b'{"kind": "Pod"}'])
def test_what_a_proxy_says_is_no_news_of_the_cluster(code, body):
    error = of_answer(code, body)
    assert isinstance(error, ComputeUnavailable)
    assert not isinstance(error, ServerError)


def test_how_long_to_wait_is_taken_from_header_or_object():
    assert of_answer(429, status(429), retry_after="7").retry_after == 7  # type: ignore[union-attr]
    assert of_answer(429, status(429, details={"retryAfterSeconds": 9})).retry_after == 9  # type: ignore[union-attr]
    assert of_answer(429, status(429), retry_after="soon").retry_after == 5  # type: ignore[union-attr]


async def test_a_busy_server_is_asked_again_within_the_deadline():
    async with ApiServer() as server, Cluster(server.access) as cluster:
        server.answers = [(429, "0"), (429, "0")]
        made = await cluster.request("POST", THINGS, body={"metadata": {"name": "a"}})
        assert made["metadata"]["name"] == "a"
        server.answers = [(429, "60")]
        with pytest.raises(TooBusy):
            await cluster.request("GET", f"{THINGS}/a", deadline_s=5)


async def test_no_answer_is_never_a_no():
    async with ApiServer() as server, Cluster(server.access) as cluster:
        server.frozen = True
        with pytest.raises(ClusterUnavailable, match=r"did not answer within 0\.1 s"):
            await cluster.request("GET", f"{THINGS}/a", deadline_s=0.1)
        server.frozen = False
        server.proxy_says = 404
        with pytest.raises(ClusterUnavailable, match="not the cluster's API server answered 404"):
            await cluster.request("GET", f"{THINGS}/a")
        server.proxy_says = None
        with pytest.raises(Absent):
            await cluster.request("GET", f"{THINGS}/a")
    async with Cluster(server.access) as cluster:
        with pytest.raises(ClusterUnavailable, match="cannot be reached"):
            await cluster.request("GET", f"{THINGS}/a")


async def test_silence_is_noticed_and_so_is_its_end():
    async with ApiServer() as server, Cluster(server.access, pulse_s=0.02) as cluster:
        await cluster.request("GET", "/version")
        assert cluster.silent_s is None
        server.proxy_says = 503
        assert await eventually(lambda: cluster.silent_s) > 0
        server.proxy_says = None
        await eventually(lambda: cluster.silent_s is None)


async def test_a_token_that_was_renewed_is_read_anew(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("old\n")
    async with ApiServer() as server, Cluster(replace(server.access, token_file=token)) as cluster:
        server.token = "old"
        await cluster.request("GET", THINGS)
        server.token = "new"
        with pytest.raises(ClusterUnavailable, match="credentials"):
            await cluster.request("GET", THINGS)
        token.write_text("new\n")
        await cluster.request("GET", THINGS)


async def test_the_cluster_tells_the_time():
    async with ApiServer() as server, Cluster(server.access) as cluster:
        cluster._clock = (0.0, 0.0)  # ours is wrong
        await cluster.request("GET", "/version")
        assert abs(cluster.now - asyncio.get_running_loop().time()) > 1_000_000


def kubeconfig(**cluster: str) -> str:
    return json.dumps(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "a", "user": "u", "namespace": "jobs"}}],
            "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:8001/", **cluster}}],
            "users": [{"name": "u", "user": {"token": "secret-token"}}],
        }
    )


def test_a_kubeconfig_is_read(tmp_path: Path):
    path = tmp_path / "config"
    path.write_text(kubeconfig())
    found = access(path)
    assert (found.server, found.namespace, found.tls) == ("http://127.0.0.1:8001", "jobs", None)
    assert "secret-token" not in repr(found)


@pytest.mark.parametrize("text", ["", "{}", "a: [", kubeconfig().replace('"c", "context"', '"d", "context"'), "\x00"])
def test_a_kubeconfig_that_is_none_says_so(tmp_path: Path, text: str):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(SettingsError, match="KUBECONFIG"):
        access(path)


def test_outside_of_a_pod_a_kubeconfig_is_needed():
    with pytest.raises(SettingsError, match="KUBECONFIG: is required"):
        access(None, environ={})
