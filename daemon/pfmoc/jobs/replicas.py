"""Which replicas of the daemon live. Each renews a small object in the cluster; one that no longer does is dead to the others.

Nobody's clock is compared with another's: a replica counts as dead when its object has not changed for a while, by the clock of
who looks, and the looking itself was not disturbed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import Absent, AlreadyThere
from pfmoc.errors import PfmocError
from pfmoc.jobs.marks import KEEPS, MANAGED, REPLICA, replica_name
from pfmoc.jobs.model import now

_log = logging.getLogger(__name__)

BEAT_S = 10.0
"""Seconds between two signs of life."""
DEAD_S = 60.0
"""Seconds without one, until a replica's work is taken over."""
_FAREWELL_S = 3.0
"""Seconds that saying goodbye may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """The last sign of life of a replica."""

    replica: str
    version: str
    """Changes with each sign."""


def beat_of(thing: Mapping[str, Any]) -> Beat:
    """Read a replica's object."""
    return Beat(replica=thing["data"]["replica"], version=thing["metadata"]["resourceVersion"])


class Memory(Protocol):
    """Where the others' signs of life are seen."""

    @property
    def age_s(self) -> float | None:
        """None while it is in step with the cluster."""

    def put(self, thing: Mapping[str, Any]) -> None:
        """Take what the cluster has just answered."""


class Replicas:
    """The replicas, seen from one of them. Entered once: from then on it shows that it lives.

    :param me: this one
    :param path: of the collection that the objects are in
    :param beats: what is known of each replica
    :param busy: the replicas whose work is not done
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        me: str,
        path: str,
        memory: Memory,
        beats: Callable[[], Mapping[str, Beat]],
        busy: Callable[[], Set[str]],
        beat_s: float = BEAT_S,
        dead_s: float = DEAD_S,
    ) -> None:
        self.me = me
        self._cluster = cluster
        self._path = path
        self._memory = memory
        self._beats = beats
        self._busy = busy
        self._beat_s = beat_s
        self._dead_s = dead_s
        self._noted: dict[str, tuple[str, float]] = {}

    async def __aenter__(self) -> Self:
        await self._beat()
        self._looked = time.monotonic()
        self._task = asyncio.create_task(self._run(), name="signs of life")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Say goodbye, so that others need not wait."""
        self._task.cancel()
        await asyncio.wait([self._task])
        with suppress(PfmocError):
            await self._cluster.request("DELETE", f"{self._path}/{replica_name(self.me)}", deadline_s=_FAREWELL_S)

    def dead(self, replica: str) -> bool:
        """True where a replica has left, or has shown no life for a while. Doubt counts as life."""
        if replica == self.me or self._memory.age_s is not None or self._stood_still():
            return False
        if replica not in self._beats():
            return True
        noted = self._noted.get(replica)
        return noted is not None and time.monotonic() - noted[1] > self._dead_s

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            self._look()
            try:
                await self._beat()
                await self._bury()
            except PfmocError as error:
                _log.warning("this replica cannot show that it lives", extra={"cause": error.message})

    def _look(self) -> None:
        """Note who has shown life since. While this replica is itself cut off, or stood still, nobody's silence counts."""
        moment, beats = time.monotonic(), self._beats()
        disturbed = self._memory.age_s is not None or self._stood_still()
        self._looked = moment
        for replica, beat in beats.items():
            noted = self._noted.get(replica)
            if disturbed or noted is None or noted[0] != beat.version:
                self._noted[replica] = (beat.version, moment)
        for replica in self._noted.keys() - beats.keys():
            del self._noted[replica]

    def _stood_still(self) -> bool:
        """True where this replica has not looked in time, as after a pause of its machine: the others' signs wait to be heard."""
        return time.monotonic() - self._looked > self._dead_s / 2

    async def _bury(self) -> None:
        """Remove what dead replicas have left of themselves, once others have taken over what they had left to do."""
        for replica in [each for each in self._beats() if self.dead(each) and each not in self._busy()]:
            with suppress(Absent):
                await self._cluster.request("DELETE", f"{self._path}/{replica_name(replica)}")

    async def _beat(self) -> None:
        name = replica_name(self.me)
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {**MANAGED, KEEPS: REPLICA}},
            "data": {"replica": self.me, "at": now()},
        }
        try:
            answer = await self._cluster.request("PATCH", f"{self._path}/{name}", body=body)
        except Absent:
            with suppress(AlreadyThere):
                self._memory.put(await self._cluster.request("POST", self._path, body=body))
        else:
            self._memory.put(answer)
