"""Memory of one kind of object: listed, then watched. Answers from it cost the cluster nothing.

It is a copy, and says how old: ``age_s``. What is kept of an object is only what ``reduce`` makes of it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pfmoc.backoff import Backoff
from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import ClusterUnavailable, Gone, TooBusy
from pfmoc.cluster.watch import watch
from pfmoc.errors import PfmocError

_log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 200
"""Objects of one page of a listing: some 2 MB of JSON, which are read in 20 ms."""
WATCH_S = 30
"""Seconds that a watch lasts, give or take a sixth: by so much and the grace of ``watch``, a stall is found."""
HEALTHY_S = 1.0
"""A watch that ends sooner, and without a word, is a failure like any other."""
TOMBSTONES = 10_000
"""Removed objects whose version is remembered, lest a late event bring them back."""
FAILURES_TO_RELIST = 3
"""Watches that fail one after the other, until the version that they begin at is given up: it may be one that the cluster does
not have, as after etcd was restored."""
RELIST_TRIES = 3
"""Listings begun anew because the cluster forgot the place in them, before it counts as a failure."""

_BACKOFF = Backoff(first_s=0.5, longest_s=15.0, factor=2.0)


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    value: T
    uid: str
    version: int


class Informer(Generic[T]):
    """What is there of one kind. Entered once; entering does not wait until anything is known.

    :param path: of the collection, such as ``/api/v1/namespaces/x/pods``
    :param reduce: makes of an object the little that is kept; None for one that is not to be kept
    :param labels: label selector
    :param fields: field selector
    :param watch_s: for tests, as ``WATCH_S``
    :param backoff: for tests
    """

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        reduce: Callable[[Mapping[str, Any]], T | None],
        *,
        labels: str = "",
        fields: str = "",
        watch_s: int = WATCH_S,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self._cluster = cluster
        self._path = path
        self._reduce = reduce
        self._query = {"labelSelector": labels} if labels else {}
        if fields:
            self._query["fieldSelector"] = fields
        self._watch_s = watch_s
        self._backoff = backoff
        self._kept: dict[str, _Kept[T]] = {}
        self._tombstones: OrderedDict[str, int] = OrderedDict()
        self._version: str | None = None
        self._newest = 0
        self._listening: list[Callable[[str, T | None, T | None], None]] = []
        self._synced = asyncio.Event()
        self._heard = time.monotonic()
        self._trouble = "the cluster has not been listed yet"
        self.lists = 0
        """Listings made so far."""

    async def __aenter__(self) -> Self:
        self._heard = time.monotonic()
        self._task = asyncio.create_task(self._run(), name=f"informer {self._path}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    @property
    def synced(self) -> bool:
        """True once everything has been listed; it stays so."""
        return self._synced.is_set()

    async def wait_synced(self, deadline_s: float) -> None:
        """Wait until everything has been listed.

        :raises ClusterUnavailable: it has not been within the deadline
        """
        try:
            async with asyncio.timeout(deadline_s):
                await self._synced.wait()
        except TimeoutError:
            raise ClusterUnavailable(f"{self._path} could not be listed within {deadline_s:g} s: {self._trouble}") from None

    @property
    def age_s(self) -> float | None:
        """Seconds since the cluster last confirmed what is known; None while it is being watched."""
        if self._trouble:
            return time.monotonic() - self._heard
        return self._cluster.silent_s

    @property
    def trouble(self) -> str:
        """Why there is an age, in words; empty when there is none or only the API server's silence."""
        return self._trouble

    def get(self, name: str) -> T | None:
        """What is kept of the object of that name."""
        kept = self._kept.get(name)
        return None if kept is None else kept.value

    def values(self) -> list[T]:
        """What is kept of each object."""
        return [kept.value for kept in self._kept.values()]

    def items(self) -> list[tuple[str, T]]:
        """The same, with names."""
        return [(name, kept.value) for name, kept in self._kept.items()]

    def on_change(self, listener: Callable[[str, T | None, T | None], None]) -> None:
        """Have this called with name, what was kept and what is now, at each change. It must be quick, and raise nothing."""
        self._listening.append(listener)

    def put(self, thing: Mapping[str, Any]) -> None:
        """Take what the cluster answered to a write of our own, before the watch tells of it. What is older is left out."""
        self._take(thing)

    def forget(self, name: str) -> None:
        """Take it that the cluster has removed the object of that name, as it has just said."""
        kept = self._kept.get(name)
        if kept is not None:
            self._bury(name, kept.version)
            self._set(name, None)

    async def _run(self) -> None:
        pauses, failures = self._backoff.pauses(), 0
        trouble: PfmocError
        while True:
            try:
                if self._version is None:
                    await self._list()
                await self._follow()
                pauses, failures = self._backoff.pauses(), 0
                continue
            except PfmocError as error:
                trouble = error
            except Exception as error:  # noqa: BLE001 - without this task, answers would freeze in silence
                _log.exception("what the cluster sent could not be read", extra={"path": self._path})
                trouble = ClusterUnavailable(f"the cluster sends what cannot be read: {type(error).__name__}")
            failures += 1
            if isinstance(trouble, Gone) or failures % FAILURES_TO_RELIST == 0:
                self._version = None
            if not self._trouble:
                _log.warning("the cluster is not being watched", extra={"path": self._path, "cause": trouble.message})
            self._trouble = trouble.message
            await asyncio.sleep(max(next(pauses), trouble.retry_after if isinstance(trouble, TooBusy) else 0))

    def _confirmed(self) -> None:
        self._heard = time.monotonic()
        if self._trouble:
            self._trouble = ""
            _log.info("the cluster is being watched", extra={"path": self._path, "kept": len(self._kept)})

    async def _list(self) -> None:
        """Read every page, then take out what is no longer there."""
        for last in range(RELIST_TRIES - 1, -1, -1):
            try:
                names, version = await self._pages()
                break
            except Gone:
                if not last:
                    raise
        for name, kept in list(self._kept.items()):
            # What came by ``put`` after the listing was made is newer, and not in it.
            if name not in names and kept.version <= _number(version):
                self._bury(name, _number(version))
                self._set(name, None)
        self._version = version
        self.lists += 1
        self._heard = time.monotonic()
        if not self.synced:
            self._confirmed()
            self._synced.set()

    async def _pages(self) -> tuple[set[str], str]:
        names: set[str] = set()
        query = {**self._query, "limit": str(PAGE)}
        while True:
            page = await self._cluster.request("GET", self._path, query=query)
            if not names:
                self._notice_restore(_number(page["metadata"]["resourceVersion"]))
            for thing in page.get("items") or ():
                names.add(thing["metadata"]["name"])
                self._take(thing)
            more = page["metadata"].get("continue")
            if not more:
                return names, page["metadata"]["resourceVersion"]
            query["continue"] = more
            await asyncio.sleep(0)

    def _notice_restore(self, version: int) -> None:
        """A listing never lies before what has been heard, unless the cluster's own memory was put back to an earlier day."""
        if version < self._newest:
            _log.warning("the cluster has gone back in time; what was known of it counts no more", extra={"path": self._path})
            self._tombstones.clear()
            for name, kept in self._kept.items():
                self._kept[name] = replace(kept, version=0)
        self._newest = version

    async def _follow(self) -> None:
        """Watch until the server ends it.

        :raises ClusterUnavailable: it did so at once and had nothing to say, or as ``watch``
        """
        began = time.monotonic()
        lasts = round(self._watch_s * random.uniform(5 / 6, 7 / 6))  # noqa: S311 - nothing secret about it
        query = {**self._query, "resourceVersion": self._version or ""}
        told = False
        async with aclosing(watch(self._cluster, self._path, query=query, lasts_s=max(lasts, 1))) as events:
            async for event in events:
                self._confirmed()
                if event["type"] == "OPENED":
                    continue
                told = True
                self._hear(event["type"], event["object"])
        self._heard = time.monotonic()
        if not told and self._heard - began < HEALTHY_S:
            raise ClusterUnavailable("a watch on the cluster ended before its time")

    def _hear(self, kind: str, thing: Mapping[str, Any]) -> None:
        metadata = thing["metadata"]
        version = metadata["resourceVersion"]
        if kind == "DELETED":
            name = metadata["name"]
            self._bury(name, _number(version))
            kept = self._kept.get(name)
            # A late farewell to an earlier one of that name does not concern this one.
            if kept is not None and kept.version <= _number(version):
                self._set(name, None)
        elif kind != "BOOKMARK":
            self._take(thing)
        if _number(version) >= self._newest:
            self._version, self._newest = version, _number(version)

    def _take(self, thing: Mapping[str, Any]) -> None:
        metadata = thing["metadata"]
        name, version = metadata["name"], _number(metadata["resourceVersion"])
        kept = self._kept.get(name)
        if version < (kept.version if kept else 0) or version <= self._tombstones.get(name, -1):
            return
        if kept is not None and kept.version == version and kept.uid == metadata.get("uid", ""):
            return
        value = self._reduce(thing)
        if value is None:
            self._set(name, None)
        else:
            self._set(name, _Kept(value, metadata.get("uid", ""), version))

    def _set(self, name: str, kept: _Kept[T] | None) -> None:
        old, new = self.get(name), None if kept is None else kept.value
        if kept is None:
            self._kept.pop(name, None)
        else:
            self._kept[name] = kept
        if old == new:
            return
        for listener in self._listening:
            listener(name, old, new)

    def _bury(self, name: str, version: int) -> None:
        self._tombstones[name] = max(version, self._tombstones.pop(name, 0))
        while len(self._tombstones) > TOMBSTONES:
            self._tombstones.popitem(last=False)


def _number(version: str) -> int:
    """A resource version as a number, which it is in every API server on etcd, and by its API since Kubernetes 1.35."""
    return int(version) if version.isdecimal() else 0
