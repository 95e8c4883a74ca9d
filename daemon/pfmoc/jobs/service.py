"""The job service: every dialect speaks to this, and this speaks to storage and compute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from pfmoc.backoff import Backoff
from pfmoc.compute.base import Compute, Run
from pfmoc.errors import Conflict, InvalidRequest, NoSuchJob, PfmocError, Unavailable
from pfmoc.jobs.board import Board, JobKey
from pfmoc.jobs.follower import Follower
from pfmoc.jobs.lifecycle import move, observe
from pfmoc.jobs.model import CopySpec, DeleteSpec, Job, Kind, Phase, PluginSpec, Spec, Status, UploadSpec, inputs_of, joined, now
from pfmoc.jobs.tails import Tails
from pfmoc.locks import KeyedLocks
from pfmoc.settings import Settings
from pfmoc.storage.base import Inputs, Mounts, Staged, Storage

_log = logging.getLogger(__name__)

_COPIES_AT_ONCE = 4
"""Copy jobs that move data at one time; the others wait, and say ``notStarted``."""
_SAVING = Backoff(first_s=0.5, longest_s=15.0, factor=2.0)
"""While the end of a job cannot be written down."""
_NOT_COMPARED = frozenset({"env", "auid", "placed"})
"""Fields in which two requests for one job may differ: the token in the environment changes from try to try, and the second may
come by another dialect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """The answer to a request for a job."""

    job: Job
    log: str = ""
    """Tail of the log when the job was there already; empty for a new one."""
    staged: Staged | None = None
    """What staging did, when this request staged data."""


@dataclass(eq=False, kw_only=True, slots=True)
class _Flight:
    """A request that makes a job, under way. Equal requests that come meanwhile share it."""

    spec: Spec
    task: asyncio.Task[Submission] = field(init=False)
    halted: bool = False


