"""What the daemon asks of its cluster is what its Role grants, no less and no more."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fakes.api_server import ApiServer
from harness.kube_lab import run, settings_for
from harness.kube_objects import LABELS, at, job, pod, running
from harness.waiting import eventually

from pfmoc.compute import kubernetes_chores as chores_module
from pfmoc.compute.kubernetes import KubernetesCompute
from pfmoc.jobs.cluster_board import ClusterBoard
from pfmoc.jobs.model import Job, Kind, Phase

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "roles" / "pfmoc" / "files"))

from pfmoc_cluster.template import RULES  # noqa: E402 - where it lies is said above

CORE = "/api/v1/namespaces/x"
JOBS = "/apis/batch/v1/namespaces/x/jobs"
RUN = "pfmoc.chrisproject.org/run"

GRANTED = {
    (group, resource, verb)
    for rule in RULES
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
}
PATH = re.compile(r"/apis?(?:/(\w+))?/v1(?:/namespaces/x(?=/))?/(\w+)(?:/([^/]+)(?:/(\w+))?)?")
"""Group, resource, name, and what is below the object."""
VERBS = {"DELETE": "delete", "PATCH": "patch", "POST": "create", "PUT": "update"}


def right(method: str, path: str, query: Mapping[str, str]) -> tuple[str, str, str]:
    """What RBAC asks for: group, resource, verb."""
    found = PATH.fullmatch(path)
    assert found, path
    group, resource, name, sub = found.groups(default="")
    reads = "watch" if query.get("watch") == "true" else "get" if name else "list"
    return group, f"{resource}/{sub}" if sub else resource, VERBS.get(method, reads)


def asked(server: ApiServer) -> set[tuple[str, str, str]]:
    return {right(*request) for request in server.requests if request[1] != "/version"}


async def run_jobs(server: ApiServer) -> None:
    """All that can become of a run: made, followed, read, ended at its deadline, its Secret found without an owner, removed."""
    settings = settings_for(Path("/nowhere"), "x", PFMOC_ENGINE_DEADLINE_S="10", PFMOC_JOB_DEADLINE_S="60")
    async with KubernetesCompute(settings, reached=server.access, patience_s=1) as compute:
        await compute.probe()
        await compute.start(run("new"))
        assert await compute.inspect("nothing") is None
        server.create(f"{CORE}/pods", pod(plugin=running()))
        late = server.create(JOBS, job())
        await eventually(lambda: compute._pods.get("job-a"))
        assert await compute.logs("job", tail=9) == ""
        server.create(JOBS, late | {"status": {"startTime": at(0)}})
        await eventually(lambda: "job-a" not in server.things[f"{CORE}/pods"])
        for secret in server.things[f"{CORE}/secrets"].values():
            secret["metadata"].pop("ownerReferences", None)
        orphan = {"name": "other-1", "labels": LABELS, "annotations": {RUN: "other"}}
        server.create(f"{CORE}/secrets", {"metadata": orphan})
        chores = chores_module.Chores(
            compute.cluster, "x", jobs=compute._jobs, pods=compute._pods, patience_s=1, deadline_s=1000, grace_s=1
        )
        await chores.sweep()
        await compute.remove("new")


async def keep_records(server: ApiServer, state: Path) -> None:
    """A record's life, with a log that is an object of its own."""
    async with ClusterBoard(server.access, namespace="x", state_dir=state, deadline_s=2) as board:
        record = await board.claim(Job(jid="j", kind=Kind.COPY, spec=None, phase=Phase.PENDING))
        assert await board.find("j", Kind.COPY, fresh=True) == record
        for _ in range(2):
            await board.save(replace(record, phase=Phase.SUCCEEDED), log="a line\n" * 999)
        assert await board.log(record)
        await board.forget(record)


async def test_the_daemon_may_do_what_it_does_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setattr(chores_module, "EVERY_S", 0.01)
    async with ApiServer() as server:
        server.create("/api/v1/namespaces", {"metadata": {"name": "x"}})
        await run_jobs(server)
        await keep_records(server, tmp_path)
        assert asked(server) == GRANTED
