"""An object store whose data the daemon itself brings to the directory that it shares with plugins, and back.

For compute environments in which no pod moves its own data: processes and containers on this host, and clusters whose site wants
data on a claim (``COMPUTE_VOLUME_TYPE=kubernetes_pvc``). What is staged, signed and read back is as in
``storage.object_storage``; what the mover does in a pod it does here, in threads, and with the same rights.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from pfmoc.data import Mounts
from pfmoc.errors import NoSuchData, NotPublished, StorageUnavailable
from pfmoc.mover.publish import publish
from pfmoc.mover.pull import pull
from pfmoc.mover.report import Failed, Report
from pfmoc.mover.ticket import publish_ticket, pull_ticket
from pfmoc.settings import Settings
from pfmoc.storage import trees, workers
from pfmoc.storage.base import ArchiveSource, Inputs, Sealed, Staged
from pfmoc.storage.failures import storage_errors, translated
from pfmoc.storage.handover import Handover, handover
from pfmoc.storage.local import LocalStorage
from pfmoc.storage.object_storage import ObjectStorage
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.registry import open_storage
from pfmoc.storage.workers import Stop

_PULL_S = 86_400
"""Seconds for which the daemon may read a job's input."""
_PARTIAL = ".partial"
_CANCELLED = "the job was cancelled"


def open_staged(settings: Settings) -> StagedStorage:
    """Make the storage of ``STORAGE_ENV``, an object store, with the storeBase as the way to plugins."""
    store = open_storage(settings)
    if not isinstance(store, ObjectStorage):
        raise TypeError(f"{settings.storage_env} is no object store")
    return StagedStorage(store, storebase=StoreBase(settings.storebase_mount), handover=handover(settings))


