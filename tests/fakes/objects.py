"""An object store in memory, and what pods put there.

Faults::

    store.unlisted.add(name)     # a listing does not show it yet
    store.late[name] = 2         # it is denied twice, and then there
    storage.refusal = error      # raised wherever a large output is put together
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pfmoc.data import Tickets
from pfmoc.errors import NoSuchData, PfmocError, StorageRefused
from pfmoc.objects.base import SMALL_MAX, Entry, ObjectStore
from pfmoc.storage import layout
from pfmoc.storage.layout import Places
from pfmoc.storage.object_storage import ObjectStorage


class MemoryStore(ObjectStore):
    """Keeps objects in a dictionary. Its pages are small, so that there are several."""

    container = "memory"

    def __init__(self, objects: Mapping[str, bytes] | None = None, *, page: int = 3) -> None:
        self.objects = dict(objects or {})
        self.page = page
        self.unlisted: set[str] = set()
        self.late: dict[str, int] = {}
        self.modified: dict[str, datetime] = {}
        """When, of objects of which that is known; all others are as new as can be."""

    async def pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        names = sorted((name for name in self.objects if name.startswith(prefix) and name not in self.unlisted), key=str.encode)
        if delimiter:
            names = [name for name in names if delimiter not in name[len(prefix) :]]
        step = min(limit or self.page, self.page)
        for at in range(0, len(names), step):
            yield [self._entry(name) for name in names[at : at + step] if name in self.objects]

    async def look(self, name: str) -> Entry | None:
        return self._entry(name) if name in self.objects else None

    async def read(self, name: str, *, limit: int = SMALL_MAX) -> bytes:
        if self.late.get(name, 0) or name not in self.objects:
            self.late[name] = self.late.get(name, 1) - 1
            raise NoSuchData("No such data in storage")
        return self.objects[name][:limit]

    async def open(self, name: str, *, etag: str | None = None) -> AsyncIterator[bytes]:  # noqa: ARG002 - nobody changes it
        yield await self.read(name)

    async def write(self, name: str, content: bytes, *, kind: str = "application/json") -> None:  # noqa: ARG002 - not kept
        self.objects[name] = content

    async def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self.objects.pop(name, None)

    async def copy(self, source: str, target: str) -> None:
        self.objects[target] = self.objects[source]

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _entry(self, name: str) -> Entry:
        content = self.objects[name]
        return Entry(
            name,
            len(content),
            hashlib.md5(content, usedforsecurity=False).hexdigest(),
            self.modified.get(name) or datetime.now(UTC),
        )


class MemoryStorage(ObjectStorage):
    """Storage in memory, whose tickets open nothing."""

    env = "swift"
    refusal: PfmocError | None = None

    async def _join(self, head: Mapping[str, Any], line: Mapping[str, Any]) -> None:
        assert isinstance(self.store, MemoryStore)
        if self.refusal is not None:
            raise self.refusal
        names = [segment["name"] for segment in line["segments"]]
        if any(name not in self.store.objects for name in names):
            raise StorageRefused("a segment is gone")
        self.store.objects[head["root"] + line["path"]] = b"".join(self.store.objects[name] for name in names)

    async def _tickets(self, *asked: Any) -> Tickets:  # noqa: ARG002 - see above
        return Tickets(pull="{}", publish="{}")


def publish(
    store: MemoryStore,
    files: Mapping[str, bytes],
    *,
    large: Mapping[str, Sequence[str]] | None = None,
    jid: str = "j",
    index: int = 0,
    attempt: str = "a",
    root: str = "out/",
    concluded: bool = True,
) -> None:
    """Put there what a worker publishes.

    :param large: names of the segments of each large file
    :param concluded: False: it was ended before it had written its manifest
    """
    manifest, large = Places(jid).output(index), large or {}
    journal = b"".join(layout.document({"path": path}) + b"\n" for path in (*files, *large))
    store.objects[layout.part(f"{manifest}/{attempt}", 0)] = journal
    store.objects |= {root + path: content for path, content in files.items()}
    if not concluded:
        return
    rows: list[dict[str, Any]] = [
        {"path": path, "size": len(content), "md5": "", "sha256": ""} for path, content in files.items()
    ]
    rows += [{"path": path, "size": 0, "segments": [{"name": name} for name in names]} for path, names in large.items()]
    store.objects[layout.part(manifest, 0)] = b"".join(layout.document(row) + b"\n" for row in rows)
    sums = {"files": len(rows), "bytes": sum(map(len, files.values())), "allocated": 0, "dropped_links": 0, "large": len(large)}
    head = {"index": index, "root": root, "attempt": attempt, "parts": 1, "published": 0, **sums}
    store.objects[layout.head(manifest)] = layout.document(head)
