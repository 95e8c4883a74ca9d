"""A job that is cancelled while its output is being published."""

from __future__ import annotations

import asyncio
import threading
import time

from fakes.store import BROKEN, HalfDeafStore, tickets
from harness.pods import Pod
from harness.waiting import eventually

from pfmoc.data import Tickets
from pfmoc.mover import publish as publishing
from pfmoc.mover.report import Report
from pfmoc.mover.ticket import read_publish
from pfmoc.storage.workers import Stop

TICKET = {"ticket.json": b"{}"}


def pod(root, store, *names: str) -> Pod:
    pull, publish = tickets(store.base)
    made = Pod(root, Tickets(pull=pull, publish=publish))
    for name in names:
        (made.outgoing / name).write_text(name)
    return made


async def test_it_ends_at_once_whatever_it_waits_for_and_writes_nothing_more(tmp_path):
    async with HalfDeafStore(TICKET) as store:
        there = pod(tmp_path, store, "stalled", "busy", "well")
        process = await there.publisher()
        ending = asyncio.create_task(there.end(process))
        await eventually(lambda: {"stalled", "busy", "well"} <= set(store.wanted), what="everything to be on its way")
        store.documents.clear()
        async with asyncio.timeout(20):  # less than it waits for an answer, or was told to
            ended = await ending
    assert (ended.status, ended.message["error"], ended.message["files"]) == (0, None, 1), ended
    assert "the job was cancelled: nothing more is published" in ended.log
    assert store.stored == ["00000.jsonl", "well"], "what it was about to send, and no manifest"


async def test_an_answer_that_tells_nothing_of_the_job_is_no_cancel(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "LOOK_S", 0.01)
    cancelled: list[str] = []
    trouble = [200, *(401, 403, 410, 429, 500, 503, BROKEN) * 2]
    async with HalfDeafStore(TICKET, looks=trouble) as store:
        there = pod(tmp_path, store, "stalled")
        report = Report(phase="publish")
        work = asyncio.to_thread(
            publishing.publish,
            read_publish(there.root / "publish.json"),
            there.outgoing,
            report,
            index=0,
            until=time.monotonic() + 60,
            stop=Stop(),
            cancelled=lambda: cancelled.append("yes"),
        )
        task = asyncio.create_task(work)
        await eventually(lambda: len(store.looked) > len(trouble), what="all that trouble to be met")
        assert not cancelled
        store.documents.clear()
        await eventually(lambda: cancelled, what="the cancel to be seen all the same")
        store.documents.update(TICKET)
        store.release.set()
        await task
        await eventually(lambda: all(each.name != "mover-watch" for each in threading.enumerate()), what="the watch to end")
    assert (report.files, report.error) == (1, None)
    assert store.stored == ["00000.jsonl", "stalled", "00000.jsonl", "output.json"]
