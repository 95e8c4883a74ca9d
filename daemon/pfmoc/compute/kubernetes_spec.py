"""The Job of a run: a pure function (contract 7.5). Its pods pass Pod Security ``restricted`` and OpenShift's restricted-v2.

Where data travel with the pod: ``pull`` fills one empty directory, the plugin reads it and writes to another, and ``publish``, a
sidecar, is told by the kubelet with SIGTERM that the plugin has ended, and stores what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfmoc.compute.base import INCOMING, OUTGOING, Run
from pfmoc.compute.kubernetes_facts import (
    CMD,
    DIGEST,
    IMAGE,
    JID,
    JID_HASH,
    JOB_TYPE,
    MANAGED_BY,
    MANAGER,
    PLUGIN,
    PUBLISH,
    PULL,
    RECORD,
    SECRET,
)
from pfmoc.compute.kubernetes_placement import architecture, placement
from pfmoc.compute.kubernetes_secrets import PUBLISH_KEY, PULL_KEY, env_key
from pfmoc.data import Mounts
from pfmoc.errors import ComputeRefused

TICKETS = "/run/pfmoc/ticket"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
BACKSTOP_S = 60
"""Seconds after a run's deadline at which the cluster ends it, should no daemon be there to do so."""
RETRIES = 3
"""Pods made anew when one failed without any program of it having failed: a node that had no room after all, a lost device."""
RECORD_MAX = 128 << 10
"""Bytes of what was asked for that are kept with the Job, whose annotations may have 256 KiB in all."""
CMD_MAX = 16 << 10
"""Characters of the command line that are kept to be shown."""
MOVER_CPU = ("100m", "1")
"""Request and limit of ``pull`` and ``publish`` each."""
MOVER_MEMORY = ("64Mi", "512Mi")
MOVER_DISK_MIB = 64
"""Of each: its log."""
PUBLISH_BEGINS_S = 300
"""Seconds that the publisher has to wait for its signal. The plugin starts only then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Whom a pod runs as. None leaves it to the cluster, or to the image."""

    uid: int | None = None
    gid: int | None = None
    fs_group: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What is the same for all runs of a daemon."""

    mover_image: str
    mover: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {name: ("python3", "-m", "pfmoc.mover", name) for name in (PULL, PUBLISH)}
    )
    """Command lines of ``pull`` and ``publish``."""
    storebase_mount: Path
    claim: str | None
    """The volume that the daemon and the pods share, where they do."""
    job_labels: Mapping[str, str]
    node_selector: Mapping[str, str]
    pull_secrets: Sequence[str]
    architectures: Mapping[str, str]
    gpu_resource: str
    gpu_products: Sequence[str]
    priority: str | None
    queue: str | None
    ephemeral_mib: int
    shm_mib: int | None
    home_workaround: bool
    publish_s: int
    deadline_s: int
    ttl_s: int


def job_spec(run: Run, site: Site, *, secret: str, user: User) -> dict[str, Any]:
    """Describe the Job of a run.

    :param secret: name of its Secret
    :raises InvalidRequest: the architecture is none
    :raises ComputeRefused: its directories do not lie below the storeBase
    """
    labels = {
        **site.job_labels,
        MANAGED_BY: MANAGER,
        JOB_TYPE: "plugin",
        JID_HASH: hashlib.sha256(run.jid.encode()).hexdigest()[:16],
    }
    queue = run.queue or site.queue
    notes = {JID: run.jid, DIGEST: run.digest, IMAGE: run.image, CMD: _shown(run.argv), SECRET: secret}
    if len(run.record.encode()) <= RECORD_MAX:
        notes[RECORD] = run.record
    workers = run.limits.number_of_workers
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": run.name,
            "labels": {**labels, **({QUEUE_LABEL: queue} if queue else {})},
            "annotations": notes,
        },
        "spec": {
            "parallelism": workers,
            "completions": workers,
            "completionMode": "Indexed" if workers > 1 else "NonIndexed",
            "backoffLimit": RETRIES,
            "podFailurePolicy": {"rules": _rules(tickets=not isinstance(run.data, Mounts))},
            # A pod that is being ended may still publish: its successor waits until it is gone.
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": site.deadline_s + BACKSTOP_S,
            "ttlSecondsAfterFinished": site.ttl_s,
            "template": {
                "metadata": {"labels": labels, "annotations": {JID: run.jid}},
                "spec": _pod(run, site, secret=secret, user=user),
            },
        },
    }


def _rules(*, tickets: bool) -> list[dict[str, Any]]:
    """Disruptions are not counted; an error of a program ends the Job. What fits no rule is counted by ``RETRIES``."""
    ends = [PLUGIN, PULL] if tickets else [PLUGIN]
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        *({"action": "FailJob", "onExitCodes": {"containerName": name, "operator": "NotIn", "values": [0]}} for name in ends),
    ]


def _pod(run: Run, site: Site, *, secret: str, user: User) -> dict[str, Any]:
    place = placement(
        architecture(run.arch, run.image, site.architectures),
        gpus=run.limits.gpus,
        products=site.gpu_products if run.limits.gpu_product is None else [run.limits.gpu_product],
        selector=site.node_selector,
    )
    plugin_mounts, volumes, movers = _data(run, site, secret=secret)
    if site.shm_mib is not None:
        volumes.append({"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{site.shm_mib}Mi"}})
        plugin_mounts.append({"name": "dshm", "mountPath": "/dev/shm"})  # noqa: S108 - a mount, no file
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _security(user),
        "tolerations": list(place.tolerations),
        "containers": [
            {
                "name": PLUGIN,
                "image": run.image,
                # Kubernetes would take $(NAME) for a variable.
                "command": [word.replace("$", "$$") for word in run.argv],
                "env": _environment(run, site, secret=secret),
                "resources": _resources(run, site),
                "securityContext": _CONTAINED,
                "volumeMounts": plugin_mounts,
                # That a program is for another processor, the runtime says in the log, and nowhere else.
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
        "volumes": volumes,
    }
    if movers:
        spec |= {"initContainers": movers, "terminationGracePeriodSeconds": site.publish_s}
    if place.node_selector:
        spec["nodeSelector"] = dict(place.node_selector)
    if place.affinity:
        spec["affinity"] = place.affinity
    if site.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in site.pull_secrets]
    if priority := run.priority or site.priority:
        spec["priorityClassName"] = priority
    return spec


_CONTAINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _security(user: User) -> dict[str, Any]:
    ids = {"runAsUser": user.uid, "runAsGroup": user.gid, "fsGroup": user.fs_group}
    return {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        **{name: number for name, number in ids.items() if number is not None},
    }


def _environment(run: Run, site: Site, *, secret: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": env_key(index)}}}
        for index, name in enumerate(run.env)
    ]
    return [*entries, {"name": "HOME", "value": "/tmp"}] if site.home_workaround else entries  # noqa: S108 - the contract's


def _resources(run: Run, site: Site) -> dict[str, Any]:
    amounts = {
        "cpu": f"{run.limits.cpu_millicores}m",
        "memory": f"{run.limits.memory_mib}Mi",
        "ephemeral-storage": f"{site.ephemeral_mib}Mi",
    }
    if run.limits.gpus:
        amounts[site.gpu_resource] = str(run.limits.gpus)
    return {"requests": amounts, "limits": amounts}


def _data(run: Run, site: Site, *, secret: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """What the plugin mounts, the volumes for it, and the containers around it."""
    if isinstance(run.data, Mounts):
        mounts: list[dict[str, Any]] = [
            {"name": "storebase", "mountPath": INCOMING, "subPath": _below(run.data.incoming, site), "readOnly": True},
            {"name": "storebase", "mountPath": OUTGOING, "subPath": _below(run.data.outgoing, site)},
        ]
        return mounts, [{"name": "storebase", "persistentVolumeClaim": {"claimName": site.claim}}], []
    incoming, outgoing = {"name": "incoming", "mountPath": INCOMING}, {"name": "outgoing", "mountPath": OUTGOING}
    empty = {"sizeLimit": f"{site.ephemeral_mib}Mi"}
    volumes: list[dict[str, Any]] = [{"name": "incoming", "emptyDir": empty}, {"name": "outgoing", "emptyDir": empty}]
    movers = []
    for name, key, mount, more in (
        (PULL, PULL_KEY, incoming, {}),
        (PUBLISH, PUBLISH_KEY, {**outgoing, "readOnly": True}, _WAITS),
    ):
        # Each gets its own ticket only, in a volume of its own.
        volume = f"ticket-{name}"
        items = [{"key": key, "path": key}]
        volumes.append({"name": volume, "secret": {"secretName": secret, "defaultMode": 0o440, "items": items}})
        ticket = {"name": volume, "mountPath": TICKETS, "readOnly": True}
        movers.append({**_mover(name, site), "volumeMounts": [mount, ticket], **more})
    return [{**incoming, "readOnly": True}, outgoing], volumes, movers


_WAITS = {
    "restartPolicy": "Always",
    # It writes its message when it listens for SIGTERM, which process 1 never gets before.
    "startupProbe": {
        "exec": {"command": ["test", "-s", "/dev/termination-log"]},
        "periodSeconds": 1,
        "failureThreshold": PUBLISH_BEGINS_S,
        "timeoutSeconds": 10,
    },
}
"""What makes a sidecar of ``publish``."""


def _mover(name: str, site: Site) -> dict[str, Any]:
    disk = f"{MOVER_DISK_MIB}Mi"
    return {
        "name": name,
        "image": site.mover_image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(site.mover[name]),
        "resources": {
            "requests": {"cpu": MOVER_CPU[0], "memory": MOVER_MEMORY[0], "ephemeral-storage": disk},
            "limits": {"cpu": MOVER_CPU[1], "memory": MOVER_MEMORY[1], "ephemeral-storage": disk},
        },
        "securityContext": {**_CONTAINED, "readOnlyRootFilesystem": True},
    }


def _below(path: Path, site: Site) -> str:
    """The path within the claim. The API server itself refuses one that leads out of it."""
    mount = site.storebase_mount
    for root in (mount, mount.resolve()):
        if path.is_relative_to(root) and path != root:
            return str(path.relative_to(root))
    raise ComputeRefused("the run's directories do not lie below the storeBase", engine_status=500)


def _shown(argv: Sequence[str]) -> str:
    """The command line as the contract (2.7) has it for Kubernetes: joined by blanks."""
    text = " ".join(argv)
    return text if len(text) <= CMD_MAX else text[: CMD_MAX - 1] + "…"
