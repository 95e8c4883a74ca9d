"""Which pods and warnings belong to which Job, and who wants to hear when something about one changes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from pfmoc.cluster.feed import Feed
from pfmoc.cluster.informer import Informer
from pfmoc.compute.kubernetes_facts import JobFacts, Note, PodFacts


class Index:
    """Follows three informers. Pods and warnings are known by the uid of their Job or pod, for names come again.

    The last word of a pod is kept for as long as its Job is there: with a node, its pods are removed.
    """

    def __init__(self, jobs: Informer[JobFacts], pods: Informer[PodFacts], notes: Informer[Note]) -> None:
        self._pods: defaultdict[str, dict[str, PodFacts]] = defaultdict(dict)
        self._notes: defaultdict[str, dict[str, Note]] = defaultdict(dict)
        self._jobs = jobs
        self._job_of: dict[str, str] = {}
        self._feeds: set[Feed] = set()
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        jobs.on_change(self._job_changed)
        pods.on_change(self._pod_changed)
        notes.on_change(self._note_changed)

    def pods(self, job: JobFacts) -> list[PodFacts]:
        """All pods of a Job that have been seen and told something, in the order in which they were made."""
        return sorted(self._pods.get(job.uid, {}).values(), key=lambda pod: (pod.created, pod.name))

    def notes(self, job: JobFacts) -> list[Note]:
        """The warnings about a Job and its pods."""
        uids = (job.uid, *(pod.uid for pod in self._pods.get(job.uid, {}).values()))
        return [note for uid in uids for note in self._notes.get(uid, {}).values()]

    @contextmanager
    def feed(self) -> Iterator[Feed]:
        """Names of Jobs: every one that is there, and then each about which something changes."""
        feed = Feed(name for name, _ in self._jobs.items())
        self._feeds.add(feed)
        try:
            yield feed
        finally:
            self._feeds.discard(feed)

    @contextmanager
    def changes(self, name: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something about this Job changes."""
        event = asyncio.Event()
        self._waiting[name].add(event)
        try:
            yield event
        finally:
            self._waiting[name].discard(event)
            if not self._waiting[name]:
                del self._waiting[name]

    def close(self) -> None:
        """End every feed."""
        for feed in self._feeds:
            feed.close()

    def _job_changed(self, name: str, before: JobFacts | None, after: JobFacts | None) -> None:
        if before is not None and (after is None or after.uid != before.uid):
            for pod in self._pods.pop(before.uid, {}).values():
                self._job_of.pop(pod.uid, None)
        self._tell(name)

    def _pod_changed(self, name: str, before: PodFacts | None, after: PodFacts | None) -> None:
        if before is not None and (after is None or after.uid != before.uid):
            self._part_from(before)
        if after is not None:
            self._pods[after.job_uid][name] = after
            self._job_of[after.uid] = after.job
        known = after or before
        if known is not None:
            self._tell(known.job)

    def _part_from(self, pod: PodFacts) -> None:
        job = self._jobs.get(pod.job)
        of_job = self._pods.get(pod.job_uid, {})
        if (pod.ended or pod.disruption) and job is not None and job.uid == pod.job_uid:
            return
        of_job.pop(pod.name, None)
        if not of_job:
            self._pods.pop(pod.job_uid, None)
        self._job_of.pop(pod.uid, None)

    def _note_changed(self, name: str, before: Note | None, after: Note | None) -> None:
        if before is not None:
            self._notes[before.uid].pop(name, None)
            if not self._notes[before.uid]:
                del self._notes[before.uid]
        if after is not None:
            self._notes[after.uid][name] = after
            self._tell(after.name if after.kind == "Job" else self._job_of.get(after.uid, ""))

    def _tell(self, name: str) -> None:
        for feed in self._feeds:
            feed.add(name)
        for event in self._waiting.get(name, ()):
            event.set()
