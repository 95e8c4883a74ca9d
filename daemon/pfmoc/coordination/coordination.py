"""Errands in the background: push, wait, run, wait, pull. Each step is written down before it is made, so that none is lost."""

from __future__ import annotations

import asyncio
import errno
import importlib
import importlib.util
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pfmoc.coordination.trails import Errand, Step, Trail, Trails
from pfmoc.errors import Conflict, InvalidRequest, PfmocError, Unavailable
from pfmoc.jobs.model import Job, Kind, Phase, now
from pfmoc.jobs.names import engine_name
from pfmoc.jobs.service import Jobs
from pfmoc.settings import Settings
from pfmoc.spool import FLUSH_BYTES, Spool
from pfmoc.storage import copying, trees, workers, zip_out
from pfmoc.storage.failures import storage_errors
from pfmoc.storage.paths import BadPath, StoreBase
from pfmoc.storage.workers import Stop

_log = logging.getLogger(__name__)

T = TypeVar("T")

EMPTY_ZIP = b"PK\x05\x06" + bytes(18)
"""The input of a job that was given none."""
SOURCE, TARGET = "meta-data.localSource.path", "meta-data.localTarget.path"
"""What clients call the two directories."""
POLL_S = 0.1
"""Seconds between two looks at a job, in memory. pfcon 2 looked every second, over the network."""
_AT_ONCE = 4
"""Errands that move data at one time."""
_TRIES = 10
"""Times that a step is tried while storage or the compute environment cannot answer, which each time say how long to wait."""


