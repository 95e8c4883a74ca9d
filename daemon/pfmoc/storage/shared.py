"""What the two modes of storage in the network have in common: the users' trees are on the same disk."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from pfmoc.errors import InvalidRequest, NoSuchData
from pfmoc.storage import trees, workers
from pfmoc.storage.base import Inputs
from pfmoc.storage.failures import storage_errors
from pfmoc.storage.local import LocalStorage
from pfmoc.storage.paths import BadPath
from pfmoc.storage.trees import LINK_SUFFIX, Level, Measure
from pfmoc.storage.workers import Stop


class SharedStorage(LocalStorage):
    """Input and output are directories of the storeBase that the client names."""

    innetwork = True
    requires_upload = False
    lists_links: bool
    """True where ``.chrislink`` files count as output."""

    async def listing(self, inputs: Inputs, job_output_path: str) -> list[str]:  # noqa: ARG002 - the path alone says it here
        """Relative names of the regular files below the path, in the order of ``os.walk`` with sorted names. Changes nothing.

        :raises NoSuchData: there is no such directory, or none that a client may name
        """

        def names(stop: Stop) -> list[str]:
            try:
                path = self.storebase.resolve(job_output_path)
            except BadPath as bad:
                raise NoSuchData(f"job_output_path: {bad.reason}") from None
            with storage_errors(), closing(self._walk(path, stop)) as levels:
                return [
                    level.join(name)
                    for level in levels
                    for name in level.files
                    if self.lists_links or not name.endswith(LINK_SUFFIX)
                ]

        return await workers.run(names, pool=workers.QUICK)

    def _input(self, text: str) -> str:
        """Return a client's input path, resolved, relative to the storeBase."""
        return self.storebase.relative(self._resolve("input_dirs", text))

    def _output(self, inputs: Inputs) -> Path:
        """Return the output directory, which the client has made."""
        if inputs.output_dir is None:
            raise InvalidRequest("output_dir", "field is required")
        path = self._resolve("output_dir", inputs.output_dir)
        with storage_errors():
            if not path.is_dir():
                raise InvalidRequest("output_dir", f"there is no directory {_shown(inputs.output_dir)} in storage")
        return path

    def _opened_output(self, inputs: Inputs) -> Path:
        path = self._output(inputs)
        with storage_errors():
            self.handover.open(path)
        return path

    def _measure(self, inputs: Inputs, stop: Stop, *, drop_links: bool) -> Measure:
        """Measure the output. One that is gone, or leads elsewhere by now, is empty: the job has ended all the same."""
        try:
            path = self.storebase.relative(self._output(inputs))
        except InvalidRequest:
            return Measure()
        return trees.measure(self.storebase.root, path, stop=stop, drop_links=drop_links)

    def _walk(self, path: Path, stop: Stop) -> Generator[Level]:
        return trees.walk(self.storebase.root, self.storebase.relative(path), stop=stop)

    def _resolve(self, field: str, text: str) -> Path:
        try:
            return self.storebase.resolve(text)
        except BadPath as bad:
            raise InvalidRequest(field, f"{_shown(text)} {bad.reason}") from None


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 100 else f"{text[:100]}...")
