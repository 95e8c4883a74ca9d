"""A board that several replicas share: one ConfigMap for each job, in the namespace where the jobs run.

Creating the ConfigMap is the claim on the job: the cluster lets only one replica do it. Every later move names the version that
it changes, so that of two replicas which move at once one is told. What is shown comes from memory, which a watch keeps in step;
only what memory does not have is asked for.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cachetools import LRUCache

from pfmoc.cluster.access import Access
from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import Absent, AlreadyThere, Outdated
from pfmoc.cluster.informer import Informer
from pfmoc.errors import ComputeUnavailable, StartError, StorageUnavailable, TooLarge
from pfmoc.jobs import codec
from pfmoc.jobs.board import Board, Claimed, Superseded
from pfmoc.jobs.lifecycle import MOVES
from pfmoc.jobs.marks import KEEPS, LOG_OF, MANAGED, RECORD, REPLICA, log_name, record_name
from pfmoc.jobs.model import Job, Kind
from pfmoc.jobs.replicas import BEAT_S, DEAD_S, Beat, Replicas, beat_of
from pfmoc.jobs.state_dir import held, identity

_log = logging.getLogger(__name__)

START_S = 60.0
"""Seconds in which the records must have been listed when the daemon starts."""
_JOB_MAX = 900 << 10
"""Bytes of one record: a ConfigMap takes 1 MiB."""
_LOG_MAX = 700 << 10
"""Bytes of one log tail, compressed: base64 makes 934 KiB of them."""
_SHORT = 1 << 10
"""Characters of a log that goes with the record itself."""
_LOG_CACHE = 64 << 20
"""Longer logs kept in memory, in characters: so they are at most 65,536."""
_AGED_AT_ONCE = 500
_DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What is kept in memory of one record."""

    job: Job
    owner: str
    """The replica that moves the job."""
    ended: float
    """When the job ended, in seconds since 1970; 0 while it has not."""
    log: str | None
    """The log tail, if it is short; None where it is an object of its own."""
    uid: str
    version: str


