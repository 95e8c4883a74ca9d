"""The key with which temporary URLs are signed, and what is signed with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from pfmoc.errors import StorageUnavailable
from pfmoc.objects import tempurl
from pfmoc.objects.swift import SLOTS, SwiftStore

_log = logging.getLogger(__name__)

_CHECKED = ".pfmoc/rights"
"""Name that the key is tried with. There need not be such an object."""
_TRIES = 45
_PAUSE_S = 2.0
"""A proxy may remember for a minute which keys a container had."""


class Rights:
    """Signs rights in one container.

    :param key: that the operator has given; it is looked for in the container and in the account
    :param secret: from which a key is derived where the operator gives none
    :param slot: 1 or 2: where the container keeps the key; None for whichever is free
    """

    def __init__(self, store: SwiftStore, *, key: str | None, secret: str, slot: int | None = None) -> None:
        self._store = store
        self._key = key or tempurl.derive(secret, store.container)
        self._given = bool(key)
        self._slot = slot
        self._ready = False
        self._turn = asyncio.Lock()

    async def ready(self) -> None:
        """See to it that Swift knows the key. Replicas that do so at once agree: they have the same one.

        :raises StorageUnavailable: both of the container's keys are somebody else's
        """
        async with self._turn:
            if not self._ready:
                own, account = await self._store.keys()
                if self._key not in (*own.values(), *account.values()):
                    await self._store.set_key(self._free(own), self._key)
                    _log.info("gave the container a key of temporary URLs")
                await self._wait()
                self._ready = True

    async def address(self) -> str:
        """Return the container's URL, as pods reach it."""
        return await self._store.address()

    def sign(self, address: str, method: str, name: str, *, expires: int, prefix: bool = False) -> str:
        """Return the query of a temporary URL."""
        return tempurl.sign(key=self._key, method=method, container=address, name=name, expires=expires, prefix=prefix)

    def _free(self, taken: Mapping[str, str]) -> str:
        slots = [slot.format("Container") for slot in SLOTS]
        wanted = slots if self._slot is None else [slots[self._slot - 1]]
        for slot in wanted:
            if slot not in taken:
                return slot
        raise StorageUnavailable(
            f"Storage is unavailable: the keys of temporary URLs of container {self._store.container!r} are others' than "
            + ("SWIFT_TEMPURL_KEY; set it to one of them" if self._given else "ours; set SWIFT_TEMPURL_KEY to one of them")
            + ", or free a slot (swift post CONTAINER -m 'Temp-URL-Key-2:')"
        )

    async def _wait(self) -> None:
        address = await self._store.address()
        for _ in range(_TRIES):
            query = self.sign(address, "HEAD", _CHECKED, expires=int(time.time()) + 300)
            if await self._store.opens(_CHECKED, query):
                return
            await asyncio.sleep(_PAUSE_S)
        raise StorageUnavailable("Storage is unavailable: Swift does not honour its own key of temporary URLs; is tempurl on?")
