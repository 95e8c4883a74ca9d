"""What the daemon asks of an object store: one container, and names in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

SMALL_MAX = 64 << 20
"""Bytes of an object that is read whole. Manifests are written in parts far below it."""


class Entry(NamedTuple):
    """An object, as a listing or a question for it tells. A tuple: there may be a million of them."""

    name: str
    size: int
    etag: str
    """MD5 of the content in hexadecimal; of a segmented object something else, which changes with the content."""
    modified: datetime
    segmented: bool = False
    """True when it is known that the object consists of others, so that ``etag`` is no MD5."""


class ObjectStore(ABC):
    """One container of an object store.

    Every method retries what may pass, with growing pauses, and signs in anew once when its token is refused. Names are quoted
    here; whoever calls gives them as they are.

    They raise ``NoSuchData`` (404), ``StorageFull`` (a quota, or no space) and ``StorageUnavailable`` (all else, after the last
    attempt: silence, 5xx, a refusal of the credentials). The texts name no credential and no address with one.
    """

    container: str
    """Its name."""

    @abstractmethod
    def pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        """Yield the objects whose names begin so, sorted by the bytes of their names, page by page.

        :param delimiter: leave out what has this after the prefix
        :param limit: of each page; a caller that wants one object needs no full page
        """

    @abstractmethod
    async def look(self, name: str) -> Entry | None:
        """Return what is known of an object; None when there is none."""

    @abstractmethod
    async def read(self, name: str, *, limit: int = SMALL_MAX) -> bytes:
        """Return the content of an object, or its beginning when it is longer than the limit."""

    @abstractmethod
    def open(self, name: str, *, etag: str | None = None) -> AsyncIterator[bytes]:
        """Yield the content of an object as it comes. A connection that breaks is taken up where it broke.

        :param etag: of the object that is meant; another of that name raises ``NoSuchData``
        """

    @abstractmethod
    async def write(self, name: str, content: bytes, *, kind: str = "application/json") -> None:
        """Write a small object. It is there whole, or not at all."""

    @abstractmethod
    async def delete(self, names: Iterable[str]) -> None:
        """Delete objects. Absent ones are fine; segments of a large one are objects of their own."""

    @abstractmethod
    async def copy(self, source: str, target: str) -> None:
        """Copy an object within the container, without moving it through here."""

    @abstractmethod
    async def check(self) -> None:
        """Ask whether the container is there and may be used."""

    @abstractmethod
    async def close(self) -> None:
        """Give connections back."""

    async def holds(self, prefix: str) -> bool:
        """True when there is an object whose name begins so."""
        async for page in self.pages(prefix, limit=1):
            return bool(page)
        return False

    async def sweep(self, prefix: str) -> None:
        """Delete every object whose name begins so."""
        # Deleted while listed: the next page begins after the last name of this one, whatever became of it.
        async for page in self.pages(prefix):
            await self.delete(entry.name for entry in page)


def instant(text: str) -> datetime:
    """Read the time of a listing, ``2026-11-21T17:15:33.123456`` with or without ``Z``."""
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
