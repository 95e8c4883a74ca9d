"""Jobs, pods and Events as the API server tells of them, as little of them as a status is made from."""

from __future__ import annotations

from typing import Any

from pfmoc.compute.kubernetes_facts import (
    CMD,
    CONTROLLER_UID,
    DIGEST,
    FAILURE,
    IMAGE,
    INDEX,
    JID,
    JOB_NAME,
    JOB_TYPE,
    MANAGED_BY,
    MANAGER,
    RECORD,
    SECRET,
)

Thing = dict[str, Any]

LABELS = {MANAGED_BY: MANAGER, JOB_TYPE: "plugin"}


def at(second: int) -> str:
    """A time so many seconds after the Job was made."""
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"


def job(*conditions: Thing, name: str = "job", workers: int = 1, failure: str = "", **more: Any) -> Thing:
    """A Job. ``more``: ``spec``, ``metadata``, ``labels``, ``ended`` (seconds)."""
    notes = {JID: "The.Job", IMAGE: "localhost/plugin:1", CMD: "run /share/incoming", DIGEST: "d", RECORD: "{}", SECRET: "job-1"}
    return {
        "metadata": {
            "name": name,
            "uid": f"{name}-uid",
            "resourceVersion": "7",
            "creationTimestamp": at(0),
            "labels": {**LABELS, **more.get("labels", {})},
            "annotations": {**notes, **({FAILURE: failure} if failure else {})},
            **more.get("metadata", {}),
        },
        "spec": {"completions": workers, **more.get("spec", {})},
        "status": {"conditions": list(conditions)},
    }


def condition(kind: str, reason: str = "", message: str = "", *, second: int = 60, status: str = "True") -> Thing:
    """A condition of a Job or a pod."""
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at(second)}


COMPLETE = condition("Complete", "CompletionsReached")
FAILED = condition("Failed", "PodFailurePolicy", "Container plugin for pod x/job-a failed with exit code 3")
DEADLINE = condition("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")


def pod(name: str = "job-a", *conditions: Thing, phase: str = "Pending", index: int | None = None, **more: Any) -> Thing:
    """A pod. ``more``: ``pull``, ``publish``, ``plugin`` (states), ``created`` (seconds), ``node``, ``status``, ``of`` ..."""
    of = more.get("of", "job")
    labels = {**LABELS, JOB_NAME: of, CONTROLLER_UID: f"{of}-uid"}
    around = [{"name": each, "state": more[each]} for each in ("pull", "publish") if each in more]
    return {
        "metadata": {
            "name": name,
            "uid": f"{name}-uid",
            "resourceVersion": "8",
            "creationTimestamp": at(more.get("created", 0)),
            "labels": labels if index is None else {**labels, INDEX: str(index)},
            **more.get("metadata", {}),
        },
        "spec": {"nodeName": more.get("node", "node-1")},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "initContainerStatuses": around,
            "containerStatuses": [{"name": "plugin", "state": more["plugin"]}] if "plugin" in more else [],
            **more.get("status", {}),
        },
    }


def waiting(reason: str = "PodInitializing", message: str = "") -> Thing:
    return {"waiting": {"reason": reason, "message": message}}


def running(since: int = 10) -> Thing:
    return {"running": {"startedAt": at(since)}}


def ended(code: int = 0, reason: str = "", message: str = "", *, began: int = 10, end: int = 20) -> Thing:
    reason = reason or ("Error" if code else "Completed")
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": at(began), "finishedAt": at(end)}}


def event(kind: str, name: str, reason: str, message: str, *, second: int = 5) -> Thing:
    """A warning about a Job or a pod."""
    return {
        "metadata": {"name": f"{name}.{second}", "creationTimestamp": at(second), "resourceVersion": "9"},
        "involvedObject": {"kind": kind, "name": name, "uid": f"{name}-uid"},
        "reason": reason,
        "message": message,
        "lastTimestamp": at(second),
    }
