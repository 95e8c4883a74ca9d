"""What is published when something stands in the way: another worker, an earlier pod, a closed file, a store half away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fakes.store import BottomlessStore, tickets
from harness.pods import Pod

from pfmoc.data import Tickets
from pfmoc.mover import publish as publishing
from pfmoc.mover import wire
from pfmoc.mover.depot import stretches
from pfmoc.mover.report import Failed, Report
from pfmoc.mover.ticket import read_publish
from pfmoc.storage.workers import Stop

_MODES_COUNT = (
    ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-dac_override,-dac_read_search"]
    if os.geteuid() == 0
    else []
)
"""A prefix: root alone may read what is closed to its owner, and no pod's user is root."""


class KeepingStore(BottomlessStore):
    """Keeps what it is given. Answers ``status()`` instead, while that is not 0."""

    def __init__(self, *, status: Callable[[], int] = lambda: 0) -> None:
        super().__init__({"ticket.json": b"{}"})
        self.kept: dict[str, bytes] = {}
        self._status = status

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if status := self._status():
            return web.Response(status=status)
        if request.method != "PUT":
            return await super()._handle(request)
        content = await request.read()
        self.kept[request.path.removeprefix("/v1/AUTH_x/data/")] = content
        return web.Response(status=201, headers={"ETag": hashlib.md5(content, usedforsecurity=False).hexdigest()})

    def lines(self, index: int) -> list[dict[str, Any]]:
        """The manifest of a worker."""
        manifest = f"key-j/output-{index}" if index else "key-j/output"
        head = json.loads(self.kept[f"{manifest}.json"])
        parts = [self.kept[f"{manifest}/{number:05}.jsonl"] for number in range(head["parts"])]
        return [json.loads(line) for part in parts for line in part.splitlines()]

    def outputs(self) -> set[str]:
        """Paths of what is in the user's place."""
        return {name.removeprefix("out/") for name in self.kept if name.startswith("out/")}


def pod(root: Path, store: BottomlessStore, **more: Any) -> Pod:
    pull, publish = tickets(store.base, **more)
    return Pod(root, Tickets(pull=pull, publish=publish))


async def test_workers_keep_their_segments_apart_though_their_ticket_is_the_same(tmp_path):
    contents = [os.urandom(3 << 20) for _ in range(2)]
    async with KeepingStore() as store:
        for index, content in enumerate(contents):
            there = pod(tmp_path / str(index), store, segment_above=2 << 20, segment_bytes=1 << 20)
            (there.outgoing / "large").write_bytes(content)
            assert (await there.publish("--index", str(index))).status == 0
    for index, content in enumerate(contents):
        (line,) = store.lines(index)
        names = [each["name"] for each in line["segments"]]
        assert all(name.startswith(".pfmoc/segments/j/") for name in names), "the ticket gives no right to others"
        assert b"".join(store.kept[name] for name in names) == content


async def test_a_file_that_is_sent_again_leaves_no_segments_of_the_time_before(tmp_path):
    async with KeepingStore() as store:
        there = pod(tmp_path, store, segment_above=2 << 20, segment_bytes=1 << 20)
        for number in range(6):
            (there.outgoing / f"large-{number}").write_bytes(os.urandom(3 << 20))
        names = []
        for _ in range(2):
            assert (await there.publish()).status == 0
            names.append({name for name in store.kept if "segments" in name})
    assert names[0] == names[1]
    assert len(names[0]) == 18


@pytest.mark.parametrize(("size", "longest", "count"), [(25, 10, 3), (10_000, 10, 1000), (39_001, 40, 976)])
def test_no_file_has_more_segments_than_a_store_puts_together(size, longest, count):
    pieces = list(stretches(size, 10))
    assert (len(pieces), max(length for _, length in pieces)) == (count, longest)
    assert [at for at, _ in pieces] == [sum(length for _, length in pieces[:index]) for index in range(count)]
    assert sum(length for _, length in pieces) == size


class PartsStore(KeepingStore):
    """Takes large objects in parts, as S3 does; of ``refused`` it takes no second part."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: dict[str, dict[str, bytes]] = {}
        """Under way: parts by upload, which is called by its object's name."""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name, query = request.path.removeprefix("/v1/AUTH_x/data/"), request.query
        if "uploads" in query:
            self.uploads[name] = {}
            return web.Response(text=f"<UploadId>{name}</UploadId>")
        if "uploadId" not in query:
            return await super()._handle(request)
        if request.method == "DELETE":
            del self.uploads[query["uploadId"]]
            return web.Response(status=204)
        if request.method == "POST":
            parts = self.uploads.pop(query["uploadId"])
            self.kept[name] = b"".join(parts[number] for number in sorted(parts))
            return web.Response(text="<CompleteMultipartUploadResult/>")
        content = await request.read()
        if name == "out/refused" and query["partNumber"] == "2":
            return web.Response(status=400)
        self.uploads[query["uploadId"]][query["partNumber"]] = content
        return web.Response(headers={"ETag": hashlib.md5(content, usedforsecurity=False).hexdigest()})


