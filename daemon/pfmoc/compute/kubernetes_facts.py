"""The few hundred bytes that are kept of each Job, Pod and Event: all that a status is made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from sys import intern
from typing import Any

PREFIX = "pfmoc.chrisproject.org/"
"""Of labels and annotations that are ours."""
JID = PREFIX + "jid"
DIGEST = PREFIX + "digest"
RECORD = PREFIX + "record"
IMAGE = PREFIX + "image"
CMD = PREFIX + "cmd"
SECRET = PREFIX + "secret"
"""Annotation: the Secret that the Job's pods use."""
FAILURE = PREFIX + "failure"
"""Annotation: why this daemon has ended a Job that could never have begun."""
JID_HASH = PREFIX + "jid-hash"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "pfmoc"
JOB_TYPE = "chrisproject.org/job-type"
SELECTOR = f"{MANAGED_BY}={MANAGER},{JOB_TYPE}=plugin"
"""Our Jobs, and their pods."""
JOB_NAME = "batch.kubernetes.io/job-name"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
INDEX = "batch.kubernetes.io/job-completion-index"

PULL, PLUGIN, PUBLISH = "pull", "plugin", "publish"
"""The containers of a pod."""

FAILED_CREATE = "FailedCreate"
"""Reason of the warning that a Job's pod is not admitted: quota, Pod Security, a webhook."""
TELLING = frozenset(
    {FAILED_CREATE, "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMount", "FailedScheduling", "NetworkNotReady"}
)
"""Reasons of warnings that say why a Job or a pod does not begin."""

UNKNOWN = "ContainerStatusUnknown"
"""Reason of a container of which its node does not know how it ended."""

_TEXT_MAX = 600
"""Characters of a message that are kept. The scheduler's on a thousand nodes are longer, and begin with what matters."""


class ContainerPhase(Enum):
    """What a container does."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """One container of a pod."""

    phase: ContainerPhase
    reason: str = ""
    message: str = ""
    """What it left in its termination log, or what the kubelet says."""
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod. Times are seconds since 1970, by the cluster's clocks."""

    name: str
    job: str
    job_uid: str
    uid: str
    index: int
    created: float
    node: str
    phase: str
    reason: str
    message: str
    deleting: bool
    unscheduled: str
    """Why it has no node; empty when it has one, or nobody has looked for one yet."""
    disruption: str
    """Why the cluster itself ended it (``DisruptionTarget``); empty when it did not."""
    containers: Mapping[str, ContainerFacts] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True when none of its containers runs any more."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One Job."""

    name: str
    uid: str
    jid: str
    image: str
    cmd: str
    digest: str
    record: str = field(repr=False)
    secret: str
    failure: str
    queue: str
    workers: int
    created: float
    began: float | None
    """When the cluster took it up: its deadline counts from then."""
    ended: float | None
    """When it became complete or failed."""
    complete: bool
    failed: str
    """Reason of its condition ``Failed``; empty while there is none."""
    failed_message: str
    doomed: str
    """Reason of its condition ``FailureTarget``: it will fail as soon as its pods have ended."""
    suspended: bool
    deleting: bool


@dataclass(frozen=True, slots=True)
class Note:
    """A warning about a Job or a pod."""

    kind: str
    name: str
    """Of the Job or pod."""
    uid: str
    """Of the Job or pod."""
    reason: str
    message: str
    at: float


def job_facts(thing: Mapping[str, Any]) -> JobFacts:
    """Reduce a Job."""
    metadata, spec, status = thing["metadata"], thing["spec"], thing.get("status") or {}
    notes = metadata.get("annotations") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or () if entry.get("status") == "True"}
    complete, failed = conditions.get("Complete"), conditions.get("Failed")
    return JobFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        jid=notes.get(JID, ""),
        image=intern(notes.get(IMAGE, "")),
        cmd=notes.get(CMD, ""),
        digest=notes.get(DIGEST, ""),
        record=notes.get(RECORD, ""),
        secret=notes.get(SECRET, ""),
        failure=notes.get(FAILURE, ""),
        queue=intern((metadata.get("labels") or {}).get("kueue.x-k8s.io/queue-name", "")),
        workers=spec.get("completions") or 1,
        created=seconds(metadata["creationTimestamp"]) or 0.0,
        began=seconds(status.get("startTime")),
        ended=seconds(status.get("completionTime") or (complete or failed or {}).get("lastTransitionTime")),
        complete=complete is not None,
        failed="" if failed is None else intern(failed.get("reason") or "Failed"),
        failed_message="" if failed is None else _cut(failed.get("message")),
        doomed=intern((conditions.get("FailureTarget") or {}).get("reason") or ""),
        suspended=bool(spec.get("suspend")),
        deleting="deletionTimestamp" in metadata,
    )


