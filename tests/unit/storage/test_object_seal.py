"""What a run has published, by a store that shows things late, and after attempts that were interrupted."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from fakes.objects import MemoryStorage, MemoryStore, publish
from fakes.swift import Swift
from harness.store_proxy import proxied

from pfmoc.backoff import Backoff
from pfmoc.errors import NotPublished, StorageFull, StorageRefused, StorageUnavailable
from pfmoc.objects.identity import V1Identity
from pfmoc.objects.rights import Rights
from pfmoc.objects.swift import SwiftStore
from pfmoc.objects.transport import Patience
from pfmoc.storage import layout, object_storage
from pfmoc.storage.base import Inputs
from pfmoc.storage.swift import SwiftStorage

ONE = Inputs(jid="j", output_dir="out", workers=1)
TWO = Inputs(jid="j", output_dir="out", workers=2)
HEAD, SECOND = "key-j/output.json", "key-j/output-1.json"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(object_storage, "_LATE", Backoff(first_s=0.001))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore({"key-j/input.json": b"{}"})


@pytest.fixture
def storage(store) -> MemoryStorage:
    return MemoryStorage(store, limit=100)


async def test_a_head_that_no_listing_has_yet_is_found(storage, store):
    publish(store, {"a": b"1"}, large={"big": ["s/0", "s/1"]})
    publish(store, {"b": b"22"}, index=1)
    store.objects |= {"s/0": b"begin", "s/1": b"end"}
    store.unlisted |= {HEAD, SECOND}
    sealed = await storage.seal(TWO, published=True)
    assert (sealed.files, sealed.size) == (3, 3)
    assert store.objects["out/big"] == b"beginend"
    assert await storage.listing(TWO, "any") == ["a", "b", "big"]
    assert await storage.upload(TWO, "out") == 3
    assert [file.name async for file in await storage.archive("j", workers=2)] == ["a", "big", "b"]


async def test_where_the_number_of_workers_is_not_known_a_listing_tells(storage, store):
    publish(store, {"a": b"1"})
    publish(store, {"b": b"1"}, index=1)
    store.unlisted.add(HEAD)
    assert await storage.listing(Inputs(jid="j"), "any") == ["a", "b"]


async def test_a_head_that_comes_late_is_waited_for(storage, store):
    publish(store, {"a": b"1"})
    store.late[HEAD] = 3
    assert (await storage.seal(ONE, published=True)).files == 1


async def test_a_head_that_does_not_come_is_a_failure_only_of_a_run_that_says_it_has_published(storage, store):
    publish(store, {"a": b"1"})
    with pytest.raises(NotPublished, match="worker 1 has not said what it published"):
        await storage.seal(TWO, published=True)
    assert (await storage.seal(TWO)).files == 1, "a worker whose pull failed says nothing"


@pytest.mark.parametrize("gone", ["s/1", "key-j/output/00000.jsonl"])
async def test_what_is_gone_is_looked_for_a_few_times_and_given_up(storage, store, gone):
    publish(store, {}, large={"big": ["s/0", "s/1"]})
    store.objects |= {"s/0": b"0", "s/1": b"1"}
    del store.objects[gone]
    with pytest.raises(NotPublished):
        await storage.seal(ONE, published=True)


async def test_a_quota_that_is_full_is_final_and_an_outage_is_not(storage, store):
    publish(store, {}, large={"big": []})
    storage.refusal = StorageFull("the quota is used up")
    with pytest.raises(NotPublished, match="the quota is used up"):
        await storage.seal(ONE)
    storage.refusal = StorageUnavailable("it answered 503")
    with pytest.raises(StorageUnavailable):
        await storage.seal(ONE)


# Attempts


async def test_what_only_an_interrupted_attempt_has_published_goes(storage, store):
    publish(store, {"both": b"1", "first": b"1", "other-worker": b"1"}, attempt="one")
    publish(store, {"killed": b"1"}, attempt="two", concluded=False)
    publish(store, {"both": b"2"}, attempt="three")
    publish(store, {"other-worker": b"2"}, index=1)
    store.objects["out/user"] = b"nobody's output"
    assert (await storage.seal(TWO, published=True)).files == 2
    assert {name for name in store.objects if name.startswith("out/")} == {"out/both", "out/other-worker", "out/user"}


async def test_what_was_there_before_the_job_stays_though_an_attempt_meant_to_write_it(storage, store):
    publish(store, {"mine": b"1"}, attempt="one", concluded=False)
    publish(store, {"new": b"1"}, attempt="two")
    store.modified["out/mine"] = datetime(2026, 1, 1, tzinfo=UTC)
    await storage.seal(ONE, published=True)
    assert "out/mine" in store.objects


async def test_what_users_put_there_afterwards_stays(storage, store):
    publish(store, {"name": b"1"}, attempt="one")
    publish(store, {"new": b"1"}, attempt="two")
    await storage.seal(ONE, published=True)
    store.objects["out/name"] = b"put there by a user, after the end"
    await storage.upload(ONE, "out")
    assert "out/name" in store.objects


async def test_nothing_goes_while_it_is_not_known_what_the_last_attempt_has_published(storage, store):
    publish(store, {"first": b"1"}, attempt="one", index=1, concluded=False)
    publish(store, {"a": b"1"})
    await storage.seal(TWO)
    assert "out/first" in store.objects


# Swift


@pytest.fixture
async def swift():
    async with Swift() as swift:
        yield swift


def opened(swift: Swift, url: str) -> SwiftStorage:
    identity = V1Identity(auth_url=f"{url}/auth/v1.0", user=swift.user, key=swift.key)
    store = SwiftStore(identity=identity, container="data", patience=Patience(attempts=2, backoff=Backoff(first_s=0.001)))
    return SwiftStorage(store, Rights(store, key="k", secret="s", slot=1), limit=10)


async def test_more_segments_than_swift_takes_are_refused_with_the_number(swift):
    storage = opened(swift, swift.url)
    rows = [{"name": f"s/{number}", "size": 1, "etag": ""} for number in range(layout.SEGMENTS_MAX + 1)]
    with pytest.raises(StorageRefused, match=re.escape("big is in 1001 segments, and the store puts 1000 together")):
        await storage._join({"root": "out/"}, {"path": "big", "segments": rows})
    await storage._join({"root": "out/"}, {"path": "big", "segments": rows[1:]})
    assert "out/big" in swift.objects
    await storage.close()


@pytest.mark.parametrize(
    ("status", "error"), [(400, StorageRefused), (413, StorageFull), (403, StorageUnavailable), (503, StorageUnavailable)]
)
async def test_a_refusal_of_swift_is_told_from_an_outage(swift, status, error):
    async with proxied(swift.url) as proxy:
        storage = opened(swift, proxy.url)
        proxy.fail(method="PUT", path="out/big", status=status, times=10)
        with pytest.raises(error):
            await storage._join({"root": "out/"}, {"path": "big", "segments": []})
        await storage.close()
