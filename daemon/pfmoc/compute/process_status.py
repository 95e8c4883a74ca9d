"""What the documents of a run say of it (``rundir``), in the ``process`` environment."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from pfmoc.compute import rundir
from pfmoc.compute.base import OUT_OF_MEMORY, Observation, RunState

SUPERVISOR_KILLED = "supervisor killed; outcome unknown"


def observe(directory: Path) -> Observation | None:
    """Observe the run of a directory; None when there is no run in it."""
    alive = rundir.alive(directory)  # before all else, see there
    run = rundir.read_document(directory / rundir.RUN)
    started = rundir.read_document(directory / rundir.STARTED)
    ended = rundir.read_document(directory / rundir.ENDED)
    if run is None or not (alive or started):
        return None
    state, message, exit_code = _outcome(ended, alive=alive, started=started is not None)
    return Observation(
        name=directory.name,
        jid=run["jid"],
        state=state,
        message=message,
        image=run["image"],
        cmd=run["cmd"],
        timestamp=(ended or {}).get("ended") or (started or {}).get("started") or run["created"],
        exit_code=exit_code,
    )


def _outcome(ended: dict[str, Any] | None, *, alive: bool, started: bool) -> tuple[RunState, str, int | None]:
    if ended is None:
        if not alive:
            return RunState.FAILED, SUPERVISOR_KILLED, None
        return (RunState.RUNNING, "running", None) if started else (RunState.PENDING, "created", None)
    code = ended["exit_code"] if ended["signal"] is None else 128 + ended["signal"]
    if ended["out_of_memory"]:
        return RunState.FAILED, OUT_OF_MEMORY, code
    if ended["signal"] is not None:
        return RunState.FAILED, f"killed by {_signal_name(ended['signal'])}", code
    return (RunState.SUCCEEDED if code == 0 else RunState.FAILED), "exited", code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
