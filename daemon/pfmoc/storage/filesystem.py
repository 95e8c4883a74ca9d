"""Storage in the network, as it is: the plugin reads the user's directory and writes to the user's directory."""

from __future__ import annotations

import asyncio
from contextlib import closing

from pfmoc.data import Mounts
from pfmoc.errors import InvalidRequest, NoSuchData
from pfmoc.storage import workers
from pfmoc.storage.base import Inputs, Sealed, Staged
from pfmoc.storage.failures import storage_errors
from pfmoc.storage.shared import SharedStorage
from pfmoc.storage.workers import Stop

_UNREADABLE = "Error accessing files from shared filesystem"


class FilesystemStorage(SharedStorage):
    """No copy is made, no link is followed, and only the first input directory is used."""

    env = "filesystem"
    requires_copy = False
    lists_links = True

    def check(self, inputs: Inputs) -> None:
        """Reject a job without an input directory or an output directory, or with one that it may not name."""
        self._key_dir(inputs.jid)
        if not inputs.input_dirs:
            raise InvalidRequest("input_dirs", "field is required")
        for text in inputs.input_dirs:
            self._input(text)
        self._output(inputs)

    async def stage(self, inputs: Inputs) -> Staged:
        """Count the files of the input.

        :raises InvalidRequest: the input cannot be read
        """
        return await workers.run(lambda stop: self._stage(inputs, stop))

    async def data(self, inputs: Inputs, *, lifetime_s: float) -> Mounts:  # noqa: ARG002 - directories do not expire
        """The user's two directories; the second one made writable for the plugin."""
        return await asyncio.to_thread(self._mounts, inputs)

    def _mounts(self, inputs: Inputs) -> Mounts:
        return Mounts(incoming=self.storebase.root / self._input(inputs.input_dirs[0]), outgoing=self._opened_output(inputs))

    def _stage(self, inputs: Inputs, stop: Stop) -> Staged:
        self.check(inputs)
        path = self.storebase.root / self._input(inputs.input_dirs[0])
        try:
            with storage_errors(), closing(self._walk(path, stop)) as levels:
                files = sum(len(level.files) for level in levels)
        except NoSuchData as error:
            raise InvalidRequest("input_dirs", _UNREADABLE) from error
        return Staged(nfiles=files, path=path)

    def _seal(self, inputs: Inputs, stop: Stop) -> Sealed:
        sums = self._measure(inputs, stop, drop_links=False)
        return Sealed(files=sums.files, size=sums.size, allocated=sums.allocated, dropped_links=0)