class ClusterBoard(Board):
    """The board of one of several replicas.

    :param namespace: where the records are
    :param state_dir: gives this replica a name that survives its restart
    :param deadline_s: seconds that the API server may take for one question
    """

    shared = True

    def __init__(
        self,
        access: Access,
        *,
        namespace: str,
        state_dir: Path,
        deadline_s: float,
        beat_s: float = BEAT_S,
        dead_s: float = DEAD_S,
    ) -> None:
        self._access = access
        self._state_dir = state_dir
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._deadline_s = deadline_s
        self._beat_s = beat_s
        self._dead_s = dead_s
        self._beats: dict[str, Beat] = {}
        self._live: dict[str, Entry] = {}
        self._logs: LRUCache[tuple[str, str], str] = LRUCache(_LOG_CACHE, getsizeof=_room)
        """By record and claim: what is kept of a job that has ended does not change."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            try:
                stack.enter_context(held(self._state_dir))
                self.me = identity(self._state_dir)
            except OSError as error:
                raise StartError(f"PFMOC_STATE_DIR: {self._state_dir} cannot be used: {error}") from error
            self._cluster = await stack.enter_async_context(Cluster(self._access, deadline_s=self._deadline_s))
            self._informer: Informer[Entry | Beat] = Informer(self._cluster, self._path, reduce=_reduced, labels=KEEPS)
            self._informer.on_change(self._sort)
            await stack.enter_async_context(self._informer)
            try:
                await self._informer.wait_synced(START_S)
                self._replicas = Replicas(
                    self._cluster,
                    me=self.me,
                    path=self._path,
                    memory=self._informer,
                    beats=lambda: self._beats,
                    busy=lambda: {entry.owner for entry in self._live.values()},
                    beat_s=self._beat_s,
                    dead_s=self._dead_s,
                )
                await stack.enter_async_context(self._replicas)
            except ComputeUnavailable as error:
                raise StartError(f"the job records in the cluster cannot be read: {error.message}") from error
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    # Looking

    @property
    def age_s(self) -> float | None:
        """Seconds since the cluster last confirmed what is shown; None while it is being watched."""
        return self._informer.age_s

    def live(self) -> Iterator[Job]:
        """The jobs that have not ended, as of this call."""
        return iter([entry.job for entry in self._live.values()])

    async def find(self, jid: str, kind: Kind, *, fresh: bool = False) -> Job | None:
        """Return a job: from memory; what memory does not have, from the cluster."""
        name = record_name(jid, kind)
        entry = None if fresh else self._entry(name)
        if entry is None:
            entry = await self._fetched(name)
        return None if entry is None else entry.job

    def glance(self, jid: str, kind: Kind) -> Job | None:
        """Return a job if it is in memory."""
        entry = self._entry(record_name(jid, kind))
        return None if entry is None else entry.job

    async def log(self, job: Job) -> str:
        """Return the log tail kept with an ended job."""
        name = record_name(*job.key)
        entry = self._entry(name)
        if entry is not None and entry.log is not None:
            return entry.log
        log: str | None = self._logs.get((name, job.claim))
        if log is None:
            try:
                thing = await self._cluster.request("GET", f"{self._path}/{log_name(job)}")
            except Absent:
                return ""
            packed = (thing.get("binaryData") or {}).get("log.gz", "")
            log = await asyncio.to_thread(_unpacked, packed)
            if _room(log) <= _LOG_CACHE:
                self._logs[name, job.claim] = log
        return log

    async def aged(self, days: float) -> Sequence[Job]:
        """Return some of the jobs that ended so many days ago."""
        before = time.time() - days * _DAY_S
        entries = (entry for entry in self._informer.values() if isinstance(entry, Entry))
        return [entry.job for entry in entries if 0 < entry.ended < before][:_AGED_AT_ONCE]

    def mine(self, job: Job) -> bool:
        """True where it is this replica that moves the job."""
        entry = self._entry(record_name(*job.key))
        return entry is not None and entry.owner == self.me

    def orphans(self) -> Sequence[Job]:
        """The live jobs whose replica is dead."""
        dead = {owner for owner in {entry.owner for entry in self._live.values()} if self._replicas.dead(owner)}
        return [entry.job for entry in self._live.values() if entry.owner in dead] if dead else ()

    # Moving

    async def claim(self, job: Job, *, over: Job | None = None, claim: str = "") -> Job:
        """Create the record, or change that of the ended job, and so be the one whose job it is."""
        job = replace(job, claim=claim or secrets.token_hex(8))
        name = record_name(*job.key)
        if over is None:
            try:
                self._informer.put(await self._cluster.request("POST", self._path, body=self._body(job)))
            except AlreadyThere:
                await self._fetched(name)
                raise Claimed from None
            return job
        entry = self._entry(name)
        if entry is None or entry.job.claim != over.claim or not entry.job.phase.terminal:
            raise Claimed
        try:
            await self._put(entry, self._body(job))
        except (Outdated, Absent):
            await self._fetched(name)
            raise Claimed from None
        return job

    async def save(self, job: Job, *, log: str = "") -> None:
        """Change the record, if it is as it was seen; else look again whether the move still counts."""
        name = record_name(*job.key)
        entry = self._entry(name)
        if len(log) > _SHORT and entry is not None:
            self._check(job, entry)
            await self._save_log(job, entry, log)
        while entry is not None:
            self._check(job, entry)
            try:
                await self._put(entry, self._body(job, log=log))
            except (Outdated, Absent):
                entry = await self._fetched(name)
            else:
                return
        raise Superseded(job)

    async def take(self, job: Job, *, orphaned: bool = False) -> Job | None:
        """Put this replica's name into the record."""
        name = record_name(*job.key)
        entry = self._entry(name) or await self._fetched(name)
        while entry is not None and entry.job.claim == job.claim:
            if entry.job.phase.terminal:
                return entry.job
            if entry.owner == self.me:
                return entry.job
            if orphaned and not self._replicas.dead(entry.owner):
                return None
            try:
                await self._put(entry, self._body(entry.job))
            except (Outdated, Absent):
                entry = await self._fetched(name)
            else:
                _log.info("took over a job", extra={"jid": job.jid, "kind": job.kind, "from": entry.owner})
                return entry.job
        return None

    async def forget(self, job: Job) -> None:
        """Remove the record, and the log tail."""
        name = record_name(*job.key)
        entry = self._entry(name) or await self._fetched(name)
        while entry is not None and entry.job.claim == job.claim:
            condition = {"uid": entry.uid, "resourceVersion": entry.version}
            body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": condition}
            try:
                await self._cluster.request("DELETE", f"{self._path}/{name}", body=body)
            except Absent:
                break
            except Outdated:
                entry = await self._fetched(name)
            else:
                break
        else:
            return
        self._informer.forget(name)
        if entry.log is None:
            # The record owned it, so the cluster removes it as well; a record that comes anew must not find it.
            with suppress(Absent):
                await self._cluster.request("DELETE", f"{self._path}/{log_name(job)}")

    # Within

    def _check(self, job: Job, entry: Entry) -> None:
        """Refuse a move that another replica has overtaken.

        :raises Superseded: so it is
        """
        there = entry.job.phase
        legal = job.phase is there or job.phase in MOVES[there]
        if entry.job.claim != job.claim or entry.owner != self.me or not legal:
            raise Superseded(job)

    def _entry(self, name: str) -> Entry | None:
        kept = self._informer.get(name)
        return kept if isinstance(kept, Entry) else None

    async def _fetched(self, name: str) -> Entry | None:
        """Ask the cluster for a record, and remember it."""
        try:
            thing = await self._cluster.request("GET", f"{self._path}/{name}")
        except Absent:
            self._informer.forget(name)
            return None
        self._informer.put(thing)
        read = _reduced(thing)
        if not isinstance(read, Entry):
            raise StorageUnavailable(f"the job record {name} in the cluster cannot be read")
        return read

    async def _put(self, entry: Entry, body: dict[str, Any]) -> None:
        """Replace a record, if it is as it was seen."""
        name = body["metadata"]["name"]
        body["metadata"] |= {"resourceVersion": entry.version, "uid": entry.uid}
        self._informer.put(await self._cluster.request("PUT", f"{self._path}/{name}", body=body))

    def _body(self, job: Job, *, log: str = "") -> dict[str, Any]:
        text = codec.job_json(job)
        if len(text) > _JOB_MAX:
            raise TooLarge(f"The job's description has {len(text)} bytes; the cluster takes {_JOB_MAX}.")
        data = {"job": text, "owner": self.me}
        if job.phase.terminal:
            data["ended"] = f"{time.time():.0f}"
        if len(log) <= _SHORT:
            data["log"] = log
        labels = {**MANAGED, KEEPS: RECORD, "chrisproject.org/job-type": str(job.kind)}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": record_name(*job.key), "labels": labels},
            "data": data,
        }

    async def _save_log(self, job: Job, entry: Entry, log: str) -> None:
        packed = await asyncio.to_thread(_packed, log)
        name = log_name(job)
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": record_name(*job.key), "uid": entry.uid}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {**MANAGED, LOG_OF: str(job.kind)}, "ownerReferences": [owner]},
            "binaryData": {"log.gz": packed},
        }
        try:
            await self._cluster.request("POST", self._path, body=body)
        except AlreadyThere:
            await self._cluster.request("PUT", f"{self._path}/{name}", body=body)

    def _sort(self, name: str, old: Entry | Beat | None, new: Entry | Beat | None) -> None:
        """Keep the live jobs, and the signs of life, where they are found without looking at everything."""
        if isinstance(new, Beat):
            self._beats[new.replica] = new
            return
        if isinstance(new, Entry) and not new.job.phase.terminal:
            self._live[name] = new
        else:
            self._live.pop(name, None)
        if isinstance(old, Beat):
            self._beats.pop(old.replica, None)


def _reduced(thing: Mapping[str, Any]) -> Entry | Beat | None:
    metadata, data = thing["metadata"], thing.get("data") or {}
    keeps = (metadata.get("labels") or {}).get(KEEPS)
    try:
        if keeps == REPLICA:
            return beat_of(thing)
        if keeps != RECORD:
            return None
        return Entry(
            job=codec.job_of(data["job"]),
            owner=data["owner"],
            ended=float(data.get("ended", 0)),
            log=data.get("log"),
            uid=metadata["uid"],
            version=metadata["resourceVersion"],
        )
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("a job record in the cluster cannot be read", extra={"record": metadata["name"], "cause": repr(error)})
        return None


def _packed(log: str) -> str:
    """The end of a log, compressed until it fits."""
    data = log.encode()
    packed = gzip.compress(data, mtime=0)
    while len(packed) > _LOG_MAX:
        data = data[len(data) // 2 :]
        packed = gzip.compress(data, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def _room(log: str) -> int:
    return max(len(log), _SHORT)


def _unpacked(packed: str) -> str:
    return gzip.decompress(base64.b64decode(packed)).decode(errors="replace") if packed else ""
