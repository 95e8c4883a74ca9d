"""A status from a Job, its pods and the warnings about them, as a table; and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from harness.kube_objects import COMPLETE, DEADLINE, FAILED, condition, ended, event, job, pod, running, waiting
from hypothesis import given, settings
from hypothesis import strategies as st

from pfmoc.compute.kubernetes_facts import Note, job_facts, note, pod_facts
from pfmoc.compute.kubernetes_status import settled, status

NOW = datetime(2026, 1, 1, 0, 1, 40, tzinfo=UTC).timestamp()

PULLED = {"pull": ended(began=4, end=6), "publish": running(7)}
PUBLISHED = {"pull": ended(began=4, end=6), "publish": ended(began=7, end=25, message='{"phase":"publish","error":null}')}
OOM = ended(137, "OOMKilled")
PREEMPTED = condition("DisruptionTarget", "PreemptionByScheduler", "default-scheduler: preempting to accommodate a pod")
NO_IMAGE = 'failed to pull and unpack image "localhost/plugin:1": not found'
QUOTA = 'pods "job-x" is forbidden: exceeded quota: q, requested: requests.cpu=4, used: requests.cpu=0, limited: requests.cpu=2'


def observed(job_, pods=(), notes=()):
    found = [reduced for each in notes if (reduced := note(each)) is not None]
    return status(job_facts(job_), [pod_facts(each) for each in pods], found, now=NOW)


LIVE = [
    (job(), [], [], "pending", "pending: waits for its pod"),
    (job(), [], [event("Job", "job", "FailedCreate", QUOTA)], "pending", f"pending: no pod can be made: {QUOTA}"),
    (job(), [], [event("Job", "another", "FailedCreate", QUOTA)], "pending", "pending: waits for its pod"),
    (job(spec={"suspend": True}), [], [], "pending", "pending: suspended"),
    (
        job(spec={"suspend": True}, labels={"kueue.x-k8s.io/queue-name": "lab"}),
        [],
        [],
        "pending",
        "pending: waits in the queue lab",
    ),
    (job(), [pod(node="")], [], "pending", "pending: its pod begins"),
    (
        job(),
        [pod("job-a", condition("PodScheduled", "Unschedulable", "0/9 nodes are available", status="False"), node="")],
        [],
        "pending",
        "pending: Unschedulable: 0/9 nodes are available",
    ),
    (
        job(),
        [pod(pull=waiting())],
        [event("Pod", "job-a", "FailedMount", 'secret "x" not found')],
        "pending",
        'pending: FailedMount: secret "x" not found',
    ),
    (job(), [pod(pull=running())], [], "pending", "pulling its input"),
    (
        job(),
        [pod(pull=waiting("ErrImagePull", "no"), plugin=waiting())],
        [],
        "pending",
        "pending: the image of pull: ErrImagePull: no",
    ),
    (
        job(),
        [pod(**PULLED, plugin=waiting("ImagePullBackOff", NO_IMAGE))],
        [],
        "pending",
        f"pending: image localhost/plugin:1: ImagePullBackOff: {NO_IMAGE}",
    ),
    (job(), [pod(**PULLED, plugin=waiting())], [], "pending", "pulling its input"),
    (job(), [pod(**PULLED, plugin=running(), phase="Running")], [], "running", "running"),
    (job(), [pod(**PULLED, plugin=ended(3), phase="Running")], [], "running", "publishing its output"),
    (job(), [pod(plugin=ended(), phase="Running")], [], "running", "ending"),
    # Kubernetes 1.31 and later say that it is going to end before it does.
    (job(condition("SuccessCriteriaMet")), [pod(**PUBLISHED, plugin=ended(), phase="Succeeded")], [], "running", None),
    (
        job(condition("FailureTarget", "PodFailurePolicy")),
        [pod(**PUBLISHED, plugin=ended(3), phase="Failed")],
        [],
        "running",
        None,
    ),
    (
        job(),
        [
            pod("job-a", PREEMPTED, **PUBLISHED, plugin=ended(143), phase="Failed"),
            pod("job-b", condition("PodScheduled", "Unschedulable", "no room", status="False"), created=30, node=""),
        ],
        [],
        "running",
        "runs again after Preempted: default-scheduler: preempting to accommodate a pod; pending: Unschedulable: no room",
    ),
    (
        job(),
        [pod("job-a", PREEMPTED, plugin=ended(143), phase="Failed"), pod("job-b", plugin=running(), created=30)],
        [],
        "running",
        "running",
    ),
    (job(metadata={"deletionTimestamp": "2026-01-01T00:01:00Z"}), [pod(plugin=running())], [], "undefined", "is being removed"),
    (job(failure="image x: no"), [pod(**PULLED, plugin=waiting())], [], "pending", "pending: image x: no"),
]


@pytest.mark.parametrize(("job_", "pods", "notes", "state", "message"), LIVE)
def test_a_run_that_goes_on(job_, pods, notes, state, message):
    seen = observed(job_, pods, notes)
    assert seen.state == state
    assert message in (None, seen.message)
    assert seen.exit_code is None


ENDED = [
    (job(COMPLETE), [pod(**PUBLISHED, plugin=ended(), phase="Succeeded")], "succeeded", "finished", 0),
    (job(COMPLETE), [pod(plugin=ended(), phase="Succeeded")], "succeeded", "finished", 0),
    (job(COMPLETE), [], "succeeded", "finished; its pods were gone before they could be seen", 0),
    (job(FAILED), [pod(**PUBLISHED, plugin=ended(3), phase="Failed")], "failed", "exited with code 3", 3),
    (job(FAILED), [pod(**PUBLISHED, plugin=OOM, phase="Failed")], "failed", "OOMKilled", 137),
    (job(FAILED), [pod(**PUBLISHED, plugin=ended(137), phase="Failed")], "failed", "killed by SIGKILL", 137),
    (
        job(FAILED),
        [pod(**PUBLISHED, plugin=ended(137, "ContainerStatusUnknown", "could not be located"), phase="Failed")],
        "failed",
        "lost: its node does not know how it ended",
        None,
    ),
    (
        job(FAILED),
        [pod(**PUBLISHED, plugin=ended(128, "StartError", 'exec: "run": not found'), phase="Failed")],
        "failed",
        'image localhost/plugin:1: cannot be started: exec: "run": not found',
        128,
    ),
    *(
        (
            job(FAILED),
            [pod(**PUBLISHED, plugin=ended(255, message=said), phase="Failed")],
            "failed",
            f"image localhost/plugin:1: cannot be started: {said}: it is made for another architecture than its node's",
            255,
        )
        for said in (
            "exec /bin/run: exec format error",
            "exec container process `/bin/run`: Exec format error",
            "standard_init_linux.go:228: exec user process caused: exec format error",
        )
    ),
    (
        job(FAILED),
        [pod(**PUBLISHED, plugin=ended(126, message="starts\nsh: ./x: Exec format error\nends"), phase="Failed")],
        "failed",
        "exited with code 126",
        126,
    ),
    (
        job(FAILED),
        [
            pod(
                pull=ended(1, message='{"phase":"pull","error":"404 for a/b"}'),
                publish=waiting(),
                plugin=waiting(),
                phase="Failed",
            )
        ],
        "failed",
        "pull failed: 404 for a/b",
        None,
    ),
    (job(FAILED), [pod(pull=OOM, phase="Failed")], "failed", "pull failed: OOMKilled", None),
    (job(FAILED), [pod(pull=ended(2), phase="Failed")], "failed", "pull failed: Error, exit code 2", None),
    (
        job(COMPLETE),
        [pod(pull=ended(), publish=ended(1, message='{"error":"Swift says 507"}'), plugin=ended(), phase="Succeeded")],
        "failed",
        "publish failed: Swift says 507",
        0,
    ),
    (
        job(FAILED),
        [pod(pull=ended(), publish=OOM, plugin=ended(3), phase="Failed")],
        "failed",
        "exited with code 3; publish failed: OOMKilled",
        3,
    ),
    (
        job(FAILED),
        [pod(plugin=ended(137), phase="Failed", status={"reason": "Evicted", "message": "usage exceeds the limit 64Mi"})],
        "failed",
        "Evicted: usage exceeds the limit 64Mi",
        137,
    ),
    (
        job(condition("Failed", "BackoffLimitExceeded", "too often")),
        [pod(phase="Failed", status={"reason": "OutOfcpu", "message": "no room"})],
        "failed",
        "OutOfcpu: no room",
        None,
    ),
    (job(DEADLINE), [], "failed", "DeadlineExceeded: it took longer than a job may", None),
    (
        job(DEADLINE),
        [pod(**PUBLISHED, plugin=ended(143), phase="Failed")],
        "failed",
        "DeadlineExceeded: it took longer than a job may",
        143,
    ),
    (job(DEADLINE, failure="image x: ErrImagePull"), [], "failed", "image x: ErrImagePull", None),
    (job(FAILED), [], "failed", "PodFailurePolicy: Container plugin for pod x/job-a failed with exit code 3", None),
    # One worker failed, and the others were ended for it.
    (
        job(FAILED, workers=2),
        [
            pod("job-0", index=0, plugin=ended(143, end=30), phase="Failed"),
            pod("job-1", index=1, plugin=ended(4, end=20), phase="Failed"),
        ],
        "failed",
        "exited with code 4",
        4,
    ),
    (
        job(COMPLETE, workers=2),
        [
            pod("job-0", index=0, **PUBLISHED, plugin=ended(), phase="Succeeded"),
            pod("job-1", index=1, pull=ended(), publish=ended(1, message="{}"), plugin=ended(), phase="Succeeded"),
        ],
        "failed",
        "publish failed: Error, exit code 1",
        0,
    ),
    # What was disrupted and made anew is not what counts.
    (
        job(COMPLETE),
        [
            pod("job-a", PREEMPTED, publish=ended(1), plugin=ended(143), phase="Failed"),
            pod("job-b", **PUBLISHED, plugin=ended(), created=30, phase="Succeeded"),
        ],
        "succeeded",
        "finished",
        0,
    ),
]


@pytest.mark.parametrize(("job_", "pods", "state", "message", "exit_code"), ENDED)
def test_a_run_that_has_ended(job_, pods, state, message, exit_code):
    seen = observed(job_, pods)
    assert (seen.state, seen.message, seen.exit_code) == (state, message, exit_code)
    assert seen.timestamp == "2026-01-01T00:01:00Z"


def test_what_was_asked_is_told():
    seen = observed(job())
    assert (seen.name, seen.jid, seen.image, seen.cmd) == ("job", "The.Job", "localhost/plugin:1", "run /share/incoming")
    assert (seen.digest, seen.record, seen.timestamp) == ("d", "{}", "2026-01-01T00:00:00Z")


def test_where_the_time_went():
    stages = observed(job(COMPLETE), [pod(**PUBLISHED, plugin=ended(), phase="Succeeded")]).stages
    assert stages is not None
    assert (stages.waiting, stages.pull, stages.plugin, stages.publish) == (4, 2, 10, 5)
    assert (stages.node, stages.pod) == ("node-1", "job-a")


def test_a_stage_that_goes_on_is_told_as_far_as_it_has_come():
    stages = observed(job(), [pod(**PULLED, plugin=running(10), phase="Running")]).stages
    assert stages is not None
    assert (stages.waiting, stages.pull, stages.plugin, stages.publish) == (4, 2, 90, None)
    stages = observed(job()).stages
    assert stages is not None
    assert (stages.waiting, stages.pull) == (100, None)


def test_little_is_kept_of_much():
    said = "x" * 5000
    kept = pod_facts(pod(pull=waiting("ErrImagePull", said), status={"message": said}))
    assert len(kept.message) == len(kept.containers["pull"].message) == 600
    assert note(event("Pod", "job-a", "Unhealthy", said)) is None
    assert note(event("Node", "node-1", "FailedMount", said)) is None


# What holds for all of them.

STATES = st.one_of(
    st.builds(waiting, st.sampled_from(["PodInitializing", "ErrImagePull", "ImagePullBackOff", "InvalidImageName"])),
    st.builds(running, st.integers(0, 50)),
    st.builds(ended, st.sampled_from([0, 1, 3, 137, 143]), st.sampled_from(["", "OOMKilled", "StartError"])),
)
PODS = st.lists(
    st.builds(
        lambda name, phase, index, created, containers, disrupted, reason: pod(
            name,
            *([PREEMPTED] if disrupted else []),
            phase=phase,
            index=index,
            created=created,
            status={"reason": reason},
            **containers,
        ),
        st.sampled_from(["job-a", "job-b", "job-c"]),
        st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
        st.sampled_from([None, 0, 1]),
        st.integers(0, 50),
        st.fixed_dictionaries({}, optional={"pull": STATES, "publish": STATES, "plugin": STATES}),
        st.booleans(),
        st.sampled_from(["", "Evicted", "NodeLost"]),
    ),
    max_size=3,
    unique_by=lambda each: each["metadata"]["name"],
)
NOTES = st.lists(
    st.builds(Note, st.just("Job"), st.just("job"), st.just("job-uid"), st.just("FailedCreate"), st.text(), st.floats(0, 9))
)
ENDS = st.sampled_from([COMPLETE, FAILED, DEADLINE])
TARGETS = st.sampled_from([(), (condition("FailureTarget", "x"),), (condition("SuccessCriteriaMet"),)])


@given(PODS, NOTES, TARGETS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_run_ends_with_its_job_and_not_before(pods, notes, targets, suspended):
    facts = [pod_facts(each) for each in pods]
    seen = status(job_facts(job(*targets, spec={"suspend": suspended})), facts, notes, now=NOW)
    assert not seen.state.ended
    assert seen.message
    assert seen.exit_code is None


@given(PODS, NOTES, ENDS, TARGETS, st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_a_run_that_has_ended_stays_so_whatever_comes_late_or_twice(pods, notes, end, targets, deleting, random):
    metadata = {"deletionTimestamp": "2026-01-01T00:01:00Z"} if deleting else {}
    facts = job_facts(job(*targets, end, metadata=metadata))
    reduced = [pod_facts(each) for each in pods]
    seen = status(facts, reduced, notes, now=NOW)
    assert seen.state.ended
    assert seen.message
    again = [*reduced, *reduced]
    random.shuffle(again)
    assert status(facts, again, notes, now=NOW + 5) == seen
    # What a pod was before is never heard after its last word (``Informer``), but pods may be forgotten.
    assert status(facts, (), (), now=NOW).state.ended


@given(PODS, ENDS, st.data())
@settings(max_examples=300, deadline=None)
def test_once_its_pods_last_words_are_known_the_outcome_does_not_change(pods, end, data):
    """The Job's end and the pods' last words travel on two lines. Whatever arrives first, it is told only when both are there."""
    final = [
        {**each, "status": {**each["status"], "phase": data.draw(st.sampled_from(["Succeeded", "Failed"]))}} for each in pods
    ]
    facts = job_facts(job(end))
    told = [
        status(facts, [pod_facts(each) for each in final[:count]], now=NOW).state
        for count in range(len(final) + 1)
        if count == len(final) and settled(facts, [pod_facts(each) for each in final[:count]])
    ]
    assert len(told) == bool(final)
    early = [replace(pod_facts(each), phase="Running") for each in final]
    assert not settled(facts, early) or not final
