"""Storage in S3. There are no rights to a prefix there: a pod that pulls gets one signed address for each object, in its
manifest; a pod that publishes gets the key itself, out of the plugin's reach.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pfmoc.data import Tickets
from pfmoc.objects.s3 import S3Store
from pfmoc.objects.sigv4 import LIFETIME_MAX_S, quoted
from pfmoc.storage import layout
from pfmoc.storage.layout import Places
from pfmoc.storage.object_storage import ObjectStorage, Tuning

_SIGNED = "signed"
"""What the names of the parts of the input manifest begin with, once each line has its address."""


class S3Storage(ObjectStorage):
    """A bucket in S3."""

    env = "s3"

    def __init__(
        self,
        store: S3Store,
        *,
        limit: int,
        gathered: int | None = None,
        tuning: Tuning | None = None,
        authorities: str | None = None,
        described: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(store, limit=limit, gathered=gathered, tuning=tuning, authorities=authorities, described=described)
        self._s3 = store

    async def _tickets(self, places: Places, output: str, staged: Mapping[str, Any], expires: int) -> Tickets:
        now = datetime.now(UTC)
        lifetime_s = min(LIFETIME_MAX_S, max(1, expires - int(now.timestamp())))
        expires = int(now.timestamp()) + lifetime_s

        def signed(method: str, name: str) -> str:
            return self._s3.signer.sign(method, f"{self._s3.base}/{quoted(name)}", at=now, lifetime_s=lifetime_s)

        def all_signed(content: bytes) -> bytes:
            return b"\n".join(layout.document({**line, "query": signed("GET", line["source"])}) for line in layout.lines(content))

        parts = []
        for number in range(staged["parts"]):
            name = layout.part(f"{places.key}{_SIGNED}", number)
            content = await self._s3.read(layout.part(places.input, number))
            # In a thread: the signatures of one part take more than a second.
            await self._s3.write(name, await asyncio.to_thread(all_signed, content))
            parts.append({"name": name, "query": signed("GET", name)})
        rights = {"version": layout.VERSION, "expires": expires, "parts": parts, "grants": []}
        pull = self._pull_ticket(places, base=self._s3.base, query=signed("GET", places.ticket), expires=expires)
        publish = self._publish_ticket(
            places,
            base=self._s3.base,
            query=signed("HEAD", places.ticket),
            expires=expires,
            output=output,
            segments=staged["segments"],
        )
        signer = self._s3.signer
        publish["s3"] = {"access_key": signer.access_key, "secret_key": signer.secret_key, "region": signer.region}
        await self._s3.write(places.ticket, layout.document(rights))
        return Tickets(pull=json.dumps(pull), publish=json.dumps(publish))
