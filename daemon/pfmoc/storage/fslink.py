"""Storage in the network, with links: the input is gathered from the users' trees into ``key-<jid>/incoming``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pfmoc.data import Mounts
from pfmoc.errors import InvalidRequest
from pfmoc.storage import copying, trees, workers
from pfmoc.storage.base import Inputs, Sealed, Staged
from pfmoc.storage.copying import Gone
from pfmoc.storage.failures import storage_errors
from pfmoc.storage.gather import Gathered, Gathering, Missing
from pfmoc.storage.handover import Handover
from pfmoc.storage.links import BadLink, Expansion, Files
from pfmoc.storage.paths import StoreBase, is_below
from pfmoc.storage.shared import SharedStorage
from pfmoc.storage.workers import Stop

FIELD = "input_dirs"
_UNREADABLE = "Error copying files from shared filesystem"
_PARTIAL = ".partial"


class FslinkStorage(SharedStorage):
    """Any number of input directories and files, with all that their links lead to.

    :param hard_links: whether the staged input may be hard links to the users' files. It costs no space then, but is only safe
        where a plugin cannot write to its input: a container has it read-only, a process has not
    :param limit: most files of one input
    """

    env = "fslink"
    requires_copy = True
    lists_links = False

    def __init__(self, *, storebase: StoreBase, handover: Handover, hard_links: bool, limit: int) -> None:
        super().__init__(storebase=storebase, handover=handover)
        self.hard_links = hard_links
        self.limit = limit

    def check(self, inputs: Inputs) -> None:
        """Reject a job without an output directory, or with paths that it may not name. Staging finds out what is missing."""
        self._key_dir(inputs.jid)
        for text in inputs.input_dirs:
            self._input(text)
        self._output(inputs)

    async def stage(self, inputs: Inputs) -> Staged:
        """Copy the input, links expanded. It is gathered first, before an earlier attempt is removed.

        :raises InvalidRequest: an input is missing, or a link cannot be followed
        :raises TooLarge: there are more files than the limit
        """
        async with self.turns.hold(inputs.jid):
            return await workers.run(lambda stop: self._stage(inputs, stop))

    async def data(self, inputs: Inputs, *, lifetime_s: float) -> Mounts:  # noqa: ARG002 - directories do not expire
        """The staged input, and the user's output directory, made writable for the plugin."""
        return await asyncio.to_thread(self._mounts, inputs)

    def _mounts(self, inputs: Inputs) -> Mounts:
        return Mounts(incoming=self._key_dir(inputs.jid) / "incoming", outgoing=self._opened_output(inputs))

    def _stage(self, inputs: Inputs, stop: Stop) -> Staged:
        self.check(inputs)
        output = self._output(inputs)
        with storage_errors():
            try:
                gathered, placed = self._placed(inputs, self.storebase.relative(output), stop)
                incoming = self._bring(inputs.jid, placed, stop)
            except Missing as error:
                raise InvalidRequest(FIELD, _UNREADABLE) from error
            except Gone as error:
                raise InvalidRequest(FIELD, f"{error.path} vanished while it was copied") from error
            except BadLink as error:
                raise InvalidRequest(FIELD, str(error)) from error
            return Staged(nfiles=len(gathered.files) - len(gathered.links), path=incoming)

    def _placed(self, inputs: Inputs, output: str, stop: Stop) -> tuple[Gathered, dict[str, str]]:
        """Find out which file goes where. Writes nothing."""
        gathering = Gathering(storebase=self.storebase, output=output, limit=self.limit, stop=stop)
        tops = []
        for text in inputs.input_dirs:
            path = self._input(text)
            if is_below(output, path):
                raise InvalidRequest(FIELD, f"{text!a} holds the job's own output directory")
            tops.append((path, gathering.add(path)))
        expansion = Expansion(files=Files(gathering.found.files), links=gathering.found.links, limit=self.limit, stop=stop)
        for path, is_directory in tops:
            (expansion.add_directory if is_directory else expansion.add_file)(path)
        return gathering.found, expansion.placed

    def _bring(self, jid: str, placed: dict[str, str], stop: Stop) -> Path:
        key_dir = self._fresh_key_dir(jid, stop)
        try:
            partial, incoming = key_dir / _PARTIAL, key_dir / "incoming"
            partial.mkdir(mode=0o755)
            partial.chmod(0o755)
            copying.bring(placed, source=self.storebase.root, target=partial, hard_links=self.hard_links, stop=stop)
            partial.rename(incoming)
        except BaseException:
            trees.remove(key_dir)
            raise
        return incoming

    def _seal(self, inputs: Inputs, stop: Stop) -> Sealed:
        sums = self._measure(inputs, stop, drop_links=True)
        return Sealed(files=sums.files, size=sums.size, allocated=sums.allocated, dropped_links=sums.links)
