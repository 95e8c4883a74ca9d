"""What nobody in the cluster does by itself, done now and then by every replica, and no worse for being done twice.

- A pod whose image cannot be had would wait for it a week: its Job is ended, with the cause.
- A run that has come to its deadline is ended. The cluster itself would give the plugin as long to end as its publisher may take,
  and process 1 without a handler does not heed SIGTERM.
- A Secret whose Job was never made is removed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress

from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import Absent, ClusterRefused, Outdated, ServerError
from pfmoc.cluster.informer import Informer
from pfmoc.compute.kubernetes_facts import FAILURE, SECRET, JobFacts, PodFacts
from pfmoc.compute.kubernetes_secrets import Orphan, orphans, owned_by
from pfmoc.compute.kubernetes_status import HOPELESS, stuck, stuck_message
from pfmoc.errors import PfmocError

_log = logging.getLogger(__name__)

EVERY_S = 2.0
SWEEP_S = 3600.0
"""Seconds between two looks for Secrets without a Job."""
OVERDUE_S = 300
"""Seconds that a run has, at its deadline, to end and to publish what there is."""
_OF_ONE = (ClusterRefused, ServerError)
"""What may be the matter with one object alone: a webhook says no to it, or fails over it. No answer at all is meant for all."""


class Chores:
    """See the module.

    :param namespace: of the jobs
    :param patience_s: seconds that an image may be missing
    :param deadline_s: seconds that a run may take
    :param grace_s: seconds that it has then, to end and to publish
    :param clock: monotonic
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        *,
        jobs: Informer[JobFacts],
        pods: Informer[PodFacts],
        patience_s: float,
        deadline_s: int,
        grace_s: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._jobs_path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._core = f"/api/v1/namespaces/{namespace}"
        self._jobs = jobs
        self._pods = pods
        self._patience_s = patience_s
        self._deadline_s = deadline_s
        self._grace_s = grace_s
        self._clock = clock
        self._since: dict[str, float] = {}
        self._refused: set[str] = set()
        """Runs that could not be ended, of which the log has been told."""

    async def run(self) -> None:
        """Do them, again and again, until cancelled."""
        swept = float("-inf")
        while True:
            try:
                await self.once()
                if self._clock() - swept >= SWEEP_S:
                    await self.sweep()
                    swept = self._clock()
            except PfmocError as error:
                _log.info("chores have to wait", extra={"cause": error.message})
            except Exception:  # noqa: BLE001 - a bug met with one pod must not end the care for all others
                _log.exception("a chore failed")
            await asyncio.sleep(EVERY_S)

    async def once(self) -> None:
        """Look at every Job and pod that is known. One that the cluster will not have changed is in no other's way.

        :raises PfmocError: the cluster did not answer
        """
        pods = {pod.uid: pod for pod in self._pods.values() if stuck(pod) is not None and not pod.deleting}
        now = self._clock()
        self._since = {uid: self._since.get(uid, now) for uid in pods}
        for uid, since in self._since.items():
            job = self._jobs.get(pods[uid].job)
            if job is not None and now - since >= self._patience(pods[uid]):
                await self._try_to_end(job, stuck_message(job, pods[uid]))
        overdue = [job for job in self._jobs.values() if self._cluster.now - (job.began or math.inf) >= self._deadline_s]
        for job in overdue:
            await self._try_to_end(job, f"DeadlineExceeded: it took longer than the {self._deadline_s} s that a job may")
        self._refused &= {job.uid for job in self._jobs.values()}

    async def sweep(self) -> None:
        """Give each Secret without an owner to its Job, or remove it when there is none.

        :raises PfmocError: the cluster did not answer
        """
        path = f"{self._core}/secrets"
        for orphan in await orphans(self._cluster, path):
            try:
                await self._settle(orphan, path)
            except _OF_ONE as error:
                _log.warning("a secret without an owner is left as it is", extra={"secret": orphan.name, "cause": error.message})

    async def _settle(self, orphan: Orphan, path: str) -> None:
        try:
            job = await self._cluster.request("GET", f"{self._jobs_path}/{orphan.run}")
        except Absent:
            job = {}
        if ((job.get("metadata") or {}).get("annotations") or {}).get(SECRET) == orphan.name:
            await self._cluster.request("PATCH", f"{path}/{orphan.name}", body=owned_by(job))
        else:
            await self._gone(f"{path}/{orphan.name}")
            _log.info("removed what a start that failed had left", extra={"secret": orphan.name})

    def _patience(self, pod: PodFacts) -> float:
        container = stuck(pod)
        return 0.0 if container is None or container.reason in HOPELESS else self._patience_s

    async def _try_to_end(self, job: JobFacts, reason: str) -> None:
        """End a run; where the cluster refuses, say so once, and try again in the next round."""
        try:
            await self._end(job, reason)
        except _OF_ONE as error:
            if job.uid not in self._refused:
                self._refused.add(job.uid)
                _log.warning("a run cannot be ended", extra={"jid": job.jid, "reason": reason, "cause": error.message})

    async def _end(self, job: JobFacts, reason: str) -> None:
        """End a run, and have it remembered why."""
        if job.complete or job.failed or job.failure or job.doomed or job.deleting:
            return
        # Before the Job: a kubelet that has begun to end a pod does not hear of a shorter time (kubernetes#83916).
        for pod in self._pods.values():
            if pod.job_uid == job.uid and not pod.ended:
                body = {"gracePeriodSeconds": self._grace_s, "preconditions": {"uid": pod.uid}}
                await self._gone(f"{self._core}/pods/{pod.name}", body=body)
        body = {
            "metadata": {"uid": job.uid, "annotations": {FAILURE: reason}},
            # So the Job controller ends it at once.
            "spec": {"activeDeadlineSeconds": 1},
        }
        with suppress(Absent, Outdated):
            self._jobs.put(await self._cluster.request("PATCH", f"{self._jobs_path}/{job.name}", body=body))
            _log.warning("ended a run", extra={"jid": job.jid, "reason": reason})

    async def _gone(self, path: str, body: dict[str, object] | None = None) -> None:
        with suppress(Absent, Outdated):
            await self._cluster.request("DELETE", path, body=body)
