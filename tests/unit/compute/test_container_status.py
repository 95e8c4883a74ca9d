"""What an inspected container means: the table of contract 7.3."""

from __future__ import annotations

from typing import Any

import pytest

from pfmoc.compute.base import RunState
from pfmoc.compute.container_status import JID_LABEL, observation

ZERO = "0001-01-01T00:00:00Z"
START = "2026-01-01T10:00:00.123456789Z"
END = "2026-01-01T11:00:00.5Z"


def inspected(
    status: str = "exited",
    *,
    code: int = 0,
    running: bool = False,
    paused: bool = False,
    oom: bool = False,
    dead: bool = False,
    started: str = START,
    finished: str = ZERO,
    memory: int = 0,
    **config: Any,
) -> dict[str, Any]:
    return {
        "Name": "/name",
        "State": {
            "Status": status,
            "Running": running,
            "Paused": paused,
            "OOMKilled": oom,
            "Dead": dead,
            "ExitCode": code,
            "StartedAt": started,
            "FinishedAt": finished,
        },
        "Config": {"Image": "image:1", "Cmd": ["a b", "c"], "Labels": {JID_LABEL: "The.Job"}, **config},
        "HostConfig": {"Memory": memory},
    }


@pytest.mark.parametrize(
    ("container", "state", "message", "exit_code"),
    [
        (inspected("running", running=True), RunState.RUNNING, "running", None),
        (inspected("paused", running=True, paused=True), RunState.RUNNING, "paused", None),
        (inspected("paused", paused=True), RunState.RUNNING, "paused", None),
        (inspected("running", running=True, oom=True), RunState.RUNNING, "running", None),
        (inspected("created"), RunState.PENDING, "created", None),
        (inspected("exited", code=0), RunState.SUCCEEDED, "exited", 0),
        (inspected("exited", code=1), RunState.FAILED, "exited", 1),
        (inspected("stopped", code=0), RunState.SUCCEEDED, "exited", 0),
        (inspected("stopped", code=1), RunState.FAILED, "exited", 1),
        (inspected("exited", code=139), RunState.FAILED, "exited", 139),
        (inspected("exited", code=137, oom=True), RunState.FAILED, "OOMKilled", 137),
        (inspected("exited", code=0, oom=True), RunState.FAILED, "OOMKilled", 0),
        (inspected("exited", code=137), RunState.FAILED, "exited", 137),
        (
            inspected("exited", code=137, memory=100 << 20),
            RunState.FAILED,
            "exited: killed by SIGKILL; its memory limit of 100 MiB may be the cause",
            137,
        ),
        (inspected("dead", code=0, dead=True), RunState.FAILED, "dead", 0),
        (inspected("restarting"), RunState.UNDEFINED, "restarting", None),
        (inspected("removing"), RunState.UNDEFINED, "removing", None),
        (inspected("stopping"), RunState.UNDEFINED, "stopping", None),
        (inspected("what comes next"), RunState.UNDEFINED, "what comes next", None),
    ],
)
def test_the_state_of_a_container_is_the_state_of_its_run(
    container: dict[str, Any], state: RunState, message: str, exit_code: int | None
):
    seen = observation(container)
    assert (seen.state, seen.message, seen.exit_code) == (state, message, exit_code)


@pytest.mark.parametrize(
    ("started", "finished", "expected"),
    [
        (ZERO, ZERO, ZERO),
        (START, ZERO, START),
        (START, "0001-01-01T00:00:00+00:00", START),
        (START, "", START),
        ("", "", ZERO),
        (START, END, END),
        (START, "2026-01-01T12:30:00.123456789+02:00", "2026-01-01T10:30:00.123456Z"),
    ],
)
def test_the_time_is_that_of_the_end_or_else_of_the_start_in_utc(started: str, finished: str, expected: str):
    assert observation(inspected(started=started, finished=finished)).timestamp == expected


def test_the_rest_is_read_from_the_configuration():
    seen = observation(inspected())
    assert (seen.name, seen.jid, seen.image, seen.cmd) == ("name", "The.Job", "image:1", "'a b' c")


@pytest.mark.parametrize("nothing", [{"Cmd": None, "Labels": None}, {"Cmd": [], "Labels": {}}])
def test_a_container_without_command_or_labels_is_still_read(nothing: dict[str, Any]):
    seen = observation(inspected(**nothing))
    assert (seen.cmd, seen.jid) == ("", "")
