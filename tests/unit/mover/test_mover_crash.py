"""A publisher that is killed over its work, in a container that Kubernetes starts no more."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from fakes.store import HalfDeafStore, tickets
from harness.pods import Pod
from harness.waiting import eventually

from pfmoc.data import Tickets

TICKET = {"ticket.json": b"{}"}


def pod(root, store, **more) -> Pod:
    pull, publish = tickets(store.base, **more)
    made = Pod(root, Tickets(pull=pull, publish=publish))
    (made.outgoing / "stalled").write_text("42")
    return made


def child_of(process: asyncio.subprocess.Process) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


async def test_it_begins_again_after_a_crash_and_publishes_all(tmp_path):
    async with HalfDeafStore(TICKET) as store:
        there = pod(tmp_path, store)
        process = await there.publisher()
        ending = asyncio.create_task(there.end(process))
        await eventually(lambda: "stalled" in store.wanted, what="the child to send")
        os.kill(child_of(process), signal.SIGKILL)
        store.release.set()
        ended = await ending
    assert (ended.status, ended.message["files"], ended.message["error"]) == (0, 1, None), ended
    assert "crashed with SIGKILL" in ended.log
    assert store.stored[-1] == "output.json"


async def test_the_signal_that_began_it_means_nothing_later(tmp_path):
    async with HalfDeafStore(TICKET) as store:
        there = pod(tmp_path, store)
        process = await there.publisher()
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: "stalled" in store.wanted, what="the child to send")
        os.kill(child_of(process), signal.SIGTERM)
        ending = asyncio.create_task(there.end(process))
        store.release.set()
        ended = await ending
    assert (ended.status, ended.message["files"]) == (0, 1), ended
    assert "crashed" not in ended.log


async def test_it_gives_up_at_the_deadline_and_says_why(tmp_path):
    async with HalfDeafStore(TICKET) as store:
        there = pod(tmp_path, store)
        process = await there.publisher("--now", "--deadline", "2")
        ending = asyncio.create_task(there._ended(process))
        # Each child is killed as it is born: one that works when the time is up has another reason to tell.
        late = time.monotonic() + 2.5
        while time.monotonic() < late and not ending.done():
            with suppress(IndexError, FileNotFoundError, ProcessLookupError):
                os.kill(child_of(process), signal.SIGKILL)
            await asyncio.sleep(0.01)
        ended = await ending
    assert (ended.status, "crashed with SIGKILL" in ended.log) == (1, True), ended
    assert ended.message["error"] == "it crashed again and again, the last time with SIGKILL"


async def test_a_failure_that_is_told_is_not_repeated(tmp_path):
    async with HalfDeafStore(TICKET) as store:
        ended = await pod(tmp_path, store, max_bytes=1).publish()
    assert (ended.status, len(store.looked)) == (1, 1), ended
    assert "the limit is 1" in ended.message["error"]
    assert not store.wanted
