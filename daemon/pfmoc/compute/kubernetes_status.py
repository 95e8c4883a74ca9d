"""What a Job, its pods and the warnings about them say of a run: a pure function (contract 7.5).

A run has ended when its Job has the condition ``Complete`` or ``Failed``, and not before; so it ends once. Why it is pending, or
why it ended, its pods tell, and where there are none, the warnings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pfmoc.compute.base import OUT_OF_MEMORY, Observation, RunState, Stages
from pfmoc.compute.kubernetes_facts import (
    FAILED_CREATE,
    PLUGIN,
    PUBLISH,
    PULL,
    UNKNOWN,
    ContainerFacts,
    ContainerPhase,
    JobFacts,
    Note,
    PodFacts,
)

HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Reasons for which a container waits that no waiting mends."""
STUCK = HOPELESS | {
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "RunContainerError",
    "SignatureValidationFailed",
}
"""Reasons for which a container waits that a little waiting may mend."""

_KILLED = 128 + 9
_FOREIGN = re.compile(r"(\S+\.go:\d+: )?exec .{1,300}: exec format error", re.IGNORECASE)
"""All that the runtime says of a program for another processor, which it has taken for one that had begun."""


def status(job: JobFacts, pods: Iterable[PodFacts], notes: Iterable[Note] = (), *, now: float) -> Observation:
    """Observe a run.

    :param pods: all that the Job has had, as far as they are known, in any order
    :param notes: warnings about the Job and these pods, in any order
    :param now: seconds since 1970, for stages that go on
    """
    pods = sorted(pods, key=lambda pod: (pod.created, pod.name))
    state, message, exit_code = _judged(job, pods, sorted(notes, key=lambda note: note.at))
    ended = job.ended if state.ended else None
    counted = counting(pods)
    return Observation(
        name=job.name,
        jid=job.jid,
        state=state,
        message=message,
        image=job.image,
        cmd=job.cmd,
        timestamp=_rfc3339(ended or _began(pods) or job.created),
        exit_code=exit_code,
        digest=job.digest,
        record=job.record,
        stages=_stages(job, counted[0] if counted else None, now=job.ended or now),
    )


def counting(pods: Sequence[PodFacts]) -> list[PodFacts]:
    """The last pod of each worker, in the order of the workers.

    :param pods: in the order in which they were made
    """
    last = {pod.index: pod for pod in pods}
    return [last[index] for index in sorted(last)]


def settled(job: JobFacts, pods: Iterable[PodFacts]) -> bool:
    """False when the Job has ended and the last word of its pods is not known yet, which travels on another line."""
    if not job.complete and not job.failed:
        return True
    last = counting(sorted(pods, key=lambda pod: (pod.created, pod.name)))
    return bool(last) and all(pod.ended for pod in last)


def stuck(pod: PodFacts) -> ContainerFacts | None:
    """The container of a pod that cannot begin, if there is one."""
    waiting = (each for each in pod.containers.values() if each.phase is ContainerPhase.WAITING and each.reason in STUCK)
    return None if pod.ended else next(waiting, None)


def stuck_message(job: JobFacts, pod: PodFacts) -> str:
    """What is wrong with a pod that cannot begin, naming image and cause."""
    container = stuck(pod)
    if container is None:
        return ""
    name = next(name for name, each in pod.containers.items() if each is container)
    image = f"image {job.image}" if name == PLUGIN else f"the image of {name}"
    return f"{image}: {_reason(container)}"


def _judged(job: JobFacts, pods: Sequence[PodFacts], notes: Sequence[Note]) -> tuple[RunState, str, int | None]:
    if job.failed:
        return RunState.FAILED, *_failure(job, pods)
    if job.complete:
        return _completion(pods)
    if job.deleting:
        return RunState.UNDEFINED, "is being removed", None
    return _live(job, pods, notes)


# Runs that have ended.


def _completion(pods: Sequence[PodFacts]) -> tuple[RunState, str, int | None]:
    lost = _publish_failure(pods)
    if lost:
        return RunState.FAILED, lost, 0
    return RunState.SUCCEEDED, "finished" if pods else "finished; its pods were gone before they could be seen", 0


def _failure(job: JobFacts, pods: Sequence[PodFacts]) -> tuple[str, int | None]:
    blamed = _blamed(pods)
    plugin = _NONE if blamed is None else blamed.containers.get(PLUGIN, _NONE)
    exit_code = _exit_code(pods) if plugin.exit_code is None else plugin.exit_code
    if job.failure:
        message = job.failure
    elif job.failed == "DeadlineExceeded":
        message = "DeadlineExceeded: it took longer than a job may"
    elif blamed is not None:
        message = _pod_failure(blamed, job)
    else:
        message = ": ".join(filter(None, (job.failed, job.failed_message)))
    return "; ".join(filter(None, (message, _publish_failure(pods)))), exit_code


def _blamed(pods: Sequence[PodFacts]) -> PodFacts | None:
    """The first pod that failed by itself; else the last that the cluster ended."""
    failed = [pod for pod in pods if pod.phase == "Failed"]
    own = [pod for pod in failed if not pod.disruption]
    if own:
        return min(own, key=lambda pod: (max((each.finished or 0.0 for each in pod.containers.values()), default=0.0), pod.name))
    return failed[-1] if failed else None


def _pod_failure(pod: PodFacts, job: JobFacts) -> str:
    pull, plugin = pod.containers.get(PULL), pod.containers.get(PLUGIN)
    if pod.disruption:
        return _disruption(pod)
    if pod.reason:  # Evicted for what it used itself, OutOfcpu, UnexpectedAdmissionError ...
        return ": ".join(filter(None, (pod.reason, pod.message)))
    if pull is not None and pull.exit_code:
        return f"pull failed: {_mover_error(pull)}"
    if plugin is not None and plugin.reason == UNKNOWN:
        return "lost: its node does not know how it ended"
    if plugin is None or plugin.exit_code is None:
        return ": ".join(filter(None, (job.failed, job.failed_message)))
    return _plugin_failure(plugin, job)