class Coordination:
    """All errands. Entered once, when jobs are: it takes up what a predecessor left."""

    def __init__(self, *, settings: Settings, jobs: Jobs, spool: Spool) -> None:
        self.jobs = jobs
        self.trails = Trails(settings.state_dir)
        self._resources = settings.resources
        self._storebase = StoreBase(settings.storebase_mount)
        self._spool = spool
        self._moving = asyncio.Semaphore(_AT_ONCE)
        self._under_way: dict[str, tuple[Errand, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        for errand in await self.trails.errands():
            self._spawn(errand, again=True)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        tasks = [task for _, task in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self, errand: Errand) -> asyncio.Task[None]:
        """Begin an errand, or join the equal one that is under way. The task ends with it, and tells nothing: the trail does.

        :raises InvalidRequest: a path leads nowhere, or where no client may go; or the job can never run
        :raises Conflict: another errand with that key is under way
        """
        if errand.key in self._under_way:
            return self._joined(errand)
        if errand.service:
            if self.jobs.storage.innetwork:
                raise InvalidRequest("meta-compute.service", "data cross to another compute resource from zipfile storage only")
            _crossing().fields(errand)
        else:
            self.jobs.compute.check(errand.spec.image, errand.spec.limits)
        await workers.run(lambda _: self._check(errand))
        if errand.key in self._under_way:
            return self._joined(errand)
        begun = asyncio.get_running_loop().create_future()
        task = self._spawn(errand, again=False, after=begun)
        try:
            await self.trails.put(Trail(key=errand.key, step=Step.PUSH, errand=errand))
        except BaseException:
            task.cancel()
            raise
        begun.set_result(None)
        return task

    async def push(self, key: str, content: bytes = EMPTY_ZIP) -> None:
        """Put a small zip under a key."""
        async with self._spool.file() as file:
            file.append(content)
            await file.flush()
            await self.jobs.push(key, file.path)

    async def elsewhere(self) -> Mapping[str, Any]:
        """The other compute resources that are registered, by name.

        :raises Unavailable: their file cannot be used
        """
        if self._resources is None:
            return {}
        if importlib.util.find_spec("yaml") is None:
            raise Unavailable("The resources file of this server cannot be used: PyYAML is not installed.")
        known: Mapping[str, Any] = await _crossing().registered(self._resources)
        return known

    async def ended(self, jid: str) -> Job:
        """Wait until a plugin job has ended.

        :raises NoSuchJob: there is none, or it was removed meanwhile
        """
        job = await self.jobs.get(jid, Kind.PLUGIN)
        while not job.phase.terminal:
            await asyncio.sleep(POLL_S)
            job = await self.jobs.get(jid, Kind.PLUGIN)
        return job

    # Within

    def _joined(self, errand: Errand) -> asyncio.Task[None]:
        standing, task = self._under_way[errand.key]
        if standing != errand:
            raise Conflict(f"Another coordinate with the key '{errand.key}' is under way.")
        return task

    def _spawn(self, errand: Errand, *, again: bool, after: asyncio.Future[None] | None = None) -> asyncio.Task[None]:
        async def run() -> None:
            if after is not None:
                await after
            await self._run(errand, again=again)

        task = asyncio.create_task(run())
        self._under_way[errand.key] = (errand, task)
        task.add_done_callback(lambda _: self._under_way.pop(errand.key))
        return task

    async def _run(self, errand: Errand, *, again: bool) -> None:
        """Carry an errand to its end, whatever comes.

        :param again: a daemon before this one has begun it
        """
        trail = await self.trails.get(errand.key)
        step = trail.step
        try:
            if step is Step.PUSH:
                async with self._moving:
                    await _patiently(lambda: self._push(errand))
                step = await self._enter(errand, Step.COMPUTE)
            if step is Step.COMPUTE:
                await _patiently(lambda: self._compute(errand, again=again))
                step = await self._enter(errand, Step.PULL)
            async with self._moving:
                files = await _patiently(lambda: self._pull(errand, again=again))
            pulled = {} if files is None else {"files": files, "pulled": now()}
            if pulled and errand.cleanup:
                await _patiently(lambda: self.jobs.clean(errand.key))
            await self.trails.change(errand.key, step=Step.DONE, errand=None, **pulled)
        except PfmocError as error:
            _log.warning("coordinate failed", extra={"jid": errand.key, "step": step, "cause": error.message})
            await self._fail(errand, step, error.message)
        except Exception:  # noqa: BLE001 - whatever happens, the errand ends and its client hears of it
            _log.exception("coordinate failed", extra={"jid": errand.key, "step": step})
            await self._fail(errand, step, "Internal error; the server's log has the cause.")

    async def _enter(self, errand: Errand, step: Step) -> Step:
        await self.trails.change(errand.key, step=step)
        return step

    async def _fail(self, errand: Errand, step: Step, reason: str) -> None:
        try:
            await self.trails.change(errand.key, step=Step.DONE, errand=None, failed={step: reason})
        except PfmocError as error:
            _log.warning("a trail could not be written", extra={"jid": errand.key, "cause": error.message})

    def _check(self, errand: Errand) -> None:
        """Look at both paths before anything is promised.

        :raises InvalidRequest: one is at fault
        """
        if errand.source is not None and not self._resolved(SOURCE, errand.source).is_dir():
            raise InvalidRequest(SOURCE, "there is no such directory in the storage of this server")
        if errand.target is not None:
            target = self._resolved(TARGET, errand.target)
            if not (errand.make_target or target.is_dir()):
                raise InvalidRequest(TARGET, "there is no such directory in the storage of this server")
            if not self.jobs.storage.innetwork and _holds_something(target):
                raise InvalidRequest(TARGET, "holds something already; nothing there is ever replaced")

    def _resolved(self, field: str, text: str) -> Path:
        try:
            return self._storebase.resolve(text)
        except BadPath as bad:
            raise InvalidRequest(field, bad.reason) from None

    async def _push(self, errand: Errand) -> None:
        """Bring the input under the key. In the network it is where it belongs already, and the output only needs its place."""
        if self.jobs.storage.innetwork:
            if errand.target is not None and errand.make_target:
                await self._make(self._resolved(TARGET, errand.target))
        elif errand.source is not None:
            plan = await zip_out.plan(self._resolved(SOURCE, errand.source))
            async with self._spool.file() as file, aclosing(plan.stream()) as pieces:
                async for piece in pieces:
                    file.append(piece)
                    await file.flush(at_least=FLUSH_BYTES)
                await file.flush()
                await self.jobs.push(errand.key, file.path)
        elif not await self.jobs.storage.holds(errand.key):
            await self.push(errand.key)

    async def _compute(self, errand: Errand, *, again: bool) -> None:
        if errand.service:
            await self._cross(errand)
            return
        standing = await self.jobs.board.find(errand.key, Kind.PLUGIN) if again else None
        if standing is None or standing.phase in (Phase.STAGING, Phase.STARTING):
            await self.jobs.submit_plugin(errand.key, errand.spec, copied=False)
        await self.ended(errand.key)

    async def _cross(self, errand: Errand) -> None:
        """Run the job on another compute resource, and bring its output to where one of our own would have left it."""
        resource = (await self.elsewhere()).get(errand.service)
        if resource is None:
            raise Conflict(f"The service '{errand.service}' is no longer registered.")
        scratch = self._storebase.private / "crossing" / engine_name(errand.key)
        key_dir = self._storebase.key_dir(errand.key)
        await self._make(scratch)
        try:
            outcome = await _crossing().cross(resource, errand, source=key_dir / "incoming", scratch=scratch)
            await workers.run(lambda stop: _settle(scratch / "output", key_dir / "outgoing", stop))
        finally:
            await workers.run(lambda stop: trees.remove(scratch, stop=stop))
        await self.trails.change(errand.key, outcome=outcome)

    async def _pull(self, errand: Errand, *, again: bool) -> int | None:
        """Put the output into the target. Returns how many files it is; None where no target was named."""
        if errand.target is None:
            return None
        if self.jobs.storage.innetwork:
            return len(await self.jobs.outputs.listing(errand.key, errand.target))
        target = self._resolved(TARGET, errand.target)
        source = self.jobs.outputs.zip_root(errand.key)
        return await workers.run(lambda stop: self._bring(errand.key, source, target, stop, again=again))

    def _bring(self, key: str, source: Path, target: Path, stop: Stop, *, again: bool) -> int:
        """Copy the regular files of a plugin's output, and put them up all at once."""
        partial = target.with_name(f".{engine_name(key)}.partial")
        with storage_errors():
            if again and _holds_something(target) and not partial.exists():
                return trees.measure(target, stop=stop).files  # a daemon before this one came that far
            with closing(trees.walk(source, stop=stop)) as levels:
                names = [level.join(name) for level in levels for name in level.files if not name.endswith(trees.LINK_SUFFIX)]
            trees.remove(partial, stop=stop)
            self._make_directories(partial)
            try:
                copying.bring(dict(zip(names, names, strict=True)), source=source, target=partial, hard_links=False, stop=stop)
                partial.rename(target)
            except BaseException as error:
                trees.remove(partial)
                if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise Conflict(f"{TARGET}: holds something already; nothing there is ever replaced") from error
                raise
        return len(names)

    async def _make(self, path: Path) -> None:
        def make(_: Stop) -> None:
            with storage_errors():
                self._make_directories(path)

        await workers.run(make)

    def _make_directories(self, path: Path) -> None:
        with trees.opened(self._storebase.root) as root:
            trees.make_directories(root, self._storebase.relative(path))


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    for _ in range(_TRIES - 1):
        try:
            return await work()
        except Unavailable as error:
            _log.info("coordinate waits", extra={"cause": error.message})
            await asyncio.sleep(error.retry_after)
    return await work()


def _crossing() -> Any:
    """What speaks to other compute resources; a daemon that knows none does without it, and without what it needs."""
    return importlib.import_module("pfmoc.coordination.crossing")


def _settle(fetched: Path, outgoing: Path, stop: Stop) -> None:
    with storage_errors():
        if fetched.is_dir():
            trees.remove(outgoing, stop=stop)
            fetched.rename(outgoing)


def _holds_something(directory: Path) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(True for _ in entries)
    except OSError:
        return directory.is_symlink() or directory.is_file()
