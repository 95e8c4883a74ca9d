"""What only an earlier attempt of a run has published.

A pod that the cluster ends publishes what there is, and another one runs the plugin again, maybe with other files. Each attempt
begins with a journal of what it is about to send, and the head of the manifest names the attempt that counts (``layout``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pfmoc.errors import NoSuchData
from pfmoc.objects.base import ObjectStore
from pfmoc.storage import layout
from pfmoc.storage.layout import Places


async def sweep(store: ObjectStore, places: Places, heads: Sequence[Mapping[str, Any]]) -> int:
    """Delete the outputs that only earlier attempts have sent, and their journals. Returns how many outputs.

    :param heads: of all workers
    """
    journals = await _journals(store, places, heads)
    staged = await store.look(layout.head(places.input)) if journals else None
    if staged is None:
        return 0
    earlier = {root + path for name, root in journals.items() for path in await _paths(store, name)}
    for head in heads:
        async for line in lines(store, places, head):
            earlier.discard(head["root"] + line["path"])
    count = 0
    for name in earlier:
        there = await store.look(name)
        # An attempt that was killed may not have come so far, and then an older object of that name is the user's own.
        if there is not None and there.modified >= staged.modified:
            await store.delete([name])
            count += 1
    # Or what users put there afterwards would be taken for an attempt's.
    await store.delete(journals)
    return count


async def lines(store: ObjectStore, places: Places, head: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Yield the lines of a worker's manifest."""
    for number in range(head["parts"]):
        for line in layout.lines(await store.read(layout.part(places.output(head["index"]), number))):
            yield line


async def _journals(store: ObjectStore, places: Places, heads: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names of the journals of other attempts than the last, and what the names of their outputs begin with."""
    last = {places.output(head["index"]): head for head in heads}
    found: dict[str, str] = {}
    async for page in store.pages(places.outputs):
        for entry in page:
            manifest, _, attempt = entry.name.rpartition("/")[0].rpartition("/")
            # A part of a manifest itself lies one step higher, and so below none of them.
            if (head := last.get(manifest)) is not None and attempt != head.get("attempt"):
                found[entry.name] = head["root"]
    return found


async def _paths(store: ObjectStore, journal: str) -> list[str]:
    try:
        return [line["path"] for line in layout.lines(await store.read(journal))]
    except NoSuchData:
        return []  # it was swept before, and a listing still has it
