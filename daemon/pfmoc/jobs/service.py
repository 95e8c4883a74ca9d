"""The job service: every dialect speaks to this, and this speaks to storage and compute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

from pfmoc.compute.base import Compute, Run, Stages
from pfmoc.data import Data
from pfmoc.errors import ComputeConflict, ComputeUnavailable, Conflict, InvalidRequest, NoSuchJob, PfmocError, Unavailable
from pfmoc.jobs import codec
from pfmoc.jobs.background import Background, Work
from pfmoc.jobs.board import Board, Claimed, JobKey
from pfmoc.jobs.boards import open_board
from pfmoc.jobs.endings import Endings
from pfmoc.jobs.follower import Follower
from pfmoc.jobs.keeper import Keeper
from pfmoc.jobs.lifecycle import move, observe
from pfmoc.jobs.model import CopySpec, DeleteSpec, Job, Kind, Phase, PluginSpec, Spec, Status, UploadSpec, inputs_of, joined, now
from pfmoc.jobs.names import engine_name
from pfmoc.jobs.outputs import Outputs
from pfmoc.jobs.submission import Submission, Submissions, skipped
from pfmoc.jobs.tails import Tails
from pfmoc.locks import KeyedLocks
from pfmoc.settings import Settings
from pfmoc.storage.base import Inputs, Staged, Storage

_log = logging.getLogger(__name__)

STALE_S = 10.0
"""Seconds without word from the cluster, after which this daemon no longer says that it is ready."""
_SIBLINGS = (Kind.COPY, Kind.PLUGIN, Kind.UPLOAD)
"""What a delete job ends."""


class Jobs:
    """All jobs. Entered once, at start: it reconciles the records with the compute environment, and then follows that.

    :param board: instead of the one that the settings ask for
    """

    def __init__(
        self,
        *,
        settings: Settings,
        storage: Storage,
        compute: Compute,
        placed: Storage | None = None,
        board: Board | None = None,
    ) -> None:
        self.settings = settings
        self.storage = storage
        self.placed = placed
        """Storage of jobs whose client stages for itself (``PluginSpec.placed``); None where clients share no storage."""
        self.compute = compute
        self.board = board or open_board(settings)
        self.outputs = Outputs(self.board, storage)
        self._locks = KeyedLocks()
        self._background = Background(self.board, work_of=self._work_of, clear_after=self._clear_after)
        self._tails = Tails(compute, lines=settings.job_logs_tail)
        self._endings = Endings(
            board=self.board, compute=compute, storage_of=self._storage_of, tails=self._tails, log_of=self.log
        )
        self._follower = Follower(
            board=self.board, compute=compute, storage_of=self._storage_of, locks=self._locks, log_tail=settings.job_logs_tail
        )
        self._submissions = Submissions(
            board=self.board, locks=self._locks, begun=self._begun, rebuild=self._follower.rebuild, log_of=self.log
        )
        self._keeper = Keeper(
            board=self.board,
            locks=self._locks,
            follower=self._follower,
            background=self._background,
            forget=self._endings.forget if settings.remove_jobs else None,
            days=settings.record_days,
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.board)
            stack.push_async_callback(self._stop)
            await self._keeper.resume()
            await stack.enter_async_context(self._follower)
            await stack.enter_async_context(self._keeper)
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

        async def begin(over: Job | None) -> Submission:
            if copied:
                await self._require_copy(jid)
            await self._require_no_removal(jid)
            first = Phase.STARTING if copied else Phase.STAGING
            job = Job(jid=jid, kind=Kind.PLUGIN, spec=spec, phase=first, image=spec.image, cmd=joined(spec.command()))
            job = await self.board.claim(job, over=over)
            try:
                if over is not None:
                    await self._endings.clear(jid, None)
                staged = None
                if not copied:
                    staged = await storage.stage(inputs)
                    job = move(job, Phase.STARTING)
                    await self.board.save(job)
                data = await storage.data(inputs, lifetime_s=self._lifetime_s)
                job = observe(job, await self.compute.start(_run(job, spec, data)))
                await self._follower.settle(job)
            except ComputeConflict:
                await self.board.forget(job)  # a run that nobody here knew of has the name: it stays, and is adopted
                raise
            except BaseException:
                await self._undo(job)
                raise
            # A run may be quicker than this answer: then it has an end already, and a log.
            job = await self.board.find(jid, Kind.PLUGIN) or job
            return Submission(job=job, staged=staged, log=await self.log(job) if job.phase.terminal else "")

        return await self._submissions.once((jid, Kind.PLUGIN), spec, begin)

    async def submit_copy(self, jid: str, spec: CopySpec) -> Submission:
        """Copy the input in the background. Where storage needs none: a job that has succeeded, message ``copySkipped``."""
        if not self.storage.requires_copy:
            return skipped(jid, Kind.COPY, spec, "copySkipped")
        self.storage.check(inputs_of(jid, spec))
        return await self._in_background((jid, Kind.COPY), spec)

    async def submit_upload(self, jid: str, spec: UploadSpec) -> Submission:
        """Upload the output in the background. Where storage needs none: message ``uploadSkipped``.

        :raises InvalidRequest: the path is none that a client may name
        :raises Conflict: there is no plugin job, or it has not ended
        """
        if not self.storage.requires_upload:
            return skipped(jid, Kind.UPLOAD, spec, "uploadSkipped")
        self.storage.check(Inputs(jid=jid, output_dir=spec.job_output_path))
        plugin = await self._settled(jid, Kind.PLUGIN, frozenset({Status.SUCCEEDED, Status.FAILED}))
        if plugin is None:
            raise Conflict("No plugin job found. A plugin job must complete before scheduling an upload job.")
        if plugin.status not in (Status.SUCCEEDED, Status.FAILED):
            raise Conflict(
                f"Plugin job has not completed yet (status: {plugin.status}). The plugin job must finish before uploading."
            )
        return await self._in_background((jid, Kind.UPLOAD), spec)

    async def submit_delete(self, jid: str, spec: DeleteSpec) -> Submission:
        """End what goes on under the id, and remove its data, in the background. Where there is neither: ``deleteSkipped``.

        A copy that waits for its turn has no data yet, and the plugin of storage without copies never has: CUBE cancels both
        with this one request.

        :raises Conflict: a sibling is active and ``delete_active`` is ``refuse``
        """
        active = await self._active(jid)
        if active is None and not await self.storage.holds(jid):
            return skipped(jid, Kind.DELETE, spec, "deleteSkipped")
        if active is not None and self.settings.delete_active == "refuse":
            raise Conflict(
                f"The {active.kind} job is still active (status: {active.status})."
                " All jobs must finish before scheduling a delete job."
            )
        await self.storage.halt(jid)
        return await self._in_background((jid, Kind.DELETE), spec)

    async def _active(self, jid: str) -> Job | None:
        for kind in _SIBLINGS:
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
            for kind in (Kind.PLUGIN, Kind.COPY):
                if await self.board.find(jid, kind) is not None:
                    await self._endings.forget(jid, kind)
            pushed = Job(jid=jid, kind=Kind.COPY, spec=CopySpec(), phase=Phase.SUCCEEDED, message="pushed", timestamp=now())
            try:
                await self.board.claim(pushed)
            except Claimed:
                raise Conflict(f"Another server puts data under the id '{jid}' right now.") from None
        return staged

    async def clean(self, jid: str) -> None:
        """Remove the data of an id. The record of its plugin job stays.

        :raises Conflict: a job of that id has not ended
        """
        async with self._locks.hold(jid):
            await self.require_ended(jid)
            await self.storage.discard(jid)
            await self._endings.forget(jid, Kind.COPY)

    # Asking

    async def get(self, jid: str, kind: Kind) -> Job:
        """Return a job as it stands. Costs no call to the compute environment where the job is known here.

        :raises NoSuchJob: there is none; its text is the wire's
        """
        job = await self.board.find(jid, kind)
        if job is None:
            raise NoSuchJob(f"No such job: {jid} ({kind})")
        return job

    @property
    def age_s(self) -> float | None:
        """Seconds since answers were last confirmed by what they speak of; None while they are in step."""
        ages = [age for age in (self.compute.age_s, self.board.age_s) if age is not None]
        return max(ages, default=None)

    async def log(self, job: Job) -> str:
        """Return the tail of the job's log: kept for an ended job; of a running one the last that could be fetched.

        Empty while it cannot be had: a status never fails for its log.
        """
        if job.phase.terminal:
            try:
                return await self.board.log(job)
            except ComputeUnavailable as error:
                extra = {"jid": job.jid, "kind": job.kind, "cause": error.message}
                _log.info("the log of an ended job cannot be had", extra=extra)
                return ""
        if not _has_run(job):
            return ""
        return await self._tails.tail(job.engine_name)

    async def follow(self, job: Job) -> AsyncGenerator[bytes]:
        """Yield a job's log from its beginning, as it is written, until the job has ended; of an ended job what is kept.

        :raises Unavailable: the compute environment does not answer, or broke off
        """
        if job.phase.terminal:
            yield (await self.board.log(job)).encode()
            return
        if not _has_run(job):
            return
        async with aclosing(self.compute.follow(job.engine_name)) as pieces:  # type: ignore[type-var]  # generators all
            async for piece in pieces:
                yield piece

    async def stages(self, job: Job) -> Stages:
        """Where a plugin job's time went, as far as the compute environment can tell."""
        if job.stages is None and _has_run(job):
            seen = await self.compute.inspect(job.engine_name)
            if seen is not None and seen.stages is not None:
                return seen.stages
        return job.stages or Stages()

    async def probe(self) -> dict[str, PfmocError]:
        """Ask storage and compute whether they are well. Returns what is wrong, by name; empty when all is well."""
        wrong: dict[str, PfmocError] = {}
        questions: Mapping[str, Awaitable[None]] = {"storage": self.storage.probe(), "compute": self.compute.probe()}
        for name, answer in zip(questions, await asyncio.gather(*questions.values(), return_exceptions=True), strict=True):
            if isinstance(answer, PfmocError):
                wrong[name] = answer
            elif isinstance(answer, BaseException):
                raise answer
        if self._follower.stale:
            wrong.setdefault("watch", Unavailable(self._follower.stale))
        age = self.age_s
        if age is not None and age > STALE_S:
            wrong.setdefault("watch", Unavailable(f"what is known of the jobs was last confirmed {age:.0f} s ago"))
        return wrong

    # Ending

    async def remove(self, jid: str, kind: Kind) -> None:
        """End the job if it goes on, and forget it; absent is fine. Data stay. Does nothing when ``remove_jobs`` is off."""
        if not self.settings.remove_jobs:
            return
        await self._halt((jid, kind))
        async with self._locks.hold(jid):
            await self._endings.forget(jid, kind)

    async def purge(self, jid: str) -> None:
        """Remove the plugin job's data, then the job (pfcon 5).

        :raises NoSuchJob: there was no such job (its data are gone all the same)
        """
        if not self.settings.remove_jobs:
            await self.storage.discard(jid)
            return
        await self._halt((jid, Kind.PLUGIN))
        async with self._locks.hold(jid):
            known = await self._endings.forget(jid, Kind.PLUGIN)
            await self.storage.discard(jid)
        if not known:
            raise NoSuchJob(f"No such job: {jid} ({Kind.PLUGIN})")

    # Within

    async def _begun(self, job: Job) -> Job | None:
        """Find out what becomes of a job that is not answered yet; None when it was undone.

        :raises Unavailable: it cannot be told now
        """
        if self.board.mine(job):
            return await self._follower.resolve(job)
        return await self._keeper.awaited(job)

    async def require_ended(self, jid: str) -> None:
        """Check that no plugin job is at work on the data of an id.

        :raises Conflict: one is
        """
        job = await self.board.find(jid, Kind.PLUGIN)
        if job is not None and not job.phase.terminal:
            raise Conflict(f"The job '{jid}' has not ended (status: {job.status}); its data stay as they are.")

    async def _require_copy(self, jid: str) -> None:
        copy = await self._settled(jid, Kind.COPY, frozenset({Status.SUCCEEDED}))
        if copy is None:
            raise Conflict("No copy job found. A copy job must complete successfully before scheduling a plugin job.")
        if copy.phase is not Phase.SUCCEEDED:
            raise Conflict(f"Copy job has not completed successfully (status: {copy.status}). Run the copy job first.")

    async def _require_no_removal(self, jid: str) -> None:
        """On a board of one's own, whoever removes data holds the lock of the job id; elsewhere that is another's lock.

        :raises Unavailable: another replica removes the data right now
        """
        if self.board.shared:
            job = await self.board.find(jid, Kind.DELETE)
            if job is not None and not job.phase.terminal:
                raise Unavailable(f"The data of the job '{jid}' are being removed.", retry_after=2)

    async def _settled(self, jid: str, kind: Kind, wanted: frozenset[Status]) -> Job | None:
        """Return a job that another request depends on. One that is not as wanted may have been moved by another replica."""
        job = await self.board.find(jid, kind)
        if self.board.shared and job is not None and job.status not in wanted:
            job = await self.board.find(jid, kind, fresh=True)
        return job

    def _storage_of(self, spec: Spec | None) -> Storage:
        """The storage that a job's data are in."""
        if not (isinstance(spec, PluginSpec) and spec.placed):
            return self.storage
        if self.placed is None:
            raise InvalidRequest("input_dir", "this compute resource has no storage that its clients share")
        return self.placed

    @property
    def _lifetime_s(self) -> float:
        """Seconds for which a job's tickets are good. Its deadline counts from when the cluster takes it up, not from now."""
        return self.settings.queue_wait_s + self.settings.job_deadline_s + self.settings.publish_deadline_s

    async def _undo(self, job: Job) -> None:
        """Clear away a plugin job that was not answered. If even that fails, its record stays for the follower to resolve."""
        try:
            await self._follower.undo(job)
        except PfmocError as error:
            extra = {"jid": job.jid, "kind": job.kind, "cause": error.message}
            _log.warning("a job that could not be started could not be cleared away yet", extra=extra)

    # In the background

    async def _in_background(self, key: JobKey, spec: CopySpec | UploadSpec | DeleteSpec) -> Submission:
        async def begin(over: Job | None) -> Submission:
            job = Job(jid=key[0], kind=key[1], spec=spec, phase=Phase.PENDING, timestamp=now())
            job = await self.board.claim(job, over=over)
            self._background.spawn(job)
            return Submission(job=job)

        return await self._submissions.once(key, spec, begin)

    def _work_of(self, job: Job) -> tuple[Work, bool]:
        match job.spec:
            case CopySpec():
                return self._copy, True
            case UploadSpec():
                return self._upload, True
            case _:
                return self._delete, False

    async def _clear_after(self, job: Job) -> None:
        if job.kind is Kind.COPY:
            async with self._locks.hold(job.jid):
                await self._follower.clear_after(job)

    async def _copy(self, job: Job) -> str:
        if not isinstance(job.spec, CopySpec):
            raise TypeError(job)
        staged = await self.storage.stage(inputs_of(job.jid, job.spec))
        return f"Copied {staged.nfiles} files."

    async def _upload(self, job: Job) -> str:
        if not isinstance(job.spec, UploadSpec):
            raise TypeError(job)
        number = await self.outputs.upload(job.jid, job.spec.job_output_path)
        if number is None:
            raise Conflict(f"The job '{job.jid}' was begun anew before its output was uploaded.")
        return f"Uploaded {number} files."

    async def _delete(self, job: Job) -> str:
        for kind in _SIBLINGS:
            await self._halt((job.jid, kind))
        async with self._locks.hold(job.jid):  # a sibling that comes now finds no data half removed
            for kind in _SIBLINGS:
                await self._background.halt((job.jid, kind))
                await self._endings.cancel(job.jid, kind)
            await self.storage.discard(job.jid)
        return "Removed the job's data."

    async def _halt(self, key: JobKey) -> None:
        """Stop what this daemon itself does for a job: staging, or work in the background. A run is not touched."""

        async def staging() -> bool:
            job = await self.board.find(*key)
            return job is None or job.phase is Phase.STAGING

        await self._submissions.flights.halt(key, cut=staging)
        await self._background.halt(key)
        if key[1] is Kind.PLUGIN:
            await self.storage.halt(key[0])

    async def give_up(self) -> None:
        """Break off what requests are waiting for; they hear that the server stops. What cannot be answered is undone."""
        await self._submissions.flights.stop()

    async def _stop(self) -> None:
        """Stop working; copy, upload and delete jobs stay on the board as they are, for the next daemon."""
        await asyncio.gather(self._submissions.flights.stop(), self._background.stop())
        await self._tails.close()


def _has_run(job: Job) -> bool:
    return job.kind is Kind.PLUGIN and job.phase not in (Phase.STAGING, Phase.STARTING)


def _run(job: Job, spec: PluginSpec, data: Data) -> Run:
    return Run(
        name=engine_name(job.jid),
        jid=job.jid,
        image=spec.image,
        argv=spec.command(),
        env=dict(pair.split("=", 1) for pair in spec.env),
        data=data,
        limits=spec.limits,
        digest=codec.digest(job),
        record=codec.run_record(job),
    )
