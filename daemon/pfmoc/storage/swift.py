"""Storage in Swift: a pod gets rights to its own job's prefixes, and no credentials (``objects.tempurl``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pfmoc.data import Tickets
from pfmoc.errors import StorageRefused
from pfmoc.objects.rights import Rights
from pfmoc.objects.swift import Segment, SwiftStore
from pfmoc.storage import layout
from pfmoc.storage.layout import Places
from pfmoc.storage.object_storage import ObjectStorage, Tuning


class SwiftStorage(ObjectStorage):
    """A container in Swift.

    :param rights: sign what pods may do
    """

    env = "swift"

    def __init__(
        self,
        store: SwiftStore,
        rights: Rights,
        *,
        limit: int,
        gathered: int | None = None,
        tuning: Tuning | None = None,
        authorities: str | None = None,
        described: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(store, limit=limit, gathered=gathered, tuning=tuning, authorities=authorities, described=described)
        self._swift = store
        self._rights = rights

    async def probe(self) -> None:
        """Prove that storage can be read and written, and that rights can be signed."""
        await super().probe()
        await self._rights.ready()

    async def _tickets(self, places: Places, output: str, staged: Mapping[str, Any], expires: int) -> Tickets:
        await self._rights.ready()
        base, sign = await self._rights.address(), self._rights.sign

        def reading(grant: Mapping[str, str]) -> str:
            prefix = grant.get("prefix")
            name = grant["object"] if prefix is None else prefix
            return sign(base, "GET", name, expires=expires, prefix=prefix is not None)

        manifest = sign(base, "GET", f"{places.input}/", expires=expires, prefix=True)
        rights = {
            "version": layout.VERSION,
            "expires": expires,
            "parts": [{"name": layout.part(places.input, number), "query": manifest} for number in range(staged["parts"])],
            "grants": [reading(grant) for grant in staged["grants"]],
        }
        query = sign(base, "GET", places.ticket, expires=expires)
        pull = self._pull_ticket(places, base=base, query=query, expires=expires)
        publish = self._publish_ticket(
            places,
            base=base,
            query=sign(base, "HEAD", places.ticket, expires=expires),
            expires=expires,
            output=output,
            segments=staged["segments"],
            keep_s=await self._swift.keep_s(),
        )
        publish["grants"] = [
            {"prefix": prefix, "query": sign(base, "PUT", prefix, expires=expires, prefix=True)}
            for prefix in (output, places.outputs, staged["segments"])
        ]
        await self._swift.write(places.ticket, layout.document(rights))
        return Tickets(pull=json.dumps(pull), publish=json.dumps(publish))

    async def _join(self, head: Mapping[str, Any], line: Mapping[str, Any]) -> None:
        count, name = len(line["segments"]), ascii(line["path"])[1:-1]
        if count > layout.SEGMENTS_MAX:
            # Asked, Swift would answer as it does when a quota is used up.
            raise StorageRefused(f"{name} is in {count} segments, and the store puts {layout.SEGMENTS_MAX} together")
        segments = [Segment(name=each["name"], size=each["size"], etag=each["etag"]) for each in line["segments"]]
        await self._swift.join(head["root"] + line["path"], segments, keep_s=await self._swift.keep_s())