class Jobs:
    """All jobs. Entered once, at start: it reconciles the records with the compute environment, and then follows that."""

    def __init__(self, *, settings: Settings, storage: Storage, compute: Compute, placed: Storage | None = None) -> None:
        self.settings = settings
        self.storage = storage
        self.placed = placed
        """Storage of jobs whose client stages for itself (``PluginSpec.placed``); None where clients share no storage."""
        self.compute = compute
        self.board = Board(settings.state_dir)
        self._locks = KeyedLocks()
        self._flights: dict[JobKey, _Flight] = {}
        self._work: dict[JobKey, asyncio.Task[None]] = {}
        self._copies = asyncio.Semaphore(_COPIES_AT_ONCE)
        self._tails = Tails(compute, lines=settings.job_logs_tail)
        self._follower = Follower(
            board=self.board, compute=compute, storage_of=self._storage_of, locks=self._locks, log_tail=settings.job_logs_tail
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.board)
            stack.push_async_callback(self._stop)
            await self._resume()
            await stack.enter_async_context(self._follower)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    # Submitting

    async def submit_plugin(self, jid: str, spec: PluginSpec, *, upload: Path | None = None, copied: bool) -> Submission:
        """Stage a plugin's input and start it, or return the job that is there (the idempotency rule, contract 2.4).

        :param jid: a checked job id (``names.check_jid``)
        :param upload: the spooled zip of the request; the caller removes it afterwards
        :param copied: True where a copy job stages the input of storage that requires one (pfcon 6), so that it must have
            succeeded; False where this request stages it (pfcon 5)
        :raises InvalidRequest: the spec or the data are at fault
        :raises Conflict: no successful copy job, or a job of that id that differs, with the field named
        """
        self.compute.check(spec.image, spec.limits)
        inputs = inputs_of(jid, spec, upload=upload)
        storage = self._storage_of(spec)
        storage.check(inputs)
        copied = copied and storage.requires_copy

        async def begin() -> Submission:
            if copied:
                await self._require_copy(jid)
            job = Job(jid=jid, kind=Kind.PLUGIN, spec=spec, phase=Phase.STAGING, image=spec.image, cmd=joined(spec.command()))
            await self.board.save(job)
            try:
                staged = None if copied else await storage.stage(inputs)
                job = move(job, Phase.STARTING)
                await self.board.save(job)
                seen = await self.compute.start(self._run(job, spec, storage.mounts(inputs)))
                job = observe(job, seen)
            except BaseException:
                await self._undo(job)
                raise
            await self._follower.settle(job)
            return Submission(job=job, staged=staged)

        return await self._once((jid, Kind.PLUGIN), spec, begin)

    async def submit_copy(self, jid: str, spec: CopySpec) -> Submission:
        """Copy the input in the background. Where storage needs none: a job that has succeeded, message ``copySkipped``."""
        if not self.storage.requires_copy:
            return _skipped(jid, Kind.COPY, spec, "copySkipped")
        self.storage.check(inputs_of(jid, spec))
        return await self._in_background((jid, Kind.COPY), spec)

    async def submit_upload(self, jid: str, spec: UploadSpec) -> Submission:
        """Upload the output in the background. Where storage needs none: message ``uploadSkipped``.

        No storage mode of this build needs one.
        """
        return _skipped(jid, Kind.UPLOAD, spec, "uploadSkipped")

    async def submit_delete(self, jid: str, spec: DeleteSpec) -> Submission:
        """End what goes on under the id, and remove its data, in the background. Where there is neither: ``deleteSkipped``.

        A copy that waits for its turn has no data yet, and the plugin of storage without copies never has: CUBE cancels both
        with this one request.

        :raises Conflict: a sibling is active and ``delete_active`` is ``refuse``
        """
        active = await self._active(jid)
        if active is None and not self.storage.holds(jid):
            return _skipped(jid, Kind.DELETE, spec, "deleteSkipped")
        if active is not None and self.settings.delete_active == "refuse":
            raise Conflict(
                f"The {active.kind} job is still active (status: {active.status})."
                " All jobs must finish before scheduling a delete job."
            )
        return await self._in_background((jid, Kind.DELETE), spec)

    async def _active(self, jid: str) -> Job | None:
        for kind in (Kind.COPY, Kind.PLUGIN):
            job = await self.board.find(jid, kind)
            if job is not None and not job.phase.terminal:
                return job
        return None

    # Data ahead of the job (the services before pfcon 3)

    async def push(self, jid: str, upload: Path) -> Staged:
        """Stage the input of a job that comes later, on record as a copy job that has succeeded.

        Whatever an earlier job of that id has left goes, and so does its record.

        :param jid: a checked job id
        :param upload: a spooled zip; the caller removes it afterwards
        :raises InvalidRequest: the zip is at fault, or storage takes none
        :raises Conflict: a job of that id has not ended
        """
        if self.storage.innetwork:
            raise InvalidRequest("data", f"{self.storage.env} storage is in the network: data do not come through the API")
        inputs = Inputs(jid=jid, upload=upload)
        self.storage.check(inputs)
        async with self._locks.hold(jid):
            await self.require_ended(jid)
            staged = await self.storage.stage(inputs)
            if await self.board.find(jid, Kind.PLUGIN) is not None:
                await self._forget(jid, Kind.PLUGIN)
            pushed = Job(jid=jid, kind=Kind.COPY, spec=CopySpec(), phase=Phase.SUCCEEDED, message="pushed", timestamp=now())
            await self.board.save(pushed)
        return staged

    async def clean(self, jid: str) -> None:
        """Remove the data of an id. The record of its plugin job stays.

        :raises Conflict: a job of that id has not ended
        """
        async with self._locks.hold(jid):
            await self.require_ended(jid)
            await self.storage.discard(jid)
            await self._forget(jid, Kind.COPY)

    # Asking

    async def get(self, jid: str, kind: Kind) -> Job:
        """Return a job as it stands. Costs no call to the compute environment.

        :raises NoSuchJob: there is none; its text is the wire's
        """
        job = await self.board.find(jid, kind)
        if job is None:
            raise NoSuchJob(f"No such job: {jid} ({kind})")
        return job

    async def log(self, job: Job) -> str:
        """Return the tail of the job's log: kept for an ended job; of a running one the last that could be fetched."""
        if job.phase.terminal:
            return await self.board.log(job)
        if job.kind is not Kind.PLUGIN or job.phase in (Phase.STAGING, Phase.STARTING):
            return ""
        return await self._tails.tail(job.engine_name)

    async def listing(self, jid: str, job_output_path: str) -> list[str]:
        """Relative names of the output files (storage in the network).

        :raises NoSuchData: no such directory
        """
        return await self.storage.listing(Inputs(jid=jid), job_output_path)

    def zip_root(self, jid: str) -> Path:
        """The directory to send as a zip (storage out of the network).

        :raises NoSuchData: the job has no data
        """
        return self.storage.zip_root(jid)

    async def probe(self) -> dict[str, str]:
        """Ask storage and compute whether they are well. Returns what is wrong, by name; empty when all is well."""
        wrong = {}
        questions: Mapping[str, Awaitable[None]] = {"storage": self.storage.probe(), "compute": self.compute.probe()}
        for name, answer in zip(questions, await asyncio.gather(*questions.values(), return_exceptions=True), strict=True):
            if isinstance(answer, PfmocError):
                wrong[name] = answer.message
            elif isinstance(answer, BaseException):
                raise answer
        if self._follower.stale:
            wrong.setdefault("watch", self._follower.stale)
        return wrong

    # Ending

    async def remove(self, jid: str, kind: Kind) -> None:
        """End the job if it goes on, and forget it; absent is fine. Data stay. Does nothing when ``remove_jobs`` is off."""
        if not self.settings.remove_jobs:
            return
        await self._halt((jid, kind))
        async with self._locks.hold(jid):
            await self._forget(jid, kind)

    async def purge(self, jid: str) -> None:
        """Remove the plugin job's data, then the job (pfcon 5).

        :raises NoSuchJob: there was no such job (its data are gone all the same)
        """
        if not self.settings.remove_jobs:
            await self.storage.discard(jid)
            return
        await self._halt((jid, Kind.PLUGIN))
        async with self._locks.hold(jid):
            known = await self._forget(jid, Kind.PLUGIN)
            await self.storage.discard(jid)
        if not known:
            raise NoSuchJob(f"No such job: {jid} ({Kind.PLUGIN})")

    # Within

    async def _once(self, key: JobKey, spec: Spec, begin: Callable[[], Awaitable[Submission]]) -> Submission:
        """Make a job at most once: an equal request under way is shared, an equal job that stands is returned."""
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(spec=spec)
            flight.task = asyncio.create_task(self._fly(key, flight, begin))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda task: self._landed(key, task))
        else:
            _require_same(key, flight.spec, spec)
        return await asyncio.shield(flight.task)

    def _landed(self, key: JobKey, task: asyncio.Task[Submission]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # marks it as seen: the client that asked may be gone

    async def _fly(self, key: JobKey, flight: _Flight, begin: Callable[[], Awaitable[Submission]]) -> Submission:
        try:
            async with self._locks.hold(key[0]):
                standing = await self._standing(key)
                if standing is None:
                    return await begin()
        except asyncio.CancelledError:
            if flight.halted:
                raise Conflict(f"The {key[1]} job was cancelled while its input was being staged.") from None
            raise Unavailable("The server is shutting down. Try again.") from None
        _require_same(key, standing.spec, flight.spec)
        return Submission(job=standing, log=await self.log(standing))

    async def _standing(self, key: JobKey) -> Job | None:
        """Return the job that a new request meets; one that failed, or whose fate is unknown, is cleared away for it."""
        job = await self.board.find(*key)
        if job is not None and job.phase in (Phase.STAGING, Phase.STARTING):
            job = await self._follower.resolve(job)
        if job is not None and job.status in (Status.FAILED, Status.UNDEFINED):
            await self._forget(*key)
            return None
        if job is not None and job.kind is Kind.DELETE and job.phase is Phase.SUCCEEDED:
            await self.board.forget(job)  # what it removed is there again: the id was used anew
            return None
        return job

    async def require_ended(self, jid: str) -> None:
        """Check that no plugin job is at work on the data of an id.

        :raises Conflict: one is
        """
        job = await self.board.find(jid, Kind.PLUGIN)
        if job is not None and not job.phase.terminal:
            raise Conflict(f"The job '{jid}' has not ended (status: {job.status}); its data stay as they are.")

    async def _require_copy(self, jid: str) -> None:
        copy = await self.board.find(jid, Kind.COPY)
        if copy is None:
            raise Conflict("No copy job found. A copy job must complete successfully before scheduling a plugin job.")
        if copy.phase is not Phase.SUCCEEDED:
            raise Conflict(f"Copy job has not completed successfully (status: {copy.status}). Run the copy job first.")

    def _storage_of(self, spec: Spec | None) -> Storage:
        """The storage that a job's data are in."""
        if not (isinstance(spec, PluginSpec) and spec.placed):
            return self.storage
        if self.placed is None:
            raise InvalidRequest("input_dir", "this compute resource has no storage that its clients share")
        return self.placed

    @staticmethod
    def _run(job: Job, spec: PluginSpec, mounts: Mounts) -> Run:
        return Run(
            name=job.engine_name,
            jid=job.jid,
            image=spec.image,
            argv=spec.command(),
            env=dict(pair.split("=", 1) for pair in spec.env),
            incoming=mounts.incoming,
            outgoing=mounts.outgoing,
            limits=spec.limits,
        )

    async def _undo(self, job: Job) -> None:
        """Clear away a plugin job that was not answered. If even that fails, its record stays for the follower to resolve."""
        try:
            await self._follower.undo(job)
        except PfmocError as error:
            _log.warning("a job that could not be started could not be cleared away yet", extra=_extra(job, error))

    async def _in_background(self, key: JobKey, spec: CopySpec | DeleteSpec) -> Submission:
        async def begin() -> Submission:
            job = Job(jid=key[0], kind=key[1], spec=spec, phase=Phase.PENDING, timestamp=now())
            await self.board.save(job)
            self._spawn(job)
            return Submission(job=job)

        return await self._once(key, spec, begin)

    def _spawn(self, job: Job) -> None:
        task = asyncio.create_task(self._operate(job))
        self._work[job.key] = task
        task.add_done_callback(lambda _: self._work.pop(job.key))

    async def _operate(self, job: Job) -> None:
        """Carry out a copy or delete job, to its one terminal phase."""
        try:
            match job.spec:
                case CopySpec() as spec:
                    async with self._copies:
                        job = await self._under_way(job)
                        log = await self._copy(job, spec)
                case _:
                    job = await self._under_way(job)
                    log = await self._delete(job)
            await self._end(job, Phase.SUCCEEDED, log)
        except PfmocError as error:
            _log.warning("a job failed", extra=_extra(job, error))
            await self._end(job, Phase.FAILED, error.message)
        except Exception:  # noqa: BLE001 - whatever happens, the job reaches a terminal phase and its client hears of it
            _log.exception("a job failed", extra={"jid": job.jid, "kind": job.kind})
            await self._end(job, Phase.FAILED, "Internal error; the server's log has the cause.")

    async def _under_way(self, job: Job) -> Job:
        """Move to RUNNING; a job that a restart found there stays."""
        if job.phase is Phase.RUNNING:
            return job
        job = move(job, Phase.RUNNING, message="running", timestamp=now())
        await self.board.save(job)
        return job

    async def _end(self, job: Job, phase: Phase, log: str) -> None:
        """Write the end down, however long the disk of the records is full: nobody else will."""
        message = "finished" if phase is Phase.SUCCEEDED else log
        ended = move(job, phase, message=message, timestamp=now())
        for pause in _SAVING.pauses():
            try:
                await self.board.save(ended, log=log)
                break
            except PfmocError as error:
                _log.warning("the end of a job cannot be written down yet", extra=_extra(job, error))
            await asyncio.sleep(pause)

    async def _copy(self, job: Job, spec: CopySpec) -> str:
        staged = await self.storage.stage(inputs_of(job.jid, spec))
        return f"Copied {staged.nfiles} files."

    async def _delete(self, job: Job) -> str:
        siblings = (Kind.COPY, Kind.PLUGIN)
        for kind in siblings:
            await self._halt((job.jid, kind))
        async with self._locks.hold(job.jid):  # a sibling that comes now finds no data half removed
            for kind in siblings:
                await self._cancel(job.jid, kind)
            await self.storage.discard(job.jid)
        return "Removed the job's data."

    async def _cancel(self, jid: str, kind: Kind) -> None:
        """End a sibling that goes on; it stays on the board, as failed. The caller holds the lock."""
        await self._halt_work((jid, kind))
        job = await self.board.find(jid, kind)
        if job is None or job.phase.terminal:
            return
        log = await self.log(job)
        if kind is Kind.PLUGIN:
            await self.compute.remove(job.engine_name)
        await self.board.save(move(job, Phase.FAILED, message="cancelled", timestamp=now()), log=log)

    async def _halt(self, key: JobKey) -> None:
        """Stop what this daemon itself does for a job: staging, or work in the background. A run is not touched."""
        flight = self._flights.get(key)
        if flight is not None:
            job = await self.board.find(*key)
            if job is None or job.phase is Phase.STAGING:
                flight.halted = True
                flight.task.cancel()
            await asyncio.wait([flight.task])
        await self._halt_work(key)

    async def _halt_work(self, key: JobKey) -> None:
        work = self._work.get(key)
        if work is not None:
            work.cancel()
            await asyncio.wait([work])

    async def _forget(self, jid: str, kind: Kind) -> bool:
        """Take a job off the board, its run first. Returns whether it was known."""
        job = await self.board.find(jid, kind)
        if kind is Kind.PLUGIN:
            name = Job(jid=jid, kind=kind, spec=None, phase=Phase.LOST).engine_name
            await self.compute.remove(name)
            self._tails.forget(name)
        if job is not None:
            await self.board.forget(job)
        return job is not None

    async def _resume(self) -> None:
        """Take up what a predecessor left: undo what it never answered, go on with what it had promised."""
        for job in self.board.live():
            if job.kind in (Kind.COPY, Kind.DELETE):
                self._spawn(job)
            elif job.phase is Phase.STAGING:
                await self._undo(job)

    async def _stop(self) -> None:
        """Stop working; copy and delete jobs stay on the board as they are, for the next daemon."""
        tasks = [flight.task for flight in self._flights.values()] + list(self._work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._tails.close()


def _skipped(jid: str, kind: Kind, spec: Spec, message: str) -> Submission:
    return Submission(job=Job(jid=jid, kind=kind, spec=spec, phase=Phase.SUCCEEDED, message=message))


def _require_same(key: JobKey, standing: Spec | None, asked: Spec) -> None:
    """Refuse a request that would be answered with a job which does something else."""
    if standing is None:
        return
    for each in fields(asked):
        if each.name not in _NOT_COMPARED and not _equal(getattr(standing, each.name), getattr(asked, each.name)):
            raise Conflict(
                f"{each.name}: differs from that of the {key[1]} job '{key[0]}', which exists already."
                " Delete that job first, or use another jid."
            )


def _equal(one: object, other: object) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return list(one) == list(other)
    return one == other


def _extra(job: Job, error: PfmocError) -> dict[str, str]:
    return {"jid": job.jid, "kind": job.kind, "cause": error.message}
