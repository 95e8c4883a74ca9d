"""Logs of pods whose nodes misbehave, while the API server itself is well; and what many logs cost."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from fakes.api_server import ApiServer
from harness.kube_lab import settings_for
from harness.kube_objects import COMPLETE, ended, job, pod, running

from pfmoc.compute import kubernetes_logs
from pfmoc.compute.kubernetes import KubernetesCompute
from pfmoc.compute.text import LOG_BYTES
from pfmoc.errors import ComputeUnavailable

JOBS = "/apis/batch/v1/namespaces/x/jobs"
PODS = "/api/v1/namespaces/x/pods"
DEADLINE_S = 5
MIB = 1 << 20

Log = Callable[[web.StreamResponse], Awaitable[None]]


class ApiServerWithNodes(ApiServer):
    """An API server that passes on what nodes have of their pods' logs: for each pod, what writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Log] = {}
        self.reading = self.most = 0
        """Logs being read now, and at the same time at most."""
        self.busy = False
        """True: it has no time for logs."""

    async def _plain(self, request: web.Request) -> web.Response:
        pod, _, what = request.path.removeprefix(f"{PODS}/").partition("/")
        if what != "log":
            return await super()._plain(request)
        if self.busy:
            return web.json_response({"kind": "Status", "message": "too many requests"}, status=429)
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            await self.logs[pod](response)
            await response.write_eof()
        finally:
            self.reading -= 1
        return response  # type: ignore[return-value]  # it has been sent


def says(*pieces: bytes) -> Log:
    async def log(response: web.StreamResponse) -> None:
        for piece in pieces:
            await response.write(piece)

    return log


async def never(_response: web.StreamResponse) -> None:
    """What a node that lets packets vanish has to say."""
    await asyncio.sleep(60)


@pytest.fixture
async def server():
    async with ApiServerWithNodes() as server:
        server.create("/api/v1/namespaces", {"metadata": {"name": "x"}})
        yield server


@asynccontextmanager
async def opened(server: ApiServer, *, deadline_s: int = DEADLINE_S):
    chosen = settings_for(Path("/nowhere"), "x", PFMOC_ENGINE_DEADLINE_S=str(deadline_s))
    async with KubernetesCompute(chosen, reached=server.access) as compute:
        await compute.probe()
        yield compute


def workers(server: ApiServerWithNodes, *logs: Log, over: bool, nodes: int = 100) -> None:
    """A run of so many workers, each on a node of its own as far as there are nodes."""
    server.create(JOBS, job(*([COMPLETE] if over else []), workers=len(logs)))
    for index, log in enumerate(logs):
        name, state = f"job-{index}", ended() if over else running()
        phase = "Succeeded" if over else "Running"
        server.create(PODS, pod(name, phase=phase, index=index, plugin=state, node=f"node-{index % nodes}"))
        server.logs[name] = log


async def test_a_silent_node_costs_a_run_that_has_ended_its_log_and_no_more(server):
    workers(server, never, says(b"two\n"), over=True)
    async with opened(server) as compute:
        log = await compute.logs("job", tail=5)
    lost = "pfmoc: the log cannot be had from its node: node-0 did not give all of it in time\n"
    assert log == f"==> worker 0 <==\n{lost}==> worker 1 <==\ntwo\n"


async def test_what_a_node_gave_before_it_fell_silent_is_told(server):
    async def half(response: web.StreamResponse) -> None:
        await response.write(b"one\ntw")
        await asyncio.sleep(60)

    workers(server, half, over=True)
    async with opened(server) as compute:
        assert (await compute.logs("job", tail=5)).splitlines()[:2] == ["one", "tw"]


async def test_one_silent_node_is_waited_for_once_however_many_workers_it_has(server):
    # Every second worker of forty is on it: by turns of eight, five times the patience that there is.
    logs = [never if index % 2 else says(b"here\n") for index in range(40)]
    workers(server, *logs, over=True, nodes=2)
    async with opened(server) as compute:
        log = await compute.logs("job", tail=5)
    assert (log.count("here\n"), log.count("node-1 did not give")) == (20, 20)


async def test_the_log_of_a_run_that_goes_on_is_asked_for_again_later(server):
    workers(server, never, over=False)
    async with opened(server) as compute:
        with pytest.raises(ComputeUnavailable, match="node-0 did not give all of it in time"):
            await compute.logs("job", tail=5)


async def test_an_api_server_that_falls_silent_is_not_taken_for_a_node(server):
    async def freezes(_response: web.StreamResponse) -> None:
        server.frozen = True
        await server._thawed.wait()

    workers(server, freezes, over=True)
    async with opened(server) as compute:
        with pytest.raises(ComputeUnavailable, match="API server did not answer"):
            await compute.logs("job", tail=5)


async def test_an_api_server_with_too_much_to_do_is_asked_again_later(server):
    workers(server, says(b"one\n"), over=True)
    async with opened(server) as compute:
        server.busy = True
        with pytest.raises(ComputeUnavailable, match="429"):
            await compute.logs("job", tail=5)
        server.busy = False
        assert await compute.logs("job", tail=5) == "one\n"


async def test_the_logs_of_many_workers_share_what_one_may_have(server):
    many = 200

    async def long(response: web.StreamResponse) -> None:
        await asyncio.sleep(0.005)
        await response.write(b"x" * MIB)

    workers(server, *[long] * many, over=True)
    async with opened(server, deadline_s=90) as compute:
        tracemalloc.start()
        log = await compute.logs("job", tail=5)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert log.count("==> worker ") == many
    assert 0.9 * LOG_BYTES < len(log) < 1.1 * LOG_BYTES
    assert 1 < server.most <= kubernetes_logs.AT_ONCE
    assert peak < 40 * MIB  # it was 400; what the server here buffers counts too


async def test_a_job_whose_end_is_known_before_its_pod_is_followed_all_the_same(server):
    server.create(JOBS, job())
    server.logs["job-0"] = says(b"one\n")
    async with opened(server) as compute:
        server.mute_watches = True  # nothing more is heard, but what is asked for
        server.create(PODS, pod("job-0", phase="Succeeded", index=0, plugin=ended()))
        compute._jobs.put(server.create(JOBS, job(COMPLETE)))
        async with asyncio.timeout(10):
            assert b"".join([chunk async for chunk in compute.follow("job")]) == b"one\n"
        server.mute_watches = False


async def test_a_followed_log_that_ends_before_its_plugin_goes_on_where_it_was(server):
    opens: list[int] = []

    async def log(response: web.StreamResponse) -> None:
        opens.append(len(opens))
        # The kubelet starts anew: its end of the line is gone, and the API server's answer ends as if all had been said.
        await response.write((b"one\n", b"one\ntwo\n", b"one\ntwo\nthree\n")[min(len(opens), 3) - 1])
        if len(opens) == 3:
            server.create(PODS, pod("job-0", phase="Succeeded", index=0, plugin=ended()))
            server.create(JOBS, job(COMPLETE))

    workers(server, log, over=False)
    async with opened(server) as compute, asyncio.timeout(10):
        assert b"".join([chunk async for chunk in compute.follow("job")]) == b"one\ntwo\nthree\n"
    assert len(opens) in (3, 4)
