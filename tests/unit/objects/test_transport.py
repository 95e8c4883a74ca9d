"""The daemon's requests to a store that fails (faults 8)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from fakes.swift import Swift
from harness.store_proxy import StoreProxy, proxied

from pfmoc.backoff import Backoff
from pfmoc.errors import NoSuchData, StorageFull, StorageUnavailable
from pfmoc.objects.identity import V1Identity
from pfmoc.objects.swift import SwiftStore
from pfmoc.objects.transport import Patience

HASTY = Patience(attempts=4, backoff=Backoff(first_s=0.01, longest_s=0.05, factor=2.0), window_s=0.2)
CONTENT = os.urandom(1 << 20)


@pytest.fixture
async def swift() -> AsyncIterator[Swift]:
    async with Swift() as swift:
        yield swift


@pytest.fixture
async def proxy(swift: Swift) -> AsyncIterator[StoreProxy]:
    async with proxied(swift.url) as proxy:
        yield proxy


@asynccontextmanager
async def opened(swift: Swift, front: str, *, patience: Patience = HASTY, **how: Any) -> AsyncIterator[SwiftStore]:
    identity = V1Identity(auth_url=f"{front}/auth/v1.0", user=swift.user, key=swift.key, patience=patience)
    store = SwiftStore(identity=identity, container="data", patience=patience, **how)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(swift: Swift, proxy: StoreProxy) -> AsyncIterator[SwiftStore]:
    async with opened(swift, proxy.url) as store:
        yield store


async def whole(store: SwiftStore, name: str, *, etag: str | None = None) -> bytes:
    return b"".join([piece async for piece in store.open(name, etag=etag)])


@pytest.mark.parametrize("status", [408, 422, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again_and_not_for_ever(swift, proxy, store, status):
    swift.put("a", b"1")
    proxy.fail(path="/data/a", status=status, times=HASTY.attempts - 1)
    assert await store.read("a") == b"1"
    proxy.fail(path="/data/a", status=status, times=HASTY.attempts)
    with pytest.raises(StorageUnavailable, match=f"answered {status}"):
        await store.read("a")
    assert proxy.count("GET", "/data/a") == 2 * HASTY.attempts


async def test_a_store_that_says_when_to_come_again_is_heeded(swift, proxy, store):
    swift.put("a", b"1")
    proxy.fail(path="/data/a", status=503, headers={"Retry-After": "1"})
    began = time.monotonic()
    assert await store.read("a") == b"1"
    assert time.monotonic() - began >= 1


def test_those_who_failed_together_do_not_come_again_together():
    firsts = [next(Patience().pauses()) for _ in range(50)]
    longest = Patience().backoff.first_s
    assert all(longest * 2 / 3 <= pause <= longest for pause in firsts)
    assert max(firsts) - min(firsts) > longest / 10


async def test_a_token_that_ends_is_replaced_once_for_all(swift, proxy, store):
    for number in range(20):
        swift.put(f"{number}", b"1")
    await store.read("0")
    swift.revoke()
    await asyncio.gather(*(store.read(f"{number}") for number in range(20)))
    assert swift.logins == 2
    swift.deaf = True
    before = len(proxy.seen)
    with pytest.raises(StorageUnavailable, match="refuses this server's credentials"):
        await store.read("0")
    assert swift.logins == 3
    assert len(proxy.seen) - before == 3, "a question, a login, the question again"


@pytest.mark.parametrize(
    ("status", "error"), [(404, NoSuchData), (403, StorageUnavailable), (507, StorageFull), (413, StorageFull)]
)
async def test_what_will_not_pass_fails_at_once(swift, proxy, store, status, error):
    swift.put("a", b"1")
    proxy.fail(path="/data/a", status=status, times=10)
    with pytest.raises(error):
        await store.read("a")
    assert proxy.count("GET", "/data/a") == 1


async def test_a_body_that_breaks_off_goes_on_where_it_was(swift, proxy, store):
    swift.put("large", CONTENT)
    ranges: list[str | None] = []
    proxy.watch = lambda request: ranges.append(request.headers.get("Range")) if "/large" in request.path else None
    proxy.fail(path="/large", cut=300_000)
    proxy.fail(path="/large", cut=300_000)
    assert await whole(store, "large") == CONTENT
    assert [text is None for text in ranges] == [True, False, False]


async def test_what_became_another_meanwhile_is_not_put_together(swift, proxy, store):
    swift.put("large", CONTENT)
    proxy.fail(path="/large", cut=300_000)
    pieces = store.open("large")
    first = await anext(pieces)
    swift.put("large", os.urandom(len(CONTENT)))
    assert CONTENT.startswith(first)
    with pytest.raises(NoSuchData, match="changed meanwhile"):
        _ = [piece async for piece in pieces]
    with pytest.raises(NoSuchData, match="changed meanwhile"):
        await whole(store, "large", etag="0" * 32)


async def test_bytes_that_are_not_those_of_the_digest_are_fetched_again_or_break_off(swift, proxy, store):
    swift.put("small", b"what was stored")
    proxy.fail(path="/small", damage=True, times=2)
    assert await store.read("small") == b"what was stored"
    assert proxy.count("GET", "/small") == 3
    proxy.fail(path="/small", damage=True)
    assert await store.read("small", limit=4) in (b"what", bytes([ord("w") ^ 0xFF]) + b"hat"), "of a beginning nobody can tell"
    swift.put("large", CONTENT)
    proxy.fail(path="/large", damage=True, cut=300_000)
    with pytest.raises(StorageUnavailable, match="damaged"):
        await whole(store, "large")


async def test_a_write_that_arrives_damaged_is_made_again(swift, proxy, store):
    proxy.fail(method="PUT", status=422, times=2)
    await store.write("a", b"{}")
    assert swift.objects["a"] == b"{}"
    proxy.fail(method="PUT", cut=0)  # done, and nobody was told
    await store.write("a", b"[]")
    assert swift.objects["a"] == b"[]"


async def test_a_store_that_drips_is_given_up(swift, proxy, store):
    swift.put("a", bytes(100_000))
    await store.look("a")
    drip = proxy.fail(path="/data/a", drip=0.01)
    assert await store.read("a") == bytes(100_000), "the next attempt did not drip"
    assert drip.times == 0
    proxy.fail(path="/data/a", drip=0.01, times=100)
    began = time.monotonic()
    with pytest.raises(StorageUnavailable, match="too slowly"):
        await store.read("a")
    with pytest.raises(StorageUnavailable, match="too slowly"):
        await whole(store, "a")
    assert time.monotonic() - began < 2 * HASTY.attempts * (HASTY.window_s + 1)


async def test_a_store_that_says_nothing_is_given_up(swift, proxy):
    async with opened(swift, proxy.url, patience=replace(HASTY, attempts=2, silence_s=0.2)) as store:
        await store.check()
        swift.frozen = True
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match="does not answer"):
            await store.read("a")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("most", [10_000, 999], ids=["Swift's own", "the cluster's, which is lower"])
async def test_a_listing_is_read_to_its_end_whatever_the_size_of_a_page(swift, proxy, store, most):
    names = sorted(f"in/{number:06}" for number in range(25_001))
    swift.fill([*names, "in", "in-", "in.txt", "in2/x"])
    swift.most = most
    proxy.fail(path="marker=", status=503)
    assert [entry.name async for page in store.pages("in/") for entry in page] == names
    assert proxy.count("GET", "marker=") >= 25_001 // most
    assert await store.holds("in/")
    assert not await store.holds("in/x")
