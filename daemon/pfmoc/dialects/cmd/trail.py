"""The trail of a key as ``status`` shows it (contract 5.2): push, WAIT, run, WAIT, pull; made of job records and what is kept
beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pfmoc.coordination.trails import Step, Trail
from pfmoc.dialects.render import old_spelling
from pfmoc.jobs.model import Job, Phase, Status

NOT_STARTED = "not started"
NOT_FOUND = "not found"


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """All that is known of a key."""

    trail: Trail
    pushed: Job | None
    """The copy job that a push is on record as."""
    job: Job | None
    log: str = ""

    @property
    def anything(self) -> bool:
        """False for a key that nobody has used."""
        return bool(self.pushed or self.job or self.trail.step or self.trail.pulled)


def word(job: Job) -> str:
    """The status of a job, as every generation before pfcon 6 spells it."""
    return old_spelling(job.status)


def operation(known: Known) -> dict[str, Any]:
    """Each operation with its status, in the mixed types of the old service: a text while it is not over, then true or false."""
    info = {"pushPath": _push(known), "compute": _compute(known), "pullPath": _pull(known), "swiftPut": _put(known)}
    return {"status": known.anything, "info": info}


def summary(operation: dict[str, Any]) -> dict[str, Any]:
    """The short form, of which CUBE 1 lives. It is true once every status in it is."""
    info = operation["info"]
    compute = info["compute"]
    back = compute["return"]
    states = {name: info[name]["status"] for name in ("pushPath", "pullPath", "swiftPut")}
    every = (*states.values(), compute["status"], compute["submit"]["status"], back["status"])
    return {
        "status": all(state is True for state in every),
        **{name: {"status": state} for name, state in states.items()},
        "compute": {
            "status": compute["status"],
            "submit": {"status": compute["submit"]["status"]},
            "return": {"status": back["status"], **back["d_ret"]},
        },
    }


def _push(known: Known) -> dict[str, Any]:
    trail = known.trail
    if not known.anything:
        return {"status": NOT_FOUND}
    if reason := trail.failed.get(Step.PUSH):
        return _negative(reason)
    if trail.step is Step.PUSH:
        return {"status": "pushing"}
    if known.pushed or known.job or trail.step:
        return _positive(known.pushed.timestamp if known.pushed else "")
    return {"status": NOT_STARTED}


def _compute(known: Known) -> dict[str, Any]:
    job = known.job
    nothing: dict[str, Any] = {"l_status": [], "l_logs": []}
    if reason := known.trail.failed.get(Step.COMPUTE):
        submit = {"status": False, "msg": reason}
        return {"status": False, "submit": submit, "return": {"status": False, "d_ret": _result(known) or nothing}}
    if job is None and known.trail.outcome is not None:
        good = known.trail.outcome.status == Status.SUCCEEDED
        return {"status": good, "submit": {"status": True}, "return": {"status": good, "d_ret": _result(known)}}
    if job is None:
        waiting = NOT_STARTED if known.anything else NOT_FOUND
        if known.trail.step is Step.COMPUTE:
            waiting = Status.STARTED.value
        return {"status": waiting, "submit": {"status": waiting}, "return": {"status": waiting, "d_ret": nothing}}
    over: bool | str = job.phase is Phase.SUCCEEDED if job.phase.terminal else word(job)
    return {"status": over, "submit": {"status": True}, "return": {"status": over, "d_ret": _result(known)}}


def _result(known: Known) -> dict[str, Any]:
    if known.job is not None:
        return {"l_status": [word(known.job)], "l_logs": [known.log]}
    if known.trail.outcome is not None:
        return {"l_status": [known.trail.outcome.status], "l_logs": [known.trail.outcome.log]}
    return {}


def _pull(known: Known) -> dict[str, Any]:
    trail = known.trail
    if not known.anything:
        return {"status": NOT_FOUND}
    if reason := trail.failed.get(Step.PULL):
        return _negative(reason)
    if trail.step is Step.PULL:
        return {"status": "pulling"}
    return _positive(trail.pulled) if trail.pulled else {"status": NOT_STARTED}


def _put(known: Known) -> dict[str, Any]:
    """Swift is where CUBE 1 looks for output. What is counted are the files that were put where the client wanted them."""
    trail = known.trail
    if not known.anything:
        return {"status": NOT_FOUND}
    if trail.files is None and Step.PULL not in trail.failed:
        return {"status": NOT_STARTED}
    good = trail.files is not None
    return {"status": good, "d_swiftstore": {"status": good, "filesPushed": trail.files or 0}}


def _positive(timestamp: str) -> dict[str, Any]:
    return {"status": True, "return": {"status": True, "timestamp": timestamp}}


def _negative(reason: str) -> dict[str, Any]:
    return {"status": False, "return": {"status": False, "msg": reason}}
