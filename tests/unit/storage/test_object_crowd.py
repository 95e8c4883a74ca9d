"""Very many objects: what is known of them at any time stays small (faults 30)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import psutil
import pytest
from fakes.objects import MemoryStorage, MemoryStore

from pfmoc.errors import TooLarge
from pfmoc.metrics import Metrics
from pfmoc.objects.base import Entry
from pfmoc.storage import layout, zip_objects
from pfmoc.storage.base import ArchiveFile, ArchiveSource, Inputs
from pfmoc.storage.layout import Places

MIB = 1 << 20
LAG_MAX_S = 5.0
"""All others wait for one page, and not for the listing; what a page takes is milliseconds where nothing else is at work."""
MD5 = hashlib.md5(b"1", usedforsecurity=False).hexdigest()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
INPUTS = Inputs(jid="j", input_dirs=["in"], output_dir="out")


class Crowded(MemoryStore):
    """Has so many objects below ``in/``, which exist only while they are listed, and forgets the parts of manifests."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.written = 0
        self.peak = 0

    async def pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        if prefix != "in/":
            async for page in super().pages(prefix, delimiter=delimiter, limit=limit):
                yield page
            return
        step = min(limit or 10_000, 10_000)
        for at in range(0, self.count, step):
            await asyncio.sleep(0)  # a real store is waited for
            numbers = range(at, min(at + step, self.count))
            yield [Entry(f"in/{number:07}", 1, MD5, NOW) for number in numbers]

    async def write(self, name: str, content: bytes, *, kind: str = "application/json") -> None:
        self.written += len(content)
        self.peak = max(self.peak, psutil.Process().memory_info().rss)
        if not name.endswith(".jsonl"):
            await super().write(name, content, kind=kind)


async def test_a_prefix_of_a_million_objects_is_staged_while_it_is_listed():
    store = Crowded(1_000_000)
    before = psutil.Process().memory_info().rss
    metrics = Metrics()
    async with metrics.measured_loop():
        staged = await MemoryStorage(store, limit=1_000_000).stage(INPUTS)
    assert staged.nfiles == json.loads(store.objects["key-j/input.json"])["files"] == 1_000_000
    assert store.written > 90 * MIB, "it was written down"
    assert store.peak - before < 64 * MIB, "and not kept"
    lag = metrics.registry.get_sample_value("pfmoc_event_loop_lag_max_seconds")
    assert lag is not None
    assert 0 < lag < LAG_MAX_S


async def test_one_more_than_the_limit_is_refused_and_nothing_stays():
    store = Crowded(100_001)
    with pytest.raises(TooLarge, match="more than 100000 files"):
        await MemoryStorage(store, limit=100_000).stage(INPUTS)
    assert store.objects == {}


def published(count: int) -> MemoryStorage:
    """Storage with a job that has left so many files of one byte."""
    store = MemoryStore(page=10_000)
    places, parts, written = Places("j"), layout.Parts(), []
    for number in range(count):
        path = f"{number // 1000:03}/{number:06}"
        store.objects[f"out/{path}"] = b"1"
        written.append(parts.add({"path": path, "size": 1, "md5": MD5, "sha256": ""}))
    written.append(parts.rest())
    for number, content in enumerate(filter(None, written)):
        store.objects[layout.part(places.output(), number)] = content
    sums = {"files": count, "bytes": count, "allocated": count, "dropped_links": 0, "large": 0}
    head = {"index": 0, "root": "out/", "parts": parts.count, "published": 0, **sums}
    store.objects[layout.head(places.output())] = layout.document(head)
    return MemoryStorage(store, limit=count)


async def test_a_hundred_thousand_outputs_are_sealed_listed_archived_and_left_alone():
    count = 100_000
    storage = published(count)
    assert (await storage.seal(INPUTS)).files == count
    listed = await storage.listing(INPUTS, "any")
    assert (len(listed), listed[0], listed[-1]) == (count, "000/000000", "099/099999")
    before = peak = psutil.Process().memory_info().rss
    length = 0
    async with aclosing(zip_objects.stream(first(await storage.archive("j"), 20_000))) as pieces:
        async for piece in pieces:
            length += len(piece)
            peak = max(peak, psutil.Process().memory_info().rss) if length % 64 == 0 else peak
    assert length > 20_000 * 100
    assert peak - before < 64 * MIB
    await storage.discard("j")
    assert isinstance(storage.store, MemoryStore)
    assert len(storage.store.objects) == count


async def first(source: ArchiveSource, count: int) -> AsyncIterator[ArchiveFile]:
    """The beginning of an archive: each file costs threads their time, and the rest is more of the same."""
    async for file in source:
        yield file
        count -= 1
        if not count:
            return