@pytest.mark.parametrize("name", ["large", "refused"])
async def test_an_upload_in_parts_is_finished_or_given_up(tmp_path, name):
    content = os.urandom(3 << 20)
    key = {"access_key": "key", "secret_key": "secret"}
    async with PartsStore() as store:
        there = pod(tmp_path, store, kind="s3", s3=key, segment_above=2 << 20, segment_bytes=1 << 20)
        (there.outgoing / name).write_bytes(content)
        ended = await there.publish()
    assert not store.uploads, "parts that nobody puts together stay for ever"
    if name == "large":
        assert (ended.status, store.kept["out/large"]) == (0, content)
    else:
        assert (ended.status, ended.message["error"]) == (1, "the store refuses the request (400)")
        assert "out/refused" not in store.kept


async def test_what_cannot_be_read_is_named_and_all_else_is_published(tmp_path):
    async with KeepingStore() as store:
        there = pod(tmp_path, store)
        for number in range(50):
            (there.outgoing / f"f{number:02}").write_text(str(number))
        (there.outgoing / "f05").chmod(0)
        for name, mode in (("dark", 0), ("listed", 0o400), ("open", 0o755)):
            (there.outgoing / name).mkdir()
            (there.outgoing / name / "file").write_text(name)
            (there.outgoing / name).chmod(mode)
        try:
            ended = await there.publish(prefix=_MODES_COUNT)
        finally:
            for name in ("dark", "listed"):
                (there.outgoing / name).chmod(0o755)
    expected = {f"f{number:02}" for number in range(50) if number != 5} | {"open/file"}
    assert (ended.status, ended.message["files"]) == (1, 50), ended
    assert ended.message["error"].startswith("3 of the outputs could not be published: dark/, ")
    assert "f05" in ended.message["error"]
    assert "listed/file" in ended.message["error"]
    assert ended.message["error"].endswith(" (cannot be read: Permission denied)")
    assert store.outputs() == expected
    assert {line["path"] for line in store.lines(0)} == expected
    assert json.loads(store.kept["key-j/output.json"])["refused"] == 3


async def test_of_many_that_cannot_be_read_the_first_are_named_and_the_rest_is_counted(tmp_path):
    async with KeepingStore() as store:
        there = pod(tmp_path, store)
        for number in range(20):
            (there.outgoing / f"f{number:02}").touch(mode=0)
        ended = await there.publish(prefix=_MODES_COUNT)
    assert ended.status == 1
    assert ended.message["error"].startswith("20 of the outputs could not be published: f")
    assert ended.message["error"].endswith(" and 15 more (cannot be read: Permission denied)")


async def test_what_lies_too_deep_to_be_named_is_told_and_all_else_is_published(tmp_path):
    async with KeepingStore() as store:
        there = pod(tmp_path, store)
        (there.outgoing / "good").write_text("good")
        deep = os.open(there.outgoing, os.O_RDONLY)
        for _ in range(20):  # path by path, for no call takes it whole
            os.mkdir("d" * 250, dir_fd=deep)
            deep, above = os.open("d" * 250, os.O_RDONLY, dir_fd=deep), deep
            os.close(above)
        os.close(deep)
        ended = await there.publish()
    assert (ended.status, ended.message["files"], store.outputs()) == (1, 1, {"good"}), ended
    assert "1 of the outputs could not be published: ddd" in ended.message["error"]


async def test_what_is_about_to_be_sent_is_written_down_once_for_each_attempt(tmp_path):
    async with KeepingStore() as store:
        there = pod(tmp_path, store)
        for names in (("result", "half-done"), ("result", "more")):
            for path in there.outgoing.iterdir():
                path.unlink()
            for name in names:
                (there.outgoing / name).write_text(name)
            assert (await there.publish()).status == 0
    journals = [name.split("/") for name in store.kept if name.startswith("key-j/output/") and name.count("/") == 3]
    told = {
        attempt: {json.loads(line)["path"] for line in store.kept[f"key-j/output/{attempt}/{part}"].splitlines()}
        for *_, attempt, part in journals
    }
    last = json.loads(store.kept["key-j/output.json"])["attempt"]
    assert told.pop(last) == {"result", "more"}
    assert list(told.values()) == [{"result", "half-done"}], "so the daemon knows what only the first has sent"
    assert list(store.kept).index(f"key-j/output/{last}/00000.jsonl") < list(store.kept).index("out/more"), "before it is sent"


class Clock:
    """For ``wire``: waiting takes no time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        return time.time()


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("away_s", "arrives"), [(3000, True), (4000, False)])
async def test_a_store_that_knows_no_key_for_now_is_waited_for_until_the_deadline(tmp_path, monkeypatch, status, away_s, arrives):
    clock = Clock()
    monkeypatch.setattr(wire, "time", clock)

    def broken() -> int:
        return status if clock.now < away_s else 0

    async with KeepingStore(status=broken) as store:
        there = pod(tmp_path, store, connections=1)
        (there.outgoing / "result").write_text("42")
        report = Report(phase="publish")

        def work() -> None:
            publishing.publish(
                read_publish(there.root / "publish.json"),
                there.outgoing,
                report,
                index=0,
                until=3600,
                stop=Stop(),
                cancelled=lambda: None,
            )

        if arrives:
            await asyncio.to_thread(work)
        else:
            with pytest.raises(Failed, match=rf"ticket \({status}\): its key was changed, or its container servers are away"):
                await asyncio.to_thread(work)
            assert clock.now == pytest.approx(3600)
    assert store.outputs() == ({"result"} if arrives else set())
