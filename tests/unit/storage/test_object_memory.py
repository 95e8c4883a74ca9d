"""What is held in memory for each object, where something must be; and work that would hold up the event loop."""

from __future__ import annotations

import hashlib
import json
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from fakes.objects import MemoryStorage, MemoryStore

from pfmoc.errors import TooLarge
from pfmoc.objects.base import Entry
from pfmoc.objects.s3 import S3Store
from pfmoc.objects.sigv4 import Signer
from pfmoc.storage import layout
from pfmoc.storage.base import Inputs
from pfmoc.storage.layout import Places
from pfmoc.storage.s3 import S3Storage

COUNT = 20_000
SERIES = "home/chris/feeds/feed_12/pl-dircopy_34/data"
INPUTS = Inputs(jid="j", input_dirs=[SERIES, "other"], output_dir="out")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """What a part of a manifest takes is no more with more objects; here it shall not count."""
    monkeypatch.setattr(layout, "PART_BYTES", 64 << 10)


class Scans(MemoryStore):
    """Has very many objects, which exist only while they are listed, and forgets the parts of manifests."""

    async def pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        if prefix != f"{SERIES}/":
            async for page in super().pages(prefix, delimiter=delimiter, limit=limit):
                yield page
            return
        for at in range(0, COUNT, limit or 500):
            yield [_scan(number) for number in range(at, min(at + (limit or 500), COUNT))]

    async def write(self, name: str, content: bytes, *, kind: str = "application/json") -> None:
        if not name.endswith(".jsonl"):
            await super().write(name, content, kind=kind)


def _scan(number: int) -> Entry:
    digest = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
    return Entry(f"{SERIES}/{number // 1000:04}/IM-{number:07}.dcm", 500_000 + number, digest, datetime.now(UTC))


@contextmanager
def measured(bound: int) -> Iterator[None]:
    """Fail when more bytes than this are taken for each object at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] / COUNT
    finally:
        tracemalloc.stop()
    print(f"{peak:.0f} bytes for each object")  # noqa: T201
    assert peak < bound, f"{peak:.0f} bytes for each object"


async def test_an_input_of_several_directories_is_held_lean():
    store = Scans({"other/x": b"1"})
    with measured(500):
        await MemoryStorage(store, limit=COUNT + 1).stage(INPUTS)
    head = json.loads(store.objects["key-j/input.json"])
    assert (head["files"], head["bytes"]) == (COUNT + 1, sum(_scan(number).size for number in range(COUNT)) + 1)


async def test_a_listing_holds_names_only():
    store, parts = MemoryStore(), layout.Parts()
    md5 = "0" * 32
    lines = ({"path": f"{number:07}", "size": 1, "md5": md5, "sha256": md5 * 2} for number in range(COUNT))
    contents = [*filter(None, map(parts.add, lines)), parts.rest() or b""]
    store.objects |= {layout.part(Places("j").output(), number): content for number, content in enumerate(contents)}
    head = {"index": 0, "root": "out/", "parts": parts.count}
    store.objects["key-j/output.json"] = layout.document(head)
    with measured(300):
        assert len(await MemoryStorage(store, limit=1).listing(Inputs(jid="j", workers=1), "any")) == COUNT


async def test_an_input_that_is_held_in_memory_has_a_limit_of_its_own():
    store = MemoryStore({f"in/{number}": b"" for number in range(9)} | {"other/x": b"1"})
    storage = MemoryStorage(store, limit=20, gathered=8)
    assert (await storage.stage(Inputs(jid="j", input_dirs=["in"], output_dir="out"))).nfiles == 9
    with pytest.raises(TooLarge, match="more than 8 files, the limit where links are followed or inputs are several"):
        await storage.stage(Inputs(jid="j", input_dirs=["in", "other"], output_dir="out"))
    store.objects["in/l.chrislink"] = b"other"
    with pytest.raises(TooLarge, match="more than 8 files"):
        await storage.stage(Inputs(jid="j", input_dirs=["in"], output_dir="out"))


class NotingSigner(Signer):
    """Notes in which threads it signs what."""

    signed: dict[str, int] = {}  # noqa: RUF012 - of the one test

    def sign(self, method: str, url: str, **more: object) -> str:
        if "/in/" in url:
            self.signed[url] = threading.get_ident()
        return super().sign(method, url, **more)  # type: ignore[arg-type]


class MemoryS3(MemoryStore):
    """What S3 storage needs of its store beside objects."""

    base = "http://s3.example/bucket"
    signer = NotingSigner(access_key="a", secret_key="hush")


async def test_the_addresses_of_a_ticket_are_not_signed_on_the_event_loop():
    store = MemoryS3({f"in/{number}": b"1" for number in range(50)})
    assert not isinstance(store, S3Store)
    storage = S3Storage(store, limit=100)  # type: ignore[arg-type]
    inputs = Inputs(jid="j", input_dirs=["in"], output_dir="out")
    await storage.stage(inputs)
    await storage.data(inputs, lifetime_s=60)
    assert len(store.signer.signed) == 50
    assert threading.get_ident() not in store.signer.signed.values()
    lines = list(layout.lines(store.objects["key-j/signed/00000.jsonl"]))
    assert all("X-Amz-Signature=" in line["query"] for line in lines)
