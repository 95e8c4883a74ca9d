"""Many Jobs at once: make them, wait until all have ended, tell where their pods ran and how long it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness.cluster import Cluster

# More at once than this the API server of a two-core machine only queues.
WRITERS = 8


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a wave of Jobs.

    :param complete: names of the Jobs that succeeded
    :param failed: names of the Jobs that failed
    :param nodes: where its last pod ran, by the name of the Job
    :param created_s: seconds until all were made
    :param ended_s: seconds until the last had ended, from the first one's making
    """

    complete: frozenset[str]
    failed: frozenset[str]
    nodes: Mapping[str, str]
    created_s: float
    ended_s: float


def job(
    name: str,
    *,
    selector: Mapping[str, str],
    tolerations: Sequence[Mapping[str, str]] = (),
    resources: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A Job of one pod for simulated nodes: its image does not exist.

    :param resources: what it wants, as requests and limits
    :param annotations: of the pod; KWOK is told by them how long it runs and how it ends
    """
    wanted = dict(resources or {"cpu": "1", "memory": "1Gi"})
    container = {
        "name": "main",
        "image": "localhost/nothing:1",
        "resources": {"requests": wanted, "limits": wanted},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"annotations": dict(annotations or {})},
                "spec": {
                    "restartPolicy": "Never",
                    "nodeSelector": dict(selector),
                    "tolerations": list(tolerations),
                    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [container],
                },
            },
        },
    }


def run(cluster: Cluster, namespace: str, jobs: Sequence[Mapping[str, Any]], *, deadline_s: float = 300) -> Outcome:
    """Make the Jobs in an empty namespace, and wait until each has completed or failed."""
    began = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda body: cluster.batch.create_namespaced_job(namespace, body), jobs))
    created = time.monotonic()
    ends: dict[str, str] = {}
    events = cluster.events(cluster.batch.list_namespaced_job, namespace, deadline_s=deadline_s, deserialize=False)
    while len(ends) < len(jobs) and (event := next(events, None)):
        for condition in event["object"].get("status", {}).get("conditions", ()):
            if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
                ends[event["object"]["metadata"]["name"]] = condition["type"]
    events.close()
    ended = time.monotonic()
    assert len(ends) == len(jobs), f"of {len(jobs)} Jobs only {len(ends)} had ended after {deadline_s} s"
    pods = cluster.core.list_namespaced_pod(namespace).items
    return Outcome(
        complete=frozenset(name for name, end in ends.items() if end == "Complete"),
        failed=frozenset(name for name, end in ends.items() if end == "Failed"),
        nodes={pod.metadata.labels["job-name"]: pod.spec.node_name for pod in pods},
        created_s=created - began,
        ended_s=ended - began,
    )
