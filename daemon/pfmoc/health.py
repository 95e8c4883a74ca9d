"""Liveness and readiness. Alive: the loop answers. Ready: storage and compute, asked just now, can do their work.

Full storage is told, and does not end readiness: jobs are still shown, outputs fetched, and deletes make room.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum

from aiohttp import web

from pfmoc.errors import PfmocError, StorageFull, Unavailable
from pfmoc.http import json_response

_log = logging.getLogger(__name__)

PROBE_DEADLINE_S = 5.0
"""Shorter than the usual period of a readiness probe, 10 s."""
PROBE_LIFE_S = 1.0
"""For so long one answer serves all who ask."""


class State(StrEnum):
    """What the daemon is doing."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


Age = Callable[[], float | None]
"""Seconds since answers were last confirmed; None while they are in step."""

Probe = Callable[[], Awaitable[Mapping[str, PfmocError]]]
"""Asks what the daemon depends on; returns what is wrong, by name."""


class Health:
    """The daemon's state, and the answers to probes.

    :param clock: seconds, monotonic
    """

    def __init__(self, *, deadline_s: float = PROBE_DEADLINE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = State.STARTING
        self._probe: Probe | None = None
        self._age: Age = lambda: None
        self._deadline_s = deadline_s
        self._clock = clock
        self._asking: asyncio.Task[Mapping[str, PfmocError]] | None = None
        self._answer: Mapping[str, PfmocError] = {}
        self._answered = float("-inf")

    def serve(self, probe: Probe, *, age: Age = lambda: None) -> None:
        """The daemon has started."""
        self._probe = probe
        self._age = age
        self.state = State.SERVING

    def drain(self) -> None:
        """The daemon stops taking work."""
        self.state = State.DRAINING

    async def close(self) -> None:
        """Give up a question under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def live(self, _: web.Request) -> web.StreamResponse:
        """GET /livez."""
        return json_response({"live": True})

    async def ready(self, _: web.Request) -> web.StreamResponse:
        """GET /readyz."""
        wrong = await self._wrong()
        age = self._age() if self.state is State.SERVING else None
        told: dict[str, object] = {"reasons": {name: error.message for name, error in wrong.items()}} if wrong else {}
        if age is not None:
            told["age_s"] = round(age, 1)
        if any(not isinstance(error, StorageFull) for error in wrong.values()):
            return json_response({"ready": False, **told}, status=503, headers={"Retry-After": "5"})
        return json_response({"ready": True, **told})

    async def _wrong(self) -> Mapping[str, PfmocError]:
        if self.state is not State.SERVING:
            return {"daemon": Unavailable(f"is {self.state}")}
        if self._clock() - self._answered < PROBE_LIFE_S:
            return self._answer
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="readiness probe")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Mapping[str, PfmocError]:
        try:
            self._answer = await self._question()
            self._answered = self._clock()
        finally:
            self._asking = None
        return self._answer

    async def _question(self) -> Mapping[str, PfmocError]:
        if self._probe is None:  # pragma: no cover - serve() sets both
            return {"daemon": Unavailable("has no probe")}
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._probe()
        except TimeoutError:
            return {"probe": Unavailable(f"no answer within {self._deadline_s:g} s")}
        except PfmocError as error:
            return {"probe": error}
        except Exception:  # noqa: BLE001 - a probe that cannot even ask is itself the finding
            _log.exception("readiness probe failed")
            return {"probe": Unavailable("failed; the log has the cause")}
