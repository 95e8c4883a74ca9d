"""Storage in an object store: nothing is moved through the daemon. It writes down what a pod is to pull, signs the rights that
the pod needs, and reads what the pod says it has published (``layout``).

A copy job, where the client asks for one, so only lists the input and follows its links; the pod of the plugin pulls.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pfmoc.backoff import Backoff
from pfmoc.data import Tickets
from pfmoc.errors import InvalidRequest, NoSuchData, NotPublished, StorageFull, StorageRefused, StorageUnavailable
from pfmoc.locks import KeyedLocks
from pfmoc.objects.base import ObjectStore
from pfmoc.storage import attempts, layout, workers
from pfmoc.storage.base import ArchiveFile, ArchiveSource, Inputs, Sealed, Staged, Storage
from pfmoc.storage.gather_objects import Gathered, Gathering, HasLinks, plain, unpacked
from pfmoc.storage.layout import Places
from pfmoc.storage.links import BadLink, Expansion, Files
from pfmoc.storage.paths import PRIVATE, BadPath, checked, components, is_below
from pfmoc.storage.workers import Stop

_log = logging.getLogger(__name__)

FIELD = "input_dirs"
_AT_ONCE = 16
"""Requests to the store for one job."""
_GATHERED_AT_ONCE = 2
"""Inputs that are held in memory while their links are followed."""
_LATE = Backoff(first_s=0.5, longest_s=4.0, factor=2.0)
_LATE_TIMES = 5
"""How often what a run has published is looked for once more, over some ten seconds."""
_PROBE = b"pfmoc storage probe\n"
GIB = 1 << 30


class Tuning(NamedTuple):
    """What the mover is told of how to work."""

    connections: int = 24
    patience_s: float = 300.0
    """Seconds without success after which a pull gives up."""
    window_s: float = 30.0
    """The span in which some of a body must arrive, that it does not count as dripping."""
    publish_s: float = 3600.0
    """Seconds after the plugin's end in which its output must be published."""
    segment_above: int = 4 * GIB
    """Larger files go in segments. Swift's own limit for one object is 5 GiB."""
    segment_bytes: int = GIB
    """Of one segment. What breaks off is sent again."""
    max_bytes: int = 4096 * GIB
    """Largest sum of the outputs: a sparse file can claim any size."""


