"""Find the objects that a job's input consists of: those below its prefixes, and all that links among them lead to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from pfmoc.errors import NoSuchData, TooLarge
from pfmoc.objects.base import Entry, ObjectStore
from pfmoc.storage import links
from pfmoc.storage.links import BadLink, Link
from pfmoc.storage.paths import BadPath, checked, is_below
from pfmoc.storage.trees import LINK_SUFFIX

_LINKS_AT_ONCE = 16


@dataclass(kw_only=True, slots=True)
class Gathered:
    """What was found."""

    entries: dict[str, bytes] = field(default_factory=dict)
    """Every object once, links included: what ``packed`` keeps of it, by name."""
    links: dict[str, Link] = field(default_factory=dict)
    tops: dict[str, bool] = field(default_factory=dict)
    """What was listed, and whether it is a prefix (True) or one object."""


def packed(entry: Entry) -> bytes:
    """What a manifest tells of an object beside its name, as one value: an ``Entry`` takes five times the memory."""
    return f"{entry.size} {entry.etag}".encode()


def unpacked(content: bytes) -> tuple[int, str]:
    """Return size and etag."""
    size, _, etag = content.decode().partition(" ")
    return int(size), etag


class Gathering:
    """Follows inputs and links in a store.

    :param output: what the job writes below: no input and no link may hold it, or the job would be fed with what it makes
    :param limit: of objects
    """

    def __init__(self, store: ObjectStore, *, output: str | None, limit: int) -> None:
        self.found = Gathered()
        self._store = store
        self._output = output
        self._limit = limit
        self._pending: list[str] = []
        self._turns = asyncio.Semaphore(_LINKS_AT_ONCE)

    async def add(self, path: str) -> bool:
        """Gather an input and all that it leads to. One that is not there is empty: a store has no empty directories.

        :returns: True when it is a prefix
        :raises BadLink: a link cannot be followed
        :raises TooLarge: there are more objects than the limit
        """
        is_prefix = await self.kind(path) is not False
        self._pending.append(path)
        while self._pending:
            await self._visit(self._pending.pop())
        return is_prefix

    async def kind(self, path: str) -> bool | None:
        """True for a prefix that has objects, False for an object, None where there is nothing."""
        if any(is_below(path, top) for top, is_prefix in self.found.tops.items() if is_prefix and path != top):
            if path in self.found.entries:
                return False
        elif path in self.found.tops:
            return self.found.tops[path]
        if await self._store.holds(f"{path}/"):
            return True
        return None if await self._store.look(path) is None else False

    async def _visit(self, path: str) -> None:
        above = path
        while above:
            if self.found.tops.get(above) or path in self.found.tops:
                return
            above = above.rpartition("/")[0]
        is_prefix = await self.kind(path)
        if is_prefix is False:
            entry = await self._store.look(path)
            self.found.tops[path] = False
            await self._take([entry] if entry else [])
            return
        self.found.tops[path] = True
        async for page in self._store.pages(f"{path}/"):
            await self._take([entry for entry in page if not entry.name.endswith("/")])

    async def _take(self, entries: Sequence[Entry]) -> None:
        new = [entry for entry in entries if entry.name not in self.found.entries]
        self.found.entries.update((entry.name, packed(entry)) for entry in new)
        if len(self.found.entries) > self._limit:
            # The caller may allow a plain prefix more: of that nothing is kept.
            raise TooLarge(
                f"The input has more than {self._limit} files, the limit where links are followed or inputs are several"
            )
        async with asyncio.TaskGroup() as group:
            for entry in new:
                if entry.name.endswith(LINK_SUFFIX):
                    group.create_task(self._follow(entry.name))

    async def _follow(self, name: str) -> None:
        async with self._turns:
            try:
                content = await self._store.read(name, limit=links.CONTENT_MAX + 1)
            except NoSuchData:
                raise BadLink(name, "vanished while it was read") from None
            target = links.parse(name, content)
            try:
                goal = checked(target)
            except BadPath as bad:
                raise BadLink(name, f"has a target that {bad.reason}") from None
            if goal == name:
                raise BadLink(name, "leads to itself")
            if self._output is not None and is_below(self._output, goal):
                raise BadLink(name, "leads to a directory that holds the job's own output")
            is_prefix = await self.kind(goal)
        if is_prefix is None:
            raise BadLink(name, f"leads nowhere: there is no {ascii(target)[1:-1]}")
        self.found.links[name] = (links.to_directory if is_prefix else links.to_file)(target, goal)
        self._pending.append(goal)


async def plain(store: ObjectStore, path: str, *, limit: int) -> AsyncIterator[Entry]:
    """Yield the objects below a prefix, as long as there is no link among them. Remembers none.

    :raises HasLinks: there is one
    :raises TooLarge: there are more than the limit
    """
    count = 0
    open_names: list[str] = []
    async for page in store.pages(f"{path}/"):
        for entry in page:
            if entry.name.endswith("/"):
                continue
            if entry.name.endswith(LINK_SUFFIX):
                raise HasLinks
            count += 1
            if count > limit:
                raise TooLarge(f"The input has more than {limit} files, the limit")
            # Sorted by bytes: between an object and those below it come only names that begin with its own.
            while open_names and not entry.name.startswith(open_names[-1]):
                open_names.pop()
            for name in open_names:
                if entry.name.startswith(f"{name}/"):
                    raise BadLink(entry.name, f"would lie below {ascii(name)[1:-1]}, which is a file")
            open_names.append(entry.name)
            yield entry


class HasLinks(Exception):
    """The input must be gathered as a whole."""