class StagedStorage(LocalStorage):
    """A container, with a copy of each job's data in ``key-<jid>`` below the storeBase for as long as the job is known.

    All workers of a run share one output directory, so that the output is published once, as the first worker's.
    """

    innetwork = True
    requires_copy = True
    requires_upload = True
    objects = True

    def __init__(self, store: ObjectStorage, *, storebase: StoreBase, handover: Handover) -> None:
        super().__init__(storebase=storebase, handover=handover)
        self.env, self.described = store.env, store.described
        self._store = store
        self._sealing: dict[str, asyncio.Task[Sealed]] = {}

    async def close(self) -> None:
        """Give connections back."""
        await self._store.close()

    async def probe(self) -> None:
        """Prove that store and storeBase can be read and written."""
        await self._store.probe()
        await super().probe()

    def check(self, inputs: Inputs) -> None:
        """Reject what the store would."""
        self._key_dir(inputs.jid)
        self._store.check(inputs)

    async def stage(self, inputs: Inputs) -> Staged:
        """List the input, follow its links, and pull it.

        :raises InvalidRequest: a link cannot be followed, or an object cannot become a file
        :raises StorageUnavailable: the store did not give all of it, or it changed meanwhile
        """
        staged = await self._store.stage(inputs)
        try:
            tickets = await self._store.data(inputs, lifetime_s=_PULL_S)
            async with self.turns.hold(inputs.jid):
                await workers.run(lambda stop: self._pull(inputs.jid, tickets.pull, stop))
        except BaseException:
            await self._store.discard(inputs.jid)
            raise
        return staged

    async def data(self, inputs: Inputs, *, lifetime_s: float) -> Mounts:
        """The two directories. What an earlier run has left in the second is removed.

        :raises NoSuchData: the input was not staged
        """
        # While the job's ticket is there, its output is wanted.
        await self._store.data(inputs, lifetime_s=lifetime_s)
        async with self.turns.hold(inputs.jid):
            return await workers.run(lambda stop: self._mounts(inputs.jid, stop))

    async def seal(self, inputs: Inputs, *, published: bool = False) -> Sealed:  # noqa: ARG002 - it is published here
        """Publish the output, however the plugin has ended, and read what was published.

        :raises NotPublished: not all of it could be, or the job was cancelled
        """
        work = self._sealing[inputs.jid] = asyncio.create_task(self._seal_in_store(replace(inputs, workers=1)))
        try:
            await asyncio.wait([work])
        finally:
            work.cancel()
            await workers.settled(work)
            del self._sealing[inputs.jid]
        if work.cancelled():
            raise NotPublished(_CANCELLED)
        return work.result()

    async def _seal_in_store(self, inputs: Inputs) -> Sealed:
        if not await self._store.wanted(inputs.jid):
            raise NotPublished(_CANCELLED)
        tickets = await self._store.data(inputs, lifetime_s=2 * self._store.tuning.publish_s)
        await workers.run(lambda stop: self._publish(inputs.jid, tickets.publish, stop))
        return await self._store.seal(inputs, published=True)

    async def listing(self, inputs: Inputs, job_output_path: str) -> list[str]:
        """Relative names of the outputs, sorted.

        :raises NoSuchData: the job has no data
        """
        return await self._store.listing(replace(inputs, workers=1), job_output_path)

    async def archive(self, jid: str, *, workers: int | None = None) -> ArchiveSource:  # noqa: ARG002 - it is published once
        """The outputs, as they were published.

        :raises NoSuchData: the job has no data
        """
        return await self._store.archive(jid, workers=1)

    async def upload(self, inputs: Inputs, job_output_path: str) -> int:
        """Copy the outputs to another place, on the store's side; where they are in it already, count them."""
        return await self._store.upload(replace(inputs, workers=1), job_output_path)

    async def halt(self, jid: str) -> None:
        """Break off the publishing that goes on."""
        if work := self._sealing.get(jid):
            work.cancel()

    async def withdraw(self, jid: str) -> None:
        """Take the job's ticket away: its output is not wanted any more."""
        await self._store.withdraw(jid)

    async def holds(self, jid: str) -> bool:
        """True when there is anything of the job."""
        return await super().holds(jid) or await self._store.holds(jid)

    async def discard(self, jid: str) -> None:
        """Remove ``key-<jid>``, here and in the store. What is in users' places is never touched."""
        await self._store.discard(jid)
        await super().discard(jid)

    def _pull(self, jid: str, ticket: str, stop: Stop) -> None:
        with storage_errors():
            key_dir = self._fresh_key_dir(jid, stop)
            try:
                partial = key_dir / _PARTIAL
                partial.mkdir(mode=0o755)
                partial.chmod(0o755)
                pull(pull_ticket(ticket), partial, Report(phase="pull"), stop=stop)
                stop.check()  # told to stop, it just ends
                partial.rename(key_dir / "incoming")
            except Failed as failed:
                trees.remove(key_dir)
                if isinstance(failed.__cause__, OSError):
                    raise translated(failed.__cause__) from failed
                raise StorageUnavailable(f"Storage is unavailable: {failed}") from failed
            except BaseException:
                trees.remove(key_dir)
                raise

    def _mounts(self, jid: str, stop: Stop) -> Mounts:
        incoming, outgoing = (self._key_dir(jid) / name for name in ("incoming", "outgoing"))
        with storage_errors():
            if not incoming.is_dir():
                raise NoSuchData(f"The input of job {jid} was not staged")
            trees.remove(outgoing, stop=stop)
            self.handover.make(outgoing)
        return Mounts(incoming=incoming, outgoing=outgoing)

    def _publish(self, jid: str, text: str, stop: Stop) -> None:
        ticket, outputs = publish_ticket(text), self._key_dir(jid) / "outgoing"
        until = time.monotonic() + ticket.deadline_s
        unwanted = Stop(stop)

        def cancelled() -> None:
            unwanted.set()
            raise SystemExit  # ends the thread that has seen it, and nothing else

        try:
            publish(ticket, outputs, Report(phase="publish"), index=0, until=until, stop=unwanted, cancelled=cancelled)
            unwanted.check()  # told to stop, it just ends
        except Failed as failed:
            raise NotPublished(str(failed)) from failed
        except workers.Stopped:
            stop.check()
            raise NotPublished(_CANCELLED) from None
