"""What an inspected container says of a run: a pure function, in the words of the Docker API (contract 7.3)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pfmoc.compute.base import OUT_OF_MEMORY, Observation, RunState
from pfmoc.settings import MIB

JID_LABEL = "org.chrisproject.pfmoc.jid"
"""Holds the client's job id, which the container's name may only be derived from."""

_KILLED = 128 + 9
_ZERO_TIME = "0001-01-01T00:00:00"


def observation(inspected: Mapping[str, Any]) -> Observation:
    """Read the answer of ``GET /containers/<name>/json``."""
    state, config = inspected["State"], inspected["Config"]
    ended = _word(state) in ("exited", "dead")
    return Observation(
        name=inspected["Name"].removeprefix("/"),
        jid=(config.get("Labels") or {}).get(JID_LABEL, ""),
        state=_state(state),
        message=_message(inspected),
        image=config["Image"],
        cmd=shlex.join(config.get("Cmd") or ()),
        timestamp=_timestamp(state),
        exit_code=state["ExitCode"] if ended else None,
    )


def _word(state: Mapping[str, Any]) -> str:
    """The engine's word for the state. Podman has one more for the moment between the end of a container and its clean-up."""
    word: str = state["Status"]
    return "exited" if word == "stopped" else word


def _state(state: Mapping[str, Any]) -> RunState:
    if state["Running"] or state["Paused"]:
        return RunState.RUNNING
    if state["Status"] == "created":
        return RunState.PENDING
    if state["OOMKilled"] or state["Dead"]:
        return RunState.FAILED
    if _word(state) == "exited":
        return RunState.SUCCEEDED if state["ExitCode"] == 0 else RunState.FAILED
    return RunState.UNDEFINED


def _message(inspected: Mapping[str, Any]) -> str:
    """The engine's word for the state, unless more can be said of why the run ended."""
    state = inspected["State"]
    word = _word(state)
    if state["Running"] or state["Paused"] or word not in ("exited", "dead"):
        return word
    if state["OOMKilled"]:
        return OUT_OF_MEMORY
    memory = inspected["HostConfig"].get("Memory") or 0
    if state["ExitCode"] == _KILLED and memory:
        # Podman before 5 on cgroups v1 does not tell who killed it.
        return f"{word}: killed by SIGKILL; its memory limit of {memory // MIB} MiB may be the cause"
    return word


def _timestamp(state: Mapping[str, Any]) -> str:
    """When it ended, or while it has not, when it started; the engine's zero time while it has done neither."""
    finished, started = state.get("FinishedAt") or _ZERO_TIME, state.get("StartedAt") or f"{_ZERO_TIME}Z"
    time: str = started if finished.startswith(_ZERO_TIME) else finished
    if time.endswith("Z"):
        return time  # with all its nanoseconds
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
