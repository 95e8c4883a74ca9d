import asyncio
import json

import pytest

from pfmoc.errors import ComputeUnavailable, PfmocError, StorageFull, StorageUnavailable
from pfmoc.health import Health


class Probe:
    def __init__(self) -> None:
        self.calls = 0
        self.wrong: dict[str, PfmocError] = {}
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> dict[str, PfmocError]:
        self.calls += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.wrong


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def answer(health):
    response = await health.ready(None)
    return response.status, json.loads(response.body)


async def test_ready_only_while_serving(clock):
    health = Health(clock=clock)
    assert await answer(health) == (503, {"ready": False, "reasons": {"daemon": "is starting"}})
    health.serve(Probe())
    assert await answer(health) == (200, {"ready": True})
    health.drain()
    assert await answer(health) == (503, {"ready": False, "reasons": {"daemon": "is draining"}})
    assert (await health.live(None)).status == 200


async def test_a_flood_of_probes_is_one_question(clock):
    health, probe = Health(clock=clock), Probe()
    probe.gate.clear()
    health.serve(probe)
    crowd = [asyncio.create_task(answer(health)) for _ in range(100)]
    await asyncio.sleep(0)
    probe.gate.set()
    assert {status for status, _ in await asyncio.gather(*crowd)} == {200}
    assert probe.calls == 1
    await answer(health)
    assert probe.calls == 1
    clock.now = 1.5
    probe.wrong = {"storage": StorageUnavailable("read-only")}
    assert await answer(health) == (503, {"ready": False, "reasons": {"storage": "read-only"}})
    assert probe.calls == 2


async def test_storage_that_is_full_is_told_and_does_not_end_readiness(clock):
    """Status, downloads and the deletes that make room must still be reached (faults 9)."""
    health, probe = Health(clock=clock), Probe()
    health.serve(probe, age=lambda: 7.23)
    probe.wrong = {"storage": StorageFull("the quota is used up")}
    told = {"reasons": {"storage": "the quota is used up"}, "age_s": 7.2}
    assert await answer(health) == (200, {"ready": True, **told})
    clock.now += 2
    probe.wrong["compute"] = ComputeUnavailable("away")
    reasons = {"storage": "the quota is used up", "compute": "away"}
    assert await answer(health) == (503, {"ready": False, "reasons": reasons, "age_s": 7.2})


async def test_a_probe_that_hangs_or_fails_is_not_ready(clock):
    health, probe = Health(deadline_s=0.01, clock=clock), Probe()
    health.serve(probe)
    probe.gate.clear()
    assert await answer(health) == (503, {"ready": False, "reasons": {"probe": "no answer within 0.01 s"}})
    probe.gate.set()
    clock.now += 2
    probe.error = StorageUnavailable("gone")
    assert (await answer(health))[1]["reasons"] == {"probe": "gone"}
    clock.now += 2
    probe.error = RuntimeError("secret detail")
    assert (await answer(health))[1]["reasons"] == {"probe": "failed; the log has the cause"}


async def test_one_who_asks_and_leaves_does_not_stop_the_question(clock):
    health, probe = Health(clock=clock), Probe()
    probe.gate.clear()
    health.serve(probe)
    impatient = asyncio.create_task(answer(health))
    patient = asyncio.create_task(answer(health))
    await asyncio.sleep(0)
    impatient.cancel()
    probe.gate.set()
    assert (await patient)[0] == 200
    await health.close()
