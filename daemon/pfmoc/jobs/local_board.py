"""A board of one's own: live jobs in memory, ended ones in SQLite with a bounded cache before them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from cachetools import LRUCache

from pfmoc.jobs.board import Board, JobKey
from pfmoc.jobs.model import Job, Kind
from pfmoc.jobs.records import Records

_ENDED_JOBS = 20_000
"""Ended jobs kept in memory: some 500 bytes each."""
_LOG_BYTES = 64 << 20
"""Log tails of ended jobs kept in memory, in characters."""


class LocalBoard(Board):
    """The board of a daemon that is alone with its state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._records = Records(state_dir)
        self._live: dict[JobKey, Job] = {}
        self._ended: LRUCache[JobKey, Job] = LRUCache(_ENDED_JOBS)
        self._logs: LRUCache[JobKey, str] = LRUCache(_LOG_BYTES, getsizeof=len)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._records)
            self._live = {job.key: job for job in await self._records.live()}
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    def live(self) -> Iterator[Job]:
        """The jobs that have not ended, as of this call."""
        return iter(list(self._live.values()))

    async def find(self, jid: str, kind: Kind, *, fresh: bool = False) -> Job | None:  # noqa: ARG002 - nobody else writes
        """Return a job: from memory, or from the records."""
        job = self.glance(jid, kind)
        if job is None:
            job = await self._records.find(jid, kind)
            if job is not None and job.phase.terminal:
                self._ended[job.key] = job
        return job

    def glance(self, jid: str, kind: Kind) -> Job | None:
        """Return a job if it is in memory."""
        key = (jid, kind)
        job: Job | None = self._live.get(key) or self._ended.get(key)
        return job

    async def claim(self, job: Job, *, over: Job | None = None, claim: str = "") -> Job:  # noqa: ARG002 - the lock of the job id has seen to that
        """Put up a job that begins. The lock of the job id has seen to it that there is no other."""
        job = replace(job, claim=claim or secrets.token_hex(8))
        await self.save(job)
        return job

    async def save(self, job: Job, *, log: str = "") -> None:
        """Write a job down, and then show it."""
        await self._records.save(job, log=log)
        self._drop(job)
        if job.phase.terminal:
            self._ended[job.key] = job
        else:
            self._live[job.key] = job

    async def log(self, job: Job) -> str:
        """Return the log tail kept with an ended job."""
        log: str | None = self._logs.get(job.key)
        if log is None:
            log = await self._records.log(*job.key)
            if len(log) <= _LOG_BYTES:
                self._logs[job.key] = log
        return log

    async def forget(self, job: Job) -> None:
        """Take a job down for good."""
        await self._records.forget(*job.key)
        self._drop(job)

    async def aged(self, days: float) -> Sequence[Job]:
        """Return some of the jobs that ended so many days ago."""
        return await self._records.aged(days)

    def _drop(self, job: Job) -> None:
        self._live.pop(job.key, None)
        self._ended.pop(job.key, None)
        self._logs.pop(job.key, None)
