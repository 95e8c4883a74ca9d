"""Every role's molecule scenarios, one test each."""

from __future__ import annotations

import functools
import os
import subprocess
from contextlib import suppress

import pytest
from harness.molecule import ScenarioFailed, changes, ephemeral_directory, leftovers, molecule, scenarios
from harness.podman import PodmanDoesNotWork, PodmanService
from harness.waiting import until

# The longest are those that build images or bring up a cluster.
DEADLINE_S = 900.0


def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("it needs root")


@functools.cache
def _podman_fault() -> str:
    try:
        PodmanService().close()
    except PodmanDoesNotWork as reason:
        return str(reason)
    return ""


def containers() -> None:
    if fault := _podman_fault():
        pytest.skip(fault)


# What `scenario_needs` may name, and how to find out whether this machine has it.
NEEDS = {"root": root, "containers": containers}


@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_the_scenario(scenario):
    for need in scenario.needs:
        NEEDS[need]()
    with ephemeral_directory() as directory:
        try:
            output = molecule("test", scenario, directory, deadline_s=DEADLINE_S)
        except BaseException:
            # It has done so already, unless it was stopped on its way.
            with suppress(ScenarioFailed, subprocess.TimeoutExpired):
                molecule("destroy", scenario, directory, deadline_s=120)
            raise
        steps = changes(output)
        assert [step for step, _ in steps] == ["prepare", "check", "converge", "idempotence", "check", "verify", "destroy"]
        assert steps[4] == ("check", 0), f"check mode reports a change where there is none:\n{output}"
        # What was told to end may take a moment.
        with suppress(AssertionError):
            until(lambda: not leftovers(directory))
        assert leftovers(directory) == []