def pod_facts(thing: Mapping[str, Any]) -> PodFacts:
    """Reduce a pod."""
    metadata, spec, status = thing["metadata"], thing["spec"], thing.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or ()}
    scheduled, disruption = conditions.get("PodScheduled") or {}, conditions.get("DisruptionTarget") or {}
    return PodFacts(
        name=metadata["name"],
        job=labels.get(JOB_NAME, ""),
        job_uid=labels.get(CONTROLLER_UID, ""),
        uid=metadata["uid"],
        index=int(labels.get(INDEX) or 0),
        created=seconds(metadata["creationTimestamp"]) or 0.0,
        node=intern(spec.get("nodeName") or ""),
        phase=intern(status.get("phase") or "Pending"),
        reason=intern(status.get("reason") or ""),
        message=_cut(status.get("message")),
        deleting="deletionTimestamp" in metadata,
        unscheduled=_said(scheduled) if scheduled.get("status") == "False" else "",
        disruption=_said(disruption) if disruption.get("status") == "True" else "",
        containers=dict(_containers(status)),
    )


def note(thing: Mapping[str, Any]) -> Note | None:
    """Reduce an Event; None for one that says nothing about why a Job or a pod does not begin."""
    about = thing.get("involvedObject") or {}
    if about.get("kind") not in ("Job", "Pod") or thing.get("reason") not in TELLING:
        return None
    at = (thing.get("series") or {}).get("lastObservedTime") or thing.get("lastTimestamp") or thing.get("eventTime")
    return Note(
        kind=intern(about["kind"]),
        name=about.get("name") or "",
        uid=about.get("uid") or "",
        reason=intern(thing.get("reason") or ""),
        message=_cut(thing.get("message")),
        at=seconds(at or thing["metadata"].get("creationTimestamp")) or 0.0,
    )


def seconds(text: str | None) -> float | None:
    """A time of the API in seconds since 1970."""
    return None if not text else datetime.fromisoformat(text).timestamp()


def _containers(status: Mapping[str, Any]) -> Iterator[tuple[str, ContainerFacts]]:
    for entry in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        yield intern(entry["name"]), _container(entry.get("state") or {})


def _container(state: Mapping[str, Any]) -> ContainerFacts:
    if ended := state.get("terminated"):
        return ContainerFacts(
            phase=ContainerPhase.TERMINATED,
            reason=intern(ended.get("reason") or ""),
            message=_answer(ended.get("message")),
            # The kubelet says 137 of a container that it cannot find, or that never was.
            exit_code=None if ended.get("reason") == UNKNOWN else ended["exitCode"],
            started=_after_1970(ended.get("startedAt")),
            finished=_after_1970(ended.get("finishedAt")),
        )
    if running := state.get("running"):
        return ContainerFacts(phase=ContainerPhase.RUNNING, started=seconds(running.get("startedAt")))
    waiting = state.get("waiting") or {}
    return ContainerFacts(
        phase=ContainerPhase.WAITING, reason=intern(waiting.get("reason") or ""), message=_cut(waiting.get("message"))
    )


def _answer(text: str | None) -> str:
    """What a mover left in its termination log is JSON, of which only its error is wanted; else it is a sentence."""
    try:
        told = json.loads(text or "")
    except ValueError:
        return _cut(text)
    return _cut(str(told["error"])) if isinstance(told, dict) and told.get("error") else ""


def _after_1970(text: str | None) -> float | None:
    """A container that never began has the beginning of 1970 for its times."""
    return seconds(text) or None


def _said(entry: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (entry.get("reason"), _cut(entry.get("message")))))


def _cut(text: str | None) -> str:
    text = " ".join((text or "").split())
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
