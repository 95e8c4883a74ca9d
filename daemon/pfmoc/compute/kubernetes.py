"""Plugins as Jobs of Kubernetes, or of OpenShift, each in a pod of its own.

The cluster is the only truth: all that is known of a run stands in its Job, as labels and annotations, so any replica of the
daemon, or one that starts anew, knows as much. One watch each on Jobs, pods and warnings keeps a copy here; a status costs the
cluster nothing. The copy says how old it is (``age_s``).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from cachetools import LRUCache

from pfmoc.backoff import Backoff
from pfmoc.cluster.access import Access, access
from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import Absent, AlreadyThere, ClusterRefused, ClusterUnavailable, Forbidden, Outdated
from pfmoc.cluster.informer import Informer
from pfmoc.compute import kubernetes_logs
from pfmoc.compute.base import Compute, Limits, Observation, Run, RunState
from pfmoc.compute.kubernetes_chores import OVERDUE_S, Chores
from pfmoc.compute.kubernetes_facts import JOB_NAME, MANAGED_BY, MANAGER, SELECTOR, JobFacts, PodFacts, job_facts, note, pod_facts
from pfmoc.compute.kubernetes_index import Index
from pfmoc.compute.kubernetes_secrets import owned_by, secret_of
from pfmoc.compute.kubernetes_site import site_of, user_of
from pfmoc.compute.kubernetes_spec import User, job_spec
from pfmoc.compute.kubernetes_status import settled, status
from pfmoc.compute.limits import bounds_of, check_limits, check_reference
from pfmoc.compute.tasks import to_the_end
from pfmoc.errors import ComputeConflict, ComputeRefused, ComputeUnavailable
from pfmoc.locks import KeyedLocks
from pfmoc.settings import Settings

_log = logging.getLogger(__name__)
NAME_MAX = 63
"""Characters of a worker's host name, which is the run's with the worker's number behind it."""
FIRST_S = 3.0
"""Seconds that a probe waits for the first listing."""
_AT_ONCE = 200
"""Runs observed before others have their turn."""
CONFIRMED = 10_000
"""Ended runs of which it is remembered that their pods were asked for."""


