"""What all storage on a mounted file system has in common."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from pathlib import Path

from pfmoc.errors import InvalidRequest, StorageUnavailable
from pfmoc.locks import KeyedLocks
from pfmoc.storage import trees, workers
from pfmoc.storage.base import Inputs, Sealed, Storage
from pfmoc.storage.failures import storage_errors, translated
from pfmoc.storage.handover import Handover
from pfmoc.storage.paths import BadPath, StoreBase
from pfmoc.storage.workers import Stop

_PROBE = b"pfmoc storage probe\n"


class LocalStorage(Storage):
    """A storeBase on a mounted file system: local disk, NFS, or a volume."""

    def __init__(self, *, storebase: StoreBase, handover: Handover) -> None:
        self.storebase = storebase
        self.handover = handover
        self.turns = KeyedLocks()
        """By job id: held by whoever fills ``key-<jid>``, or removes it."""

    async def probe(self) -> None:
        """Prove that storage can be read and written: a small file is written, synced, read and removed."""
        await asyncio.to_thread(self._probe)

    async def seal(self, inputs: Inputs, *, published: bool = False) -> Sealed:  # noqa: ARG002 - it is in its place by itself
        """Measure the output after the plugin ended, and drop the links that it wrote. An output that is gone is empty."""

        def seal(stop: Stop) -> Sealed:
            with storage_errors():
                return self._seal(inputs, stop)

        return await workers.run(seal, pool=workers.QUICK)

    async def holds(self, jid: str) -> bool:
        """True when there is a directory ``key-<jid>``."""
        return await asyncio.to_thread(self._holds, jid)

    async def withdraw(self, jid: str) -> None:
        """Nothing to take back: a run has directories, and no rights of its own."""

    async def discard(self, jid: str) -> None:
        """Remove ``key-<jid>`` and all below it. Absent data is not an error; user data is never touched."""
        path = self._key_dir(jid)

        def remove(stop: Stop) -> None:
            with storage_errors():
                trees.remove(path, stop=stop)

        async with self.turns.hold(jid):
            await workers.run(remove)

    def _holds(self, jid: str) -> bool:
        return _is_directory(self._key_dir(jid))

    def _seal(self, inputs: Inputs, stop: Stop) -> Sealed:
        """Measure. Not asked of a mode with a ``seal`` of its own."""
        raise NotImplementedError

    def _key_dir(self, jid: str) -> Path:
        try:
            return self.storebase.key_dir(jid)
        except BadPath as bad:
            raise InvalidRequest("jid", bad.reason) from None

    def _fresh_key_dir(self, jid: str, stop: Stop) -> Path:
        """Make the job's directory, after removing what an earlier attempt left."""
        path = self._key_dir(jid)
        trees.remove(path, stop=stop)
        path.mkdir(mode=0o700)
        path.chmod(self.handover.private_mode())
        return path

    def _probe(self) -> None:
        if not self.storebase.root.is_dir():
            raise StorageUnavailable("Storage is unavailable: the storeBase does not exist")
        try:
            self.storebase.private.mkdir(mode=0o700, exist_ok=True)
            path = self.storebase.private / f"probe-{secrets.token_hex(8)}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, _PROBE)
                os.fsync(fd)
                if os.pread(fd, len(_PROBE) + 1, 0) != _PROBE:
                    raise StorageUnavailable("Storage is unavailable: it returned other bytes than were written")
            finally:
                os.close(fd)
                path.unlink()
        except FileNotFoundError:
            raise StorageUnavailable("Storage is unavailable: the storeBase vanished") from None
        except OSError as error:
            raise translated(error) from error


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise translated(error) from error
