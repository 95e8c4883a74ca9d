"""Logs of a run's pods: the end of them, or all of it as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from pfmoc.backoff import Backoff
from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import Absent, ClusterUnavailable, TooBusy, Unfit
from pfmoc.compute.kubernetes_facts import PLUGIN, ContainerPhase, PodFacts
from pfmoc.compute.kubernetes_status import counting
from pfmoc.compute.text import LOG_BYTES, Tail
from pfmoc.errors import PfmocError

AT_ONCE = 8
"""Workers whose logs are read at the same time: each costs a connection, and memory for what comes over it."""
WORKER_BYTES = 4 << 10
"""What each worker has of ``LOG_BYTES`` at least, however many they are: the last words of a thousand take 4 MiB."""
ONE_SHARE, ALL_SHARE = 1 / 3, 2 / 3
"""Of the time that there is: for one worker's log, and for all. A node that answers nobody costs no more, and what is left is
time to ask whether the API server itself is well."""

_NOTHING = (Absent, Unfit)
"""What the API server says of a container that is gone, or has not begun."""

PodsNow = Callable[[], Sequence[PodFacts]]
"""The pods of a run as they are."""


async def tail(
    cluster: Cluster, path: str, pods: Sequence[PodFacts], *, lines: int, ended: bool, deadline_s: float = 30.0
) -> str:
    """The last lines of each worker's log, one after the other; before each stands its number where there are several.

    :param path: of the namespace's pods
    :param ended: the run has ended, so what a node does not give now is likely never to be had: the log says so instead
    :param deadline_s: seconds that all of it may take
    :raises ClusterUnavailable: the API server is not well; for a run that goes on, also when only a pod's node does not answer
    """
    workers = counting(pods)
    reader = _Reader(cluster, path, lines=lines, workers=len(workers), deadline_s=deadline_s)
    read = await asyncio.gather(*(reader.read(pod) for pod in workers))
    troubles = [log.trouble for log in read if log.trouble is not None]
    for trouble in troubles:
        # Who is told to come again later is not told that there is nothing.
        if not ended or isinstance(trouble, TooBusy) or not isinstance(trouble, ClusterUnavailable):
            raise trouble
    if troubles:
        # An API server that answers for pods and not for a log has a node that does not.
        await cluster.request("GET", path, query={"limit": "1"}, deadline_s=deadline_s * (1 - ALL_SHARE))
    headed = len(workers) > 1
    return "".join((f"==> worker {pod.index} <==\n" if headed else "") + log.told for pod, log in zip(workers, read, strict=True))


async def follow(
    cluster: Cluster, path: str, pods: PodsNow, over: Callable[[], bool], changed: asyncio.Event, told: set[str]
) -> AsyncGenerator[bytes, None]:
    """Yield the logs of a run's pods as they come, one pod's after the other's, to the end of the run.

    :param over: True once the run has ended or is gone
    :param changed: set whenever something about the run has changed
    :param told: uids of the pods whose logs were followed already; those of others are added
    """
    while (pod := await _next(pods, told, over, changed)) is not None:
        told.add(pod.uid)
        async for chunk in _followed(cluster, path, pod, pods, over):
            yield chunk


@dataclass(frozen=True, slots=True)
class _Log:
    """The end of one worker's log, as far as it could be had."""

    text: str
    trouble: PfmocError | None = None

    @property
    def told(self) -> str:
        """The log; where it is not whole, with the cause as its last line."""
        if self.trouble is None:
            return self.text
        ending = "\n" if self.text and not self.text.endswith("\n") else ""
        return f"{self.text}{ending}pfmoc: the log cannot be had from its node: {self.trouble.message}\n"


class _Reader:
    """Reads the logs of one run's workers, a few at a time."""

    def __init__(self, cluster: Cluster, path: str, *, lines: int, workers: int, deadline_s: float) -> None:
        self._cluster = cluster
        self._path = path
        self._query = {"container": PLUGIN, "tailLines": str(lines)}
        self._lines = lines
        self._bytes = max(LOG_BYTES // max(workers, 1), WORKER_BYTES)
        self._one_s = deadline_s * ONE_SHARE
        self._until = asyncio.get_running_loop().time() + deadline_s * ALL_SHARE
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._silent: set[str] = set()
        """Nodes that have let one wait in vain: nobody else waits for them."""

    async def read(self, pod: PodFacts) -> _Log:
        """The end of one worker's log."""
        async with self._turns:
            kept = Tail(self._bytes)
            trouble: PfmocError | None = None
            if pod.node in self._silent or asyncio.get_running_loop().time() >= self._until:
                trouble = _silence(pod)
            else:
                try:
                    await self._fill(kept, pod)
                except _NOTHING:
                    pass
                except PfmocError as error:
                    trouble = error
            return _Log(kept.lines(self._lines), trouble)

    async def _fill(self, kept: Tail, pod: PodFacts) -> None:
        until = min(asyncio.get_running_loop().time() + self._one_s, self._until)
        try:
            async with asyncio.timeout_at(until) as patience:
                async with self._cluster.stream(f"{self._path}/{pod.name}/log", query=self._query) as response:
                    async for chunk in response.content.iter_any():
                        kept.feed(chunk)
        except TimeoutError:
            if not patience.expired():
                raise
            if until < self._until:
                self._silent.add(pod.node)
            raise _silence(pod) from None


def _silence(pod: PodFacts) -> ClusterUnavailable:
    return ClusterUnavailable(f"{pod.node} did not give all of it in time")


async def _next(pods: PodsNow, told: set[str], over: Callable[[], bool], changed: asyncio.Event) -> PodFacts | None:
    """Wait for a pod whose plugin has begun and that has not been told; None when there will be none."""
    while True:
        changed.clear()
        found = [pod for pod in pods() if pod.uid not in told and _has_log(pod)]
        if found:
            return min(found, key=lambda pod: (pod.index, pod.created))
        if over():
            return None
        await changed.wait()


def _has_log(pod: PodFacts) -> bool:
    plugin = pod.containers.get(PLUGIN)
    return plugin is not None and plugin.phase is not ContainerPhase.WAITING


async def _followed(
    cluster: Cluster, path: str, pod: PodFacts, pods: PodsNow, over: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """One container's log to its end. A line that breaks is taken up again where it broke.

    The API server ends its answer in good order also when its own line to the node breaks, as it does when a kubelet starts anew.
    """
    sent = 0
    for pause in Backoff().pauses():
        skip = sent
        try:
            query = {"container": PLUGIN, "follow": "true"}
            async with cluster.stream(f"{path}/{pod.name}/log", query=query) as response:
                async for chunk in response.content.iter_any():
                    new = chunk[skip:]
                    skip = max(skip - len(chunk), 0)
                    if new:
                        sent += len(new)
                        yield new
        except _NOTHING:
            return
        except ClusterUnavailable:
            if over():
                return
        else:
            if not _writes(pod, pods()):
                return
        await asyncio.sleep(pause)


def _writes(pod: PodFacts, pods: Sequence[PodFacts]) -> bool:
    """True while, as far as is known, a pod's plugin may write to its log."""
    now = next((each for each in pods if each.uid == pod.uid), None)
    plugin = None if now is None or now.ended else now.containers.get(PLUGIN)
    return plugin is not None and plugin.phase is not ContainerPhase.TERMINATED
