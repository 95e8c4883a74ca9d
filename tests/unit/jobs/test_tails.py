import asyncio

import pytest
from fakes.compute import FakeCompute

from pfmoc.compute.base import Limits, Run
from pfmoc.data import Mounts
from pfmoc.jobs import tails
from pfmoc.jobs.tails import Tails


@pytest.fixture
async def compute(tmp_path):
    compute = FakeCompute()
    limits = Limits(cpu_millicores=1000, memory_mib=64)
    await compute.start(
        Run(name="j", jid="j", image="i", argv=["x"], data=Mounts(incoming=tmp_path, outgoing=tmp_path), limits=limits)
    )
    compute.write_log("j", "one\n")
    return compute


@pytest.fixture
async def stale_tails(compute, monkeypatch):
    """Nothing is fresh for long, and nobody waits long."""
    monkeypatch.setattr(tails, "_FRESH_S", 0.0)
    monkeypatch.setattr(tails, "_PATIENCE_S", 0.01)
    made = Tails(compute, lines=10)
    yield made
    await made.close()


async def test_a_crowd_costs_one_fetch(compute):
    made = Tails(compute, lines=10)
    assert set(await asyncio.gather(*(made.tail("j") for _ in range(100)))) == {"one\n"}
    assert compute.calls.count("logs") == 1


async def test_an_engine_that_is_down_leaves_the_last_log_that_is_known(compute, stale_tails):
    assert await stale_tails.tail("j") == "one\n"
    compute.unavailable = True
    assert await stale_tails.tail("j") == "one\n"
    assert await stale_tails.tail("other") == ""


async def test_a_frozen_engine_is_waited_for_once_and_not_long(compute, stale_tails):
    await stale_tails.tail("j")
    compute.freeze()
    asked = compute.calls.count("logs")
    for _ in range(5):
        assert await stale_tails.tail("j") == "one\n"
    assert compute.calls.count("logs") == asked + 1


async def test_another_run_of_the_name_begins_with_an_empty_log(compute, stale_tails):
    await stale_tails.tail("j")
    stale_tails.forget("j")
    compute.unavailable = True
    assert await stale_tails.tail("j") == ""
