"""Logs of running jobs: fetched once for a crowd of pollers, and answered from memory while the engine is slow or silent."""

from __future__ import annotations

import asyncio
import logging

from cachetools import LRUCache, TTLCache

from pfmoc.compute.base import Compute
from pfmoc.errors import PfmocError

_log = logging.getLogger(__name__)

_FRESH_S = 1.0
"""Seconds for which a log is answered from memory: pollers come in crowds."""
_PATIENCE_S = 5.0
"""Seconds that one who asks is kept waiting. CUBE asks for every job every 5 s."""
_REMEMBERED = 32 << 20
"""Characters of logs that are remembered."""


class Tails:
    """Log tails of running jobs.

    :param lines: of each
    """

    def __init__(self, compute: Compute, *, lines: int) -> None:
        self._compute = compute
        self._lines = lines
        self._fresh: TTLCache[str, bool] = TTLCache(maxsize=10_000, ttl=_FRESH_S)
        self._known: LRUCache[str, str] = LRUCache(_REMEMBERED, getsizeof=len)
        self._fetches: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Give up what is being fetched."""
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    async def tail(self, name: str) -> str:
        """Return the end of a run's log; the last that is known while the engine cannot say. A status never fails for its log.

        :param name: engine name of the run
        """
        if name not in self._fresh:
            fetch = self._fetches.get(name)
            if fetch is None:
                fetch = self._fetches[name] = asyncio.create_task(self._fetch(name))
                fetch.add_done_callback(lambda _: self._fetches.pop(name))
            await asyncio.wait([fetch], timeout=_PATIENCE_S)
        known: str = self._known.get(name, "")
        return known

    def forget(self, name: str) -> None:
        """The run is gone; another of its name begins with an empty log."""
        self._fresh.pop(name, None)
        self._known.pop(name, None)

    async def _fetch(self, name: str) -> None:
        try:
            log = await self._compute.logs(name, tail=self._lines)
        except PfmocError as error:
            _log.info("the log of a running job cannot be had", extra={"run": name, "cause": error.message})
            return
        if len(log) <= _REMEMBERED:
            self._known[name] = log
            self._fresh[name] = True
