"""The life of a job as a table: which phase may follow which."""

from __future__ import annotations

from dataclasses import replace

from pfmoc.compute.base import Observation, RunState
from pfmoc.jobs.model import Job, Phase

MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.STAGING: frozenset({Phase.STARTING, Phase.PENDING, Phase.FAILED}),
    Phase.STARTING: frozenset({Phase.PENDING, Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED, Phase.LOST}),
    Phase.PENDING: frozenset({Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED, Phase.LOST}),
    Phase.RUNNING: frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.LOST}),
    Phase.SUCCEEDED: frozenset(),
    Phase.FAILED: frozenset(),
    Phase.LOST: frozenset(),
}

PHASE_OF_RUN = {
    RunState.PENDING: Phase.PENDING,
    RunState.RUNNING: Phase.RUNNING,
    RunState.SUCCEEDED: Phase.SUCCEEDED,
    RunState.FAILED: Phase.FAILED,
}


class IllegalMove(Exception):
    """A move that the table does not have: a bug, never a client's fault."""


def move(job: Job, phase: Phase, *, message: str | None = None, timestamp: str | None = None) -> Job:
    """Return the job in its new phase.

    :raises IllegalMove: the table does not lead there; so a terminal phase is reached once
    """
    if phase not in MOVES[job.phase]:
        raise IllegalMove(f"{job.kind} job {job.jid}: {job.phase} -> {phase}")
    return replace(
        job,
        phase=phase,
        message=job.message if message is None else message,
        timestamp=job.timestamp if timestamp is None else timestamp,
    )


def observe(job: Job, seen: Observation) -> Job:
    """Return the job as an observation of its run leaves it.

    Observations come late, twice and out of order: one that leads back, or out of a terminal phase, changes nothing. A state
    that the engine itself cannot name (``UNDEFINED``: it is restarting or being removed) is waited out.
    """
    phase = PHASE_OF_RUN.get(seen.state)
    if phase is None:
        return job
    if phase is not job.phase and phase not in MOVES[job.phase]:
        return job
    if job.phase.terminal:
        return job
    return replace(
        job,
        phase=phase,
        message=seen.message,
        timestamp=seen.timestamp,
        image=seen.image,
        cmd=seen.cmd,
        exit_code=seen.exit_code,
        # Of a run that goes on they are different at each look, and a look is no move.
        stages=seen.stages if phase.terminal else None,
    )


def unpublished(job: Job, reason: str) -> Job:
    """Return a job that has ended, and of which the output cannot be had whole: it failed, whatever its plugin did."""
    failure = f"publish failed: {reason}"
    message = failure if job.phase is Phase.SUCCEEDED else f"{job.message}; {failure}"
    return replace(job, phase=Phase.FAILED, message=message)
