"""Directories that the client itself has filled, and made: pman's callers share the storeBase with it (contract 4)."""

from __future__ import annotations

from pathlib import Path

from pfmoc.data import Mounts
from pfmoc.errors import InvalidRequest, NoSuchData
from pfmoc.storage import trees, workers
from pfmoc.storage.base import Inputs, Sealed, Staged
from pfmoc.storage.failures import storage_errors
from pfmoc.storage.local import LocalStorage
from pfmoc.storage.paths import BadPath
from pfmoc.storage.workers import Stop


class PlacedStorage(LocalStorage):
    """The plugin gets the two directories that the client names, be they a user's or the job's own ``key-<jid>/...``.

    Nothing is copied, measured out or removed: the client does that, before and after.
    """

    env = "placed"
    innetwork = True
    requires_copy = False
    requires_upload = False

    def check(self, inputs: Inputs) -> None:
        """Reject directories that lie outside of what this job may name. Staging finds out what is missing."""
        self._key_dir(inputs.jid)
        self._places(inputs)

    async def stage(self, inputs: Inputs) -> Staged:
        """Check that the directories are there. Those of the job's own are made when they are not: a plugin may need no input.

        :raises InvalidRequest: there is no such directory
        """
        return await workers.run(lambda _: self._stage(inputs))

    async def data(self, inputs: Inputs, *, lifetime_s: float) -> Mounts:  # noqa: ARG002 - directories do not expire
        """The two directories that the client named."""
        incoming, outgoing = self._places(inputs)
        return Mounts(incoming=incoming, outgoing=outgoing)

    async def listing(self, inputs: Inputs, job_output_path: str) -> list[str]:  # noqa: ARG002 - see below
        """There is none: the client reads its own directory."""
        raise NoSuchData(f"Job {inputs.jid} left its files where its client has them")

    async def discard(self, jid: str) -> None:
        """Nothing is removed: the data are the client's."""

    def _stage(self, inputs: Inputs) -> Staged:
        incoming, outgoing = self._places(inputs)
        key_dir = self._key_dir(inputs.jid)
        with storage_errors():
            for field, path in (("output_dir", outgoing), ("input_dir", incoming)):
                if path.is_relative_to(key_dir):
                    self._make(path, within=key_dir)
                if not path.is_dir():
                    raise InvalidRequest(
                        field, f"there is no directory {str(path.relative_to(self.storebase.root))!a} in storage"
                    )
            self.handover.open(outgoing)
        return Staged(nfiles=0, path=incoming)

    def _make(self, path: Path, *, within: Path) -> None:
        if not within.exists():
            within.mkdir(mode=0o700)
            within.chmod(self.handover.private_mode())
        with trees.opened(within) as fd:
            trees.make_directories(fd, "" if path == within else str(path.relative_to(within)))

    def _places(self, inputs: Inputs) -> tuple[Path, Path]:
        incoming = self._place("input_dir", inputs.input_dirs[0], inputs.jid)
        return incoming, self._place("output_dir", inputs.output_dir or "", inputs.jid)

    def _place(self, field: str, text: str, jid: str) -> Path:
        try:
            return self.storebase.resolve(text, own=jid)
        except BadPath as bad:
            raise InvalidRequest(field, f"{text[:100]!a} {bad.reason}") from None

    def _seal(self, inputs: Inputs, stop: Stop) -> Sealed:
        try:
            _, outgoing = self._places(inputs)
        except InvalidRequest:  # its client has put something else there meanwhile
            return Sealed(files=0, size=0, allocated=0, dropped_links=0)
        sums = trees.measure(self.storebase.root, self.storebase.relative(outgoing), stop=stop)
        return Sealed(files=sums.files, size=sums.size, allocated=sums.allocated, dropped_links=0)
