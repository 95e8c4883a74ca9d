"""The API server is frozen while a job is at work. What its death costs, and that of others, is in ``test_daemon_pods``."""

from __future__ import annotations

import time

import pytest
from harness.kube_lab import all_ended, opened, run, settings_for
from harness.waiting import eventually

from pfmoc.compute.base import RunState
from pfmoc.errors import ComputeUnavailable


async def at(compute, name: str, message: str) -> bool:
    seen = await compute.inspect(name)
    return seen is not None and message in (seen.message, "running" if seen.state.ended else "")


async def test_a_frozen_api_server_leaves_answers_from_memory_and_their_age(namespace, box):
    settings = settings_for(box.kubeconfig, namespace, PFMOC_ENGINE_DEADLINE_S="4")
    # Looked for before: it may take as long as the run.
    process = box.living("kube-apiserver")
    async with opened(settings) as compute:
        await compute.start(run("goes-on", "sleep 15; echo done"))
        await eventually(lambda: at(compute, "goes-on", "running"), deadline_s=60)
        with box.frozen("kube-apiserver", process):
            began = time.monotonic()
            with pytest.raises(ComputeUnavailable):
                await compute.start(run("new"))
            with pytest.raises(ComputeUnavailable):
                await compute.inspect("unknown")
            assert time.monotonic() - began < 2 * 4 + 2
            age = await eventually(lambda: compute.age_s, what="the age", deadline_s=60)
            assert 0 < age < 60
            seen = await compute.inspect("goes-on")
            assert seen is not None
            assert seen.state is RunState.RUNNING
            with pytest.raises(ComputeUnavailable):
                await compute.probe()
        await eventually(lambda: compute.age_s is None, what="the watches", deadline_s=90)
        assert (await all_ended(compute, ["goes-on"]))["goes-on"].state is RunState.SUCCEEDED