def _plugin_failure(plugin: ContainerFacts, job: JobFacts) -> str:
    if plugin.reason == OUT_OF_MEMORY:
        return OUT_OF_MEMORY
    if plugin.reason in ("StartError", "ContainerCannotRun"):
        return f"image {job.image}: cannot be started: {plugin.message or plugin.reason}"
    if _FOREIGN.fullmatch(plugin.message):
        return f"image {job.image}: cannot be started: {plugin.message}: it is made for another architecture than its node's"
    # What else it said last is in its log.
    return "killed by SIGKILL" if plugin.exit_code == _KILLED else f"exited with code {plugin.exit_code}"


def _publish_failure(pods: Sequence[PodFacts]) -> str:
    for pod in counting(pods):
        publish = pod.containers.get(PUBLISH)
        if publish is not None and (publish.exit_code or publish.reason == UNKNOWN):
            return f"publish failed: {_mover_error(publish)}"
    return ""


def _mover_error(container: ContainerFacts) -> str:
    if container.reason == OUT_OF_MEMORY:
        return OUT_OF_MEMORY
    code = "" if container.exit_code is None else f", exit code {container.exit_code}"
    return container.message or f"{container.reason or 'Error'}{code}"


def _exit_code(pods: Sequence[PodFacts]) -> int | None:
    codes = [code for pod in counting(pods) if (code := pod.containers.get(PLUGIN, _NONE).exit_code) is not None]
    return next((code for code in codes if code), codes[0] if codes else None)


# Runs that go on.


def _live(job: JobFacts, pods: Sequence[PodFacts], notes: Sequence[Note]) -> tuple[RunState, str, None]:
    current = [pod for pod in counting(pods) if not pod.disruption]
    phases = {pod.containers.get(PLUGIN, _NONE).phase for pod in current}
    if job.failure:
        reason = f"pending: {job.failure}"
    elif ContainerPhase.RUNNING in phases:
        return RunState.RUNNING, "running", None
    elif ContainerPhase.TERMINATED in phases:
        return RunState.RUNNING, "publishing its output" if PUBLISH in current[0].containers else "ending", None
    else:
        reason = _pending(job, current, notes)
    disrupted = next((pod for pod in reversed(pods) if pod.disruption), None)
    if disrupted is not None and disrupted.containers.get(PLUGIN, _NONE).started is not None:
        # It had begun once, and a run does not go back to where it was.
        return RunState.RUNNING, f"runs again after {_disruption(disrupted)}; {reason}", None
    return RunState.PENDING, reason, None


def _pending(job: JobFacts, pods: Sequence[PodFacts], notes: Sequence[Note]) -> str:
    if job.suspended:
        return f"pending: waits in the queue {job.queue}" if job.queue else "pending: suspended"
    if not pods:
        refused = [note for note in notes if note.uid == job.uid and note.reason == FAILED_CREATE]
        return f"pending: no pod can be made: {refused[-1].message}" if refused else "pending: waits for its pod"
    pulling = any(pod.containers.get(PULL, _NONE).phase is not ContainerPhase.WAITING for pod in pods)
    usual = "pulling its input" if pulling else "pending: its pod begins"
    return next(filter(None, (_pod_pending(job, pod, notes) for pod in pods)), usual)


def _pod_pending(job: JobFacts, pod: PodFacts, notes: Sequence[Note]) -> str:
    if pod.unscheduled:
        return f"pending: {pod.unscheduled}"
    if wrong := stuck_message(job, pod):
        return f"pending: {wrong}"
    about = [note for note in notes if note.uid == pod.uid]
    return f"pending: {about[-1].reason}: {about[-1].message}" if about else ""


_DISRUPTIONS: dict[str, str] = {
    "PreemptionByScheduler": "Preempted",
    "DeletionByTaintManager": "its node was lost or cleared",
    "DeletionByPodGC": "its node was lost",
    "EvictionByEvictionAPI": "Evicted",
    "TerminationByKubelet": "Evicted",
}


def _disruption(pod: PodFacts) -> str:
    reason, _, text = pod.disruption.partition(": ")
    return ": ".join(filter(None, (_DISRUPTIONS.get(reason, reason), text)))


def _reason(container: ContainerFacts) -> str:
    return ": ".join(filter(None, (container.reason, container.message)))


# Times.


def _began(pods: Sequence[PodFacts]) -> float | None:
    started = [each.started for pod in pods for each in pod.containers.values() if each.started is not None]
    return min(started, default=None)


def _stages(job: JobFacts, pod: PodFacts | None, *, now: float) -> Stages:
    if pod is None:
        return Stages(waiting=max(now - job.created, 0.0))
    pull, plugin, publish = (pod.containers.get(name, _NONE) for name in (PULL, PLUGIN, PUBLISH))
    began = _began([pod])
    return Stages(
        waiting=max((began or now) - job.created, 0.0),
        pull=_lasted(pull, now=now),
        plugin=_lasted(plugin, now=now),
        # The sidecar is there all the time; its work begins when the plugin has ended.
        publish=_between(plugin.finished, publish.finished, now=now) if publish.started is not None else None,
        node=pod.node,
        pod=pod.name,
    )


def _lasted(container: ContainerFacts, *, now: float) -> float | None:
    return _between(container.started, container.finished, now=now)


def _between(start: float | None, end: float | None, *, now: float) -> float | None:
    return None if start is None else max((now if end is None else end) - start, 0.0)


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


_NONE = ContainerFacts(phase=ContainerPhase.WAITING)
