"""The Secret of a run: its tickets, and the values of its environment. Nothing of it is in the Job, the pod or a log.

Each attempt to start a run makes a Secret of its own name, so that two replicas that start the same run at once cannot change
each other's. The Job owns it; one whose Job was never made is removed later.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pfmoc.cluster.client import Cluster
from pfmoc.compute.base import Run
from pfmoc.compute.kubernetes_facts import JID, JOB_TYPE, MANAGED_BY, MANAGER, PREFIX, SELECTOR, seconds
from pfmoc.data import Tickets

PULL_KEY, PUBLISH_KEY = "pull.json", "publish.json"
ORPHAN_S = 600.0
"""Seconds after which a Secret without a Job belongs to nobody who is still starting one."""

_RUN = PREFIX + "run"


def env_key(index: int) -> str:
    """Key of a value of the environment. The variables' own names may be none that a Secret can have."""
    return f"env.{index}"


def secret_of(run: Run) -> dict[str, Any]:
    """The Secret for one attempt to start a run."""
    values = {env_key(index): value for index, value in enumerate(run.env.values())}
    if isinstance(run.data, Tickets):
        values |= {PULL_KEY: run.data.pull, PUBLISH_KEY: run.data.publish}
    return {
        "metadata": {
            "name": f"{run.name}-{secrets.token_hex(4)}",
            "labels": {MANAGED_BY: MANAGER, JOB_TYPE: "plugin"},
            "annotations": {JID: run.jid, _RUN: run.name},
        },
        "type": "Opaque",
        "immutable": True,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def owned_by(job: Mapping[str, Any]) -> dict[str, Any]:
    """The patch that makes a Job a Secret's owner: with the one, the other goes."""
    metadata = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    return {"metadata": {"ownerReferences": [owner]}}


@dataclass(frozen=True, slots=True)
class Orphan:
    """A Secret without an owner."""

    name: str
    run: str


async def orphans(cluster: Cluster, path: str) -> list[Orphan]:
    """The Secrets that no Job owns, and that are older than ``ORPHAN_S`` by the cluster's own clock.

    :param path: of the namespace's Secrets
    :raises ClusterUnavailable: the cluster did not say
    """
    found = []
    query = {"labelSelector": SELECTOR, "limit": "500"}
    while True:
        page = await cluster.request("GET", path, query=query)
        for thing in page.get("items") or ():
            metadata = thing["metadata"]
            created = seconds(metadata["creationTimestamp"]) or 0.0
            if not metadata.get("ownerReferences"):
                found.append((created, Orphan(metadata["name"], (metadata.get("annotations") or {}).get(_RUN, ""))))
        if not (more := page["metadata"].get("continue")):
            break
        query["continue"] = more
    return [orphan for created, orphan in found if cluster.now - created >= ORPHAN_S]