class ObjectStorage(Storage):
    """A container, with users' trees and jobs' things side by side.

    :param limit: of the objects of one input
    :param gathered: the same where links are followed or inputs are several, so that all of it is held in memory
    :param authorities: certificates, as PEM, that pods trust besides their own
    """

    innetwork = True
    requires_copy = True
    requires_upload = True
    objects = True

    def __init__(
        self,
        store: ObjectStore,
        *,
        limit: int,
        gathered: int | None = None,
        tuning: Tuning | None = None,
        authorities: str | None = None,
        described: Mapping[str, str] | None = None,
    ) -> None:
        self.store = store
        self.tuning = tuning or Tuning()
        self.described = dict(described or {})
        self._limit = limit
        self._gathered = limit if gathered is None else min(limit, gathered)
        self._authorities = authorities
        self._turns = KeyedLocks()
        """By job id: held by whoever writes the job's things, or removes them."""
        self._gathering_turns = asyncio.Semaphore(_GATHERED_AT_ONCE)

    async def close(self) -> None:
        """Give connections back."""
        await self.store.close()

    async def probe(self) -> None:
        """Prove that storage can be read and written: a small object is written, read and removed."""
        await self.store.check()
        name = f"{PRIVATE}/probe-{secrets.token_hex(8)}"
        await self.store.write(name, _PROBE, kind="text/plain")
        try:
            if await self.store.read(name) != _PROBE:
                raise StorageUnavailable("Storage is unavailable: it returned other bytes than were written")
        finally:
            await self.store.delete([name])

    def check(self, inputs: Inputs) -> None:
        """Reject a job without an output directory, or with paths that it may not name."""
        self._places(inputs.jid)
        output = self._output(inputs)
        for text in inputs.input_dirs:
            if is_below(output.rstrip("/"), _checked(FIELD, text)):
                raise InvalidRequest(FIELD, f"{text!a} holds the job's own output directory")

    async def stage(self, inputs: Inputs) -> Staged:
        """Write the input manifest: list the input, and follow its links. Moves no data.

        :raises InvalidRequest: a link cannot be followed, or an object cannot become a file
        :raises TooLarge: there are more objects than the limit
        """
        self.check(inputs)
        async with self._turns.hold(inputs.jid):
            places = self._places(inputs.jid)
            await self._clear(places)
            try:
                nfiles = await self._stage(inputs, places)
            except BadLink as error:
                await self.store.sweep(places.key)
                raise InvalidRequest(FIELD, str(error)) from error
            except BaseException:
                await self.store.sweep(places.key)
                raise
            return Staged(nfiles=nfiles, path=PurePosixPath(places.key))

    async def data(self, inputs: Inputs, *, lifetime_s: float) -> Tickets:
        """Sign the rights of one run.

        :raises NoSuchData: its input was not staged
        """
        self.check(inputs)
        places = self._places(inputs.jid)
        async with self._turns.hold(inputs.jid):
            staged = json.loads(await self.store.read(layout.head(places.input)))
            return await self._tickets(places, self._output(inputs), staged, int(time.time() + lifetime_s))

    async def seal(self, inputs: Inputs, *, published: bool = False) -> Sealed:
        """Read what was published, and put large outputs together. A job that published nothing left nothing."""
        pauses = islice(_LATE.pauses(), _LATE_TIMES)
        while True:
            try:
                return await self._seal(self._places(inputs.jid), inputs.workers, published=published)
            except StorageFull as full:
                raise NotPublished(full.message) from full
            except (NoSuchData, StorageRefused) as lacking:
                # A store may not show for a while what was just written; and what is gone does not come back.
                if (pause := next(pauses, None)) is None:
                    raise NotPublished(lacking.message) from lacking
            await asyncio.sleep(pause)

    async def listing(self, inputs: Inputs, job_output_path: str) -> list[str]:  # noqa: ARG002 - the job alone says it here
        """Relative names of the outputs, sorted.

        :raises NoSuchData: the job has no data
        """
        places = self._places(inputs.jid)
        names: set[str] = set()
        async for head in self._known(places, inputs.workers):
            async for line in self._lines(places, head):
                names.add(line["path"])
        return sorted(names)

    async def archive(self, jid: str, *, workers: int | None = None) -> ArchiveSource:
        """The outputs, as the manifests have them.

        :raises NoSuchData: the job has no data
        """
        places = self._places(jid)
        heads = [head async for head in self._known(places, workers)]
        return self._archive(places, heads)

    async def upload(self, inputs: Inputs, job_output_path: str) -> int:
        """Copy the outputs to another place, on the store's side; where they are in it already, count them.

        :raises InvalidRequest: the path is none that a client may name
        :raises NoSuchData: the job published nothing
        """
        places = self._places(inputs.jid)
        target = _checked("job_output_path", job_output_path) + "/"
        await self.seal(inputs)
        heads = [head async for head in self._heads(places, inputs.workers)]
        if not heads:
            raise NoSuchData(f"Job {inputs.jid} has published no output")
        elsewhere = [head for head in heads if head["root"] != target]
        if elsewhere:
            # Written first: from now on somebody else may need the segments.
            await self.store.write(places.uploaded, layout.document({"version": layout.VERSION, "root": target}))
        for head in elsewhere:
            await self._each(
                self.store.copy(head["root"] + line["path"], target + line["path"]) async for line in self._lines(places, head)
            )
        return sum(head["files"] for head in heads)

    async def wanted(self, jid: str) -> bool:
        """True while the job has its ticket, and so may publish."""
        return await self.store.look(self._places(jid).ticket) is not None

    async def withdraw(self, jid: str) -> None:
        """Delete the job's ticket: a mover that begins now publishes nothing."""
        await self.store.delete([self._places(jid).ticket])

    async def holds(self, jid: str) -> bool:
        """True when there is anything of the job."""
        return await self.store.holds(self._places(jid).key)

    async def discard(self, jid: str) -> None:
        """Remove ``key-<jid>/`` and all below it, the ticket first. What is in users' places is never touched."""
        places = self._places(jid)
        await self.withdraw(jid)
        async with self._turns.hold(jid):
            await self._clear(places)

    @abstractmethod
    async def _tickets(self, places: Places, output: str, staged: Mapping[str, Any], expires: int) -> Tickets:
        """Sign.

        :param staged: the head of the input manifest
        :param expires: in seconds since 1970
        """

    # Staging

    async def _stage(self, inputs: Inputs, places: Places) -> int:
        paths = [_checked(FIELD, text) for text in inputs.input_dirs]
        if len(paths) == 1:
            # The usual case, and the one that may be huge: written down while it is listed, nothing of it kept.
            writer = _Writer(self.store, places)
            try:
                async for entry in plain(self.store, paths[0], limit=self._limit):
                    await writer.add(entry.name, entry.name[len(paths[0]) + 1 :], size=entry.size, etag=entry.etag, grant=0)
                if writer.files:
                    return await writer.finish([{"prefix": f"{paths[0]}/"}])
            except HasLinks:
                await self.store.sweep(places.key)
        async with self._gathering_turns:
            return await self._gather(paths, inputs, places)

    async def _gather(self, paths: Sequence[str], inputs: Inputs, places: Places) -> int:
        gathering = Gathering(self.store, output=self._output(inputs).rstrip("/"), limit=self._gathered)
        tops = [(path, await _ungrouped(gathering.add(path))) for path in paths]
        found = gathering.found
        placed = await workers.run(lambda stop: _expanded(found, tops, self._gathered, stop))
        writer = _Writer(self.store, places)
        grants = {top: number for number, top in enumerate(found.tops)}
        for target, source in placed.items():
            size, etag = unpacked(found.entries[source])
            await writer.add(source, target, size=size, etag=etag, grant=_grant(source, found.tops, grants))
        await writer.finish([{"prefix": f"{top}/"} if is_prefix else {"object": top} for top, is_prefix in found.tops.items()])
        return len(found.entries) - len(found.links)

    async def _clear(self, places: Places) -> None:
        """Remove what an earlier attempt left, with the segments that nobody else needs."""
        heads = [head async for head in self._heads(places)]
        own = all(head["root"].startswith(places.key) for head in heads)
        if own and await self.store.look(places.uploaded) is None:
            try:
                staged = json.loads(await self.store.read(layout.head(places.input)))
            except NoSuchData:
                pass
            else:
                await self.store.sweep(staged["segments"])
        await self.store.sweep(places.key)

    # Outputs

    async def _seal(self, places: Places, workers: int | None, *, published: bool) -> Sealed:
        heads = [head async for head in self._heads(places, workers, all_of_them=published)]
        for head in heads:
            if head["large"]:
                await self._each(self._join(head, line) async for line in self._lines(places, head) if "segments" in line)
        if len(heads) == workers and (swept := await attempts.sweep(self.store, places, heads)):
            _log.info("removed outputs that only an interrupted attempt has published", extra={"jid": places.jid, "files": swept})
        sums = {name: sum(head[name] for head in heads) for name in ("files", "bytes", "allocated", "dropped_links")}
        return Sealed(files=sums["files"], size=sums["bytes"], allocated=sums["allocated"], dropped_links=sums["dropped_links"])

    async def _heads(
        self, places: Places, workers: int | None = None, *, all_of_them: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the head of each worker's manifest that there is.

        They are asked for by name. Listings may lag behind what was written, so they are used only to learn of more workers.

        :param workers: how many the job has had; None where that is not known
        :raises NoSuchData: one is missing, and all of them are wanted
        """
        names = [layout.head(places.output(index)) for index in range(workers or 1)]
        if workers is None:
            async for page in self.store.pages(places.outputs, delimiter="/"):
                names += (entry.name for entry in page if entry.name.endswith(".json"))
        for index, name in enumerate(dict.fromkeys(names)):
            try:
                content = await self.store.read(name)
            except NoSuchData:
                if all_of_them:
                    raise NoSuchData(f"worker {index} has not said what it published") from None
                continue
            yield json.loads(content)

    async def _known(self, places: Places, workers: int | None) -> AsyncIterator[dict[str, Any]]:
        """The same; of a job that is known to nobody there are not even none."""
        none = True
        async for head in self._heads(places, workers):
            none = False
            yield head
        if none and not await self.store.holds(places.key):
            raise NoSuchData(f"Job {places.jid} has no data in storage")

    def _lines(self, places: Places, head: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        return attempts.lines(self.store, places, head)

    async def _archive(self, places: Places, heads: Iterable[Mapping[str, Any]]) -> AsyncIterator[ArchiveFile]:
        for head in heads:
            modified = datetime.fromtimestamp(head["published"], UTC)
            async for line in self._lines(places, head):
                yield ArchiveFile(
                    name=line["path"],
                    size=line["size"],
                    modified=modified,
                    open=self._opener(head["root"] + line["path"], None if "segments" in line else line["md5"]),
                )

    def _opener(self, name: str, etag: str | None) -> Callable[[], AsyncIterator[bytes]]:
        return lambda: self.store.open(name, etag=etag)

    async def _join(self, head: Mapping[str, Any], line: Mapping[str, Any]) -> None:
        """Put a large output together. Stores whose mover does so itself have none.

        :raises StorageRefused: the store does not take it as it is
        """
        raise NotImplementedError

    async def _each(self, works: AsyncIterator[Awaitable[None]]) -> None:
        """Await all, a few at once."""
        running: set[asyncio.Future[None]] = set()
        try:
            async for work in works:
                if len(running) >= _AT_ONCE:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for future in done:
                        future.result()
                running.add(asyncio.ensure_future(work))
            for future in asyncio.as_completed(running):
                await future
        finally:
            for left in running:
                left.cancel()

    def _pull_ticket(self, places: Places, *, base: str, query: str, expires: int) -> dict[str, Any]:
        """What the pod that pulls is given: where the other rights are, and the right to read that."""
        return {
            "version": layout.VERSION,
            "kind": self.env,
            "base": base,
            "authorities": self._authorities,
            "ticket": {"name": places.ticket, "query": query},
            "expires": expires,
            "connections": self.tuning.connections,
            "patience_s": self.tuning.patience_s,
            "window_s": self.tuning.window_s,
        }

    def _publish_ticket(
        self, places: Places, *, base: str, query: str, expires: int, output: str, segments: str, keep_s: int | None = None
    ) -> dict[str, Any]:
        """What the pod that publishes is given, but for the rights to write.

        :param query: the right to ask whether the job's ticket is still there
        :param keep_s: seconds after which outputs are to go; None: they stay
        """
        return {
            "version": layout.VERSION,
            "kind": self.env,
            "base": base,
            "authorities": self._authorities,
            "jid": places.jid,
            "root": output,
            "segments": segments,
            "ticket": {"name": places.ticket, "query": query},
            "expires": expires,
            "deadline_s": self.tuning.publish_s,
            "segment_above": self.tuning.segment_above,
            "segment_bytes": self.tuning.segment_bytes,
            "max_bytes": self.tuning.max_bytes,
            "connections": self.tuning.connections,
            "keep_s": keep_s,
        }

    # Names

    def _places(self, jid: str) -> Places:
        try:
            alone = components(jid) == [jid]
        except BadPath as bad:
            raise InvalidRequest("jid", bad.reason) from None
        if not alone:
            raise InvalidRequest("jid", "is not a job id")
        return Places(jid)

    def _output(self, inputs: Inputs) -> str:
        """Return what the names of the outputs begin with."""
        if inputs.output_dir is None:
            return self._places(inputs.jid).outgoing
        return _checked("output_dir", inputs.output_dir) + "/"


class _Writer:
    """Writes an input manifest as it comes."""

    def __init__(self, store: ObjectStore, places: Places) -> None:
        self.files = 0
        self._bytes = 0
        self._store = store
        self._places = places
        self._parts = layout.Parts()

    async def add(self, source: str, target: str, *, size: int, etag: str, grant: int) -> None:
        if reason := layout.unfit(target):
            raise InvalidRequest(FIELD, f"{ascii(source)[1:-1]} {reason}")
        self.files += 1
        self._bytes += size
        line = {"grant": grant, "source": source, "target": target, "size": size, "etag": etag}
        if filled := self._parts.add(line):
            await self._write(filled)

    async def finish(self, grants: list[dict[str, str]]) -> int:
        if rest := self._parts.rest():
            await self._write(rest)
        head = {
            "version": layout.VERSION,
            "files": self.files,
            "bytes": self._bytes,
            "parts": self._parts.count,
            "grants": grants,
            "segments": f"{self._places.segments}{secrets.token_hex(4)}/",
        }
        await self._store.write(layout.head(self._places.input), layout.document(head))
        return self.files

    async def _write(self, content: bytes) -> None:
        await self._store.write(layout.part(self._places.input, self._parts.count - 1), content)


def _expanded(found: Gathered, tops: Iterable[tuple[str, bool]], limit: int, stop: Stop) -> dict[str, str]:
    """Find out which object goes where."""
    expansion = Expansion(files=Files(found.entries), links=found.links, limit=limit, stop=stop)
    for path, is_prefix in tops:
        if is_prefix:
            expansion.add_directory(path)
        elif path in found.entries:
            expansion.add_file(path)
    return expansion.placed


def _grant(source: str, tops: Mapping[str, bool], numbers: Mapping[str, int]) -> int:
    """Return the right by which an object may be read."""
    if tops.get(source) is False:
        return numbers[source]
    above = source.rpartition("/")[0]
    while not tops.get(above):
        above = above.rpartition("/")[0]
    return numbers[above]


async def _ungrouped(work: Awaitable[bool]) -> bool:
    """Await, and raise the first failure of a group as itself."""
    try:
        return await work
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


def _checked(name: str, text: str) -> str:
    try:
        return checked(text)
    except BadPath as bad:
        raise InvalidRequest(name, f"{text[:100]!a} {bad.reason}") from None
