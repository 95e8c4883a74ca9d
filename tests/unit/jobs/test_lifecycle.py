import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfmoc.compute.base import Limits, Observation, RunState
from pfmoc.jobs.lifecycle import MOVES, IllegalMove, move, observe
from pfmoc.jobs.model import STATUS_OF_PHASE, Job, Kind, Phase, PluginSpec, PluginType, Status

SPEC = PluginSpec(image="i", entrypoint=["run"], type=PluginType.DS, limits=Limits(cpu_millicores=1000, memory_mib=200), args=[])


def job(phase: Phase = Phase.STARTING) -> Job:
    return Job(jid="j", kind=Kind.PLUGIN, spec=SPEC, phase=phase)


def seen(state: RunState, exit_code: int | None = None) -> Observation:
    return Observation(
        name="j", jid="j", state=state, message=state.value, image="i", cmd="run", timestamp="t", exit_code=exit_code
    )


def test_every_phase_has_its_row_and_its_word():
    assert set(MOVES) == set(Phase)
    assert set(STATUS_OF_PHASE) == set(Phase)
    assert set(STATUS_OF_PHASE.values()) == set(Status)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase.terminal])
def test_no_move_leads_out_of_a_terminal_phase(phase):
    assert MOVES[phase] == frozenset()


@pytest.mark.parametrize(("start", "end"), list(itertools.product(Phase, Phase)))
def test_a_move_is_made_exactly_when_the_table_has_it(start, end):
    if end in MOVES[start]:
        assert move(job(start), end).phase is end
    else:
        with pytest.raises(IllegalMove):
            move(job(start), end)


@given(st.lists(st.sampled_from(RunState), max_size=12))
def test_whatever_is_observed_a_job_never_goes_back_and_ends_once(states):
    order = [Phase.STARTING, Phase.PENDING, Phase.RUNNING]
    now = job()
    for state in states:
        after = observe(now, seen(state, 1))
        if now.phase.terminal:
            assert after == now
        elif not after.phase.terminal:
            assert order.index(after.phase) >= order.index(now.phase)
        now = after


def test_a_state_that_the_engine_cannot_name_is_waited_out():
    running = job(Phase.RUNNING)
    assert observe(running, seen(RunState.UNDEFINED)) == running


def test_the_observation_is_what_the_client_sees():
    ended = observe(job(Phase.RUNNING), seen(RunState.FAILED, 3))
    assert (ended.status, ended.message, ended.exit_code, ended.timestamp) == (Status.FAILED, "failed", 3, "t")


@pytest.mark.parametrize(
    ("kind", "args", "flags", "expected"),
    [
        ("ds", [], [], "run /share/incoming /share/outgoing"),
        ("fs", ["--x"], [], "run --x /share/outgoing"),
        ("ds", ["--in", "a", "b"], ["--in"], "run --in /share/incoming b /share/incoming /share/outgoing"),
        ("fs", ["--in"], ["--in"], "run --in /share/incoming /share/outgoing"),
        ("fs", ["--in", "--in", "a"], ["--in"], "run --in /share/incoming a /share/outgoing"),
    ],
)
def test_command_line(kind, args, flags, expected):
    spec = PluginSpec(
        image="i",
        entrypoint=["run"],
        type=PluginType(kind),
        limits=SPEC.limits,
        args=args,
        args_path_flags=flags,
    )
    assert " ".join(spec.command()) == expected


def test_a_command_line_of_a_hundred_thousand_arguments():
    spec = PluginSpec(image="i", entrypoint=["run"], type=PluginType.TS, limits=SPEC.limits, args=["x"] * 100_000)
    assert len(spec.command()) == 100_002