class KubernetesCompute(Compute):
    """See the module.

    :param settings: the daemon's; ``container_env`` is ``kubernetes`` or ``openshift``
    :param mover: command lines of ``pull`` and ``publish``, for tests
    :param reached: how to reach the cluster, for tests
    :param patience_s: seconds that an image may be missing, for tests; else as the settings have it for a pull
    :raises SettingsError: the cluster's address or credentials are not to be had
    """

    def __init__(
        self,
        settings: Settings,
        *,
        mover: Mapping[str, Sequence[str]] | None = None,
        reached: Access | None = None,
        patience_s: float | None = None,
    ) -> None:
        self.env = settings.container_env
        self.shared = not settings.travels
        self.volume_type = "kubernetes_pvc" if self.shared else "empty_dir"
        self._settings = settings
        self._site = site_of(settings, mover=mover)
        self._access = reached or access(settings.kubeconfig)
        self._patience_s = settings.pull_deadline_s if patience_s is None else patience_s
        self._deadline_s = settings.engine_deadline_s
        self.namespace = settings.job_namespace or self._access.namespace
        self._jobs_path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        self._core = f"/api/v1/namespaces/{self.namespace}"
        self._user: User | None = None
        self._locks = KeyedLocks()
        self._confirmed: LRUCache[str, bool] = LRUCache(CONFIRMED)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.cluster = await stack.enter_async_context(Cluster(self._access, deadline_s=self._deadline_s))
            self._jobs = Informer(self.cluster, self._jobs_path, job_facts, labels=SELECTOR)
            self._pods = Informer(self.cluster, f"{self._core}/pods", pod_facts, labels=SELECTOR)
            notes = Informer(self.cluster, f"{self._core}/events", note, fields="type=Warning")
            self._index = Index(self._jobs, self._pods, notes)
            for informer in (self._jobs, self._pods, notes):
                await stack.enter_async_context(informer)
            stack.callback(self._index.close)
            chores = Chores(
                self.cluster,
                self.namespace,
                jobs=self._jobs,
                pods=self._pods,
                patience_s=self._patience_s,
                deadline_s=self._settings.job_deadline_s,
                grace_s=min(self._settings.publish_deadline_s, OVERDUE_S),
            )
            task = asyncio.create_task(chores.run(), name="chores")
            stack.push_async_callback(_ended, task)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    @property
    def age_s(self) -> float | None:
        """Seconds since the cluster last confirmed what is known of Jobs and pods; None while both are being watched."""
        ages = [age for informer in (self._jobs, self._pods) if (age := informer.age_s) is not None]
        return max(ages, default=None)

    def check(self, image: str, limits: Limits) -> None:
        """Reject limits out of bounds, and what is no image reference. Whether the image can be had, only its node finds out."""
        check_limits(limits, bounds_of(self._settings))
        check_reference(image)

    async def probe(self) -> None:
        """Prove that Jobs can be asked for, and that what is known of them is not old."""
        await self.cluster.request("GET", self._jobs_path, query={"limit": "1"})
        for informer in (self._jobs, self._pods):
            await informer.wait_synced(FIRST_S)
        age = self.age_s
        if age is not None:
            trouble = self._jobs.trouble or self._pods.trouble or "the API server does not answer"
            raise ComputeUnavailable(f"what is known of the cluster is {age:.0f} s old: {trouble}")

    async def start(self, run: Run) -> Observation:
        """Make the Secret and the Job of a run; the cluster does the rest, in its time."""
        self.check(run.image, run.limits)
        workers = run.limits.number_of_workers
        if workers > 1 and len(f"{run.name}-{workers - 1}") > NAME_MAX:
            raise ComputeRefused(f"{run.name}: the job id is too long for {workers} workers", engine_status=400)
        return await to_the_end(self._start(run))

    async def inspect(self, name: str) -> Observation | None:
        """Observe one run from what is known; one that is not known is asked for."""
        job = await self._known(name)
        return None if job is None else await self._observe(job)

    async def runs(self) -> Sequence[Observation]:
        """Observe every Job of ours.

        :raises ComputeUnavailable: what is known is old, or nothing is known yet
        """
        await self._jobs.wait_synced(self._deadline_s)
        await self._pods.wait_synced(self._deadline_s)
        if self.age_s is not None:
            raise ComputeUnavailable(f"the cluster is not being watched: {self._jobs.trouble or self._pods.trouble}")
        seen: list[Observation] = []
        for number, job in enumerate(self._jobs.values(), start=1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            seen.append(await self._observe(job))
        return seen

    async def logs(self, name: str, *, tail: int) -> str:
        """Return the end of the plugin's log; of several workers, one after the other."""
        job = await self._known(name)
        if job is None or tail <= 0:
            return ""
        pods = self._index.pods(job)
        ended = bool(job.complete or job.failed)
        path = f"{self._core}/pods"
        return await kubernetes_logs.tail(self.cluster, path, pods, lines=tail, ended=ended, deadline_s=self._deadline_s)

    async def follow(self, name: str) -> AsyncIterator[bytes]:
        """Yield the plugin's log as it comes."""
        job = await self._known(name)
        if job is None:
            return
        uid, path = job.uid, f"{self._core}/pods"

        def over() -> bool:
            now = self._jobs.get(name)
            return now is None or now.uid != uid or bool(now.complete or now.failed)

        told: set[str] = set()
        with self._index.changes(name) as changed:

            def untold() -> AsyncIterator[bytes]:
                return kubernetes_logs.follow(self.cluster, path, lambda: self._index.pods(job), over, changed, told)

            async for chunk in untold():
                yield chunk
            # News of a pod travel on another line than the Job's end, which may have come first.
            if (now := self._jobs.get(name)) is not None and now.uid == uid:
                await self._observe(now)
                async for chunk in untold():
                    yield chunk

    async def remove(self, name: str) -> None:
        """Remove a run's Job, and with it its pods and its Secret. Another's of that name is left alone."""
        async with self._locks.hold(name):
            await self._remove(name)

    async def watch(self) -> AsyncIterator[Observation]:
        """Yield every run as it is, and then each of which something else is to be said."""
        told: dict[str, int] = {}
        with self._index.feed() as feed:
            async for name in feed.names():
                job = self._jobs.get(name)
                if job is None:
                    told.pop(name, None)
                    continue
                seen = await self._observe(job)
                gist = hash((job.uid, replace(seen, stages=None)))
                if told.get(name) != gist:
                    told[name] = gist
                    yield seen

    # Starting.

    async def _start(self, run: Run) -> Observation:
        async with self._locks.hold(run.name), self._in_time():
            there = self._jobs.get(run.name) if self.age_s is None else await self._asked(run.name)
            if there is not None and there.deleting:
                await self._remove(run.name)
            elif there is not None:
                return await self._observe(_same(there, run))
            user = await self._whom()
            secret = secret_of(run)
            name = secret["metadata"]["name"]
            spec = job_spec(run, self._site, secret=name, user=user)
            await self._create(f"{self._core}/secrets", secret)
            job = await self._make(run, spec, secret=name)
            return await self._observe(job)

    async def _make(self, run: Run, spec: Mapping[str, Any], *, secret: str) -> JobFacts:
        """Make the Job; or learn that there is one, and take back the Secret."""
        try:
            made = await self._create(self._jobs_path, spec)
        except AlreadyThere:
            await self._drop(f"{self._core}/secrets/{secret}")
            there = await self._asked(run.name)
            if there is None:
                raise ComputeUnavailable(f"{run.name} is being removed") from None
            return _same(there, run)
        except ClusterRefused:
            await self._drop(f"{self._core}/secrets/{secret}")
            raise
        except ClusterUnavailable:
            # The answer may have been lost, and not the question.
            there = await self._asked(run.name)
            if there is None or there.secret != secret:
                await self._drop(f"{self._core}/secrets/{secret}")
                raise
            made = await self.cluster.request("GET", f"{self._jobs_path}/{run.name}")
        self._jobs.put(made)
        try:
            await self.cluster.request("PATCH", f"{self._core}/secrets/{secret}", body=owned_by(made))
        except (ClusterRefused, ClusterUnavailable) as error:
            _log.warning("a secret has no owner yet", extra={"jid": run.jid, "cause": error.message})  # the chores' to mend
        return job_facts(made)

    async def _create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        # Should the answer be lost, there is time left to ask whether it was done.
        return await self.cluster.request("POST", path, body=body, deadline_s=self._deadline_s / 2)

    async def _whom(self) -> User:
        if self._settings.container_user.uid or self._settings.container_user.gid:
            return user_of(self._settings, None)  # may be drawn anew for each
        if self._user is None:
            try:
                namespace = await self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}")
            except Forbidden:
                namespace = None
            at_home = self._settings.kubeconfig is None and self.namespace == self._access.namespace
            self._user = user_of(self._settings, namespace, own=os.geteuid() or None if at_home else None)
        return self._user

    # Removing.

    async def _remove(self, name: str) -> None:
        body: dict[str, Any]
        job = there = await self._asked(name)
        end = asyncio.get_running_loop().time() + self._deadline_s
        told: set[str] = set()
        for pause in Backoff(first_s=0.1, longest_s=1.0).pauses():
            left = await self._pods_left(name)
            # Pods first: a kubelet that has begun to end one does not hear of a shorter time (kubernetes#83916), and what the
            # Job's removal would give them is as long as publishing may take.
            for pod in left:
                if pod.uid not in told:
                    told.add(pod.uid)
                    body = {"gracePeriodSeconds": 1, "preconditions": {"uid": pod.uid}}
                    await self._drop(f"{self._core}/pods/{pod.name}", body)
            if job is not None and job.uid not in told:
                told.add(job.uid)
                body = {"propagationPolicy": "Foreground", "preconditions": {"uid": job.uid}}
                await self._drop(f"{self._jobs_path}/{name}", body)
            elif not left and (there is None or job is None or there.uid != job.uid):
                break
            if asyncio.get_running_loop().time() >= end:
                where = ", ".join(f"{pod.name} on {pod.node or 'no node'}" for pod in left) or "its Job"
                raise ComputeUnavailable(f"{name} is still being removed: {where}")
            await asyncio.sleep(pause)
            # Before its pods are listed: as long as it is there, one may be made.
            there = await self._asked(name)
        if job is not None:
            await self._drop(f"{self._core}/secrets/{job.secret}")

    async def _pods_left(self, name: str) -> list[PodFacts]:
        query = {"labelSelector": f"{SELECTOR},{JOB_NAME}={name}"}
        listed = await self.cluster.request("GET", f"{self._core}/pods", query=query)
        return [pod_facts(thing) for thing in listed.get("items") or ()]

    async def _drop(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        """Delete; what is not there, or another by now, is no matter."""
        with suppress(Absent, Outdated):
            await self.cluster.request("DELETE", path, body=body)

    # What is known.

    async def _known(self, name: str) -> JobFacts | None:
        """A Job of ours, from memory if it is there; asked for before it is denied."""
        return self._jobs.get(name) or await self._asked(name)

    async def _asked(self, name: str) -> JobFacts | None:
        """A Job of ours, as the cluster has it.

        :raises ComputeRefused: there is one of that name that is not ours
        """
        try:
            thing = await self.cluster.request("GET", f"{self._jobs_path}/{name}")
        except Absent:
            self._jobs.forget(name)
            return None
        if (thing["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
            raise ComputeRefused(f"a job named {name} exists, and is not one of this daemon's", engine_status=409)
        self._jobs.put(thing)
        return job_facts(thing)

    async def _observe(self, job: JobFacts) -> Observation:
        pods = self._index.pods(job)
        if not settled(job, pods) and job.uid not in self._confirmed:
            # The pods' last words may still be on their way to us; without them it cannot be said how the run ended.
            try:
                query = {"labelSelector": f"{SELECTOR},{JOB_NAME}={job.name}"}
                for thing in (await self.cluster.request("GET", f"{self._core}/pods", query=query)).get("items") or ():
                    self._pods.put(thing)
            except ClusterUnavailable:
                return replace(self._status(job), state=RunState.RUNNING, message="has ended; asks how", exit_code=None)
            self._confirmed[job.uid] = True
        return self._status(job)

    def _status(self, job: JobFacts) -> Observation:
        return status(job, self._index.pods(job), self._index.notes(job), now=self.cluster.now)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """All of it within the deadline that one question has.

        :raises ComputeUnavailable: it took longer
        """
        try:
            async with asyncio.timeout(self._deadline_s) as patience:
                yield
        except TimeoutError:
            if not patience.expired():
                raise
            raise ComputeUnavailable(f"the cluster did not do it within {self._deadline_s:g} s") from None


def _same(there: JobFacts, run: Run) -> JobFacts:
    """The run that is there, if it does what is asked for.

    :raises ComputeConflict: it does something else
    """
    if run.digest and there.digest and run.digest != there.digest:
        raise ComputeConflict(f"{run.name} exists, and was asked to do something else")
    return there


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
