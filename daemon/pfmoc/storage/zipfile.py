"""Storage out of the network: the input comes as a zip in the request, the output goes as a zip in an answer."""

from __future__ import annotations

import os
from pathlib import Path

from pfmoc.data import Mounts
from pfmoc.errors import InvalidRequest, NoSuchData, StorageFull
from pfmoc.storage import copying, trees, workers, zip_in
from pfmoc.storage.base import Inputs, Sealed, Staged
from pfmoc.storage.failures import storage_errors
from pfmoc.storage.gather import gather_zip
from pfmoc.storage.handover import Handover
from pfmoc.storage.links import BadLink, Expansion, Files, carriers, directories_of, lies_in
from pfmoc.storage.local import LocalStorage
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.workers import Stop
from pfmoc.storage.zip_names import FIELD

_PARTIAL = ".partial"
"""Where the input is unpacked, until it is whole."""
_EXPANDED = ".expanded"
"""Where its links are expanded."""


class ZipfileStorage(LocalStorage):
    """``key-<jid>/incoming`` is unpacked from the request's zip, ``key-<jid>/outgoing`` is zipped for the answer."""

    env = "zipfile"
    innetwork = False
    requires_copy = False
    requires_upload = False

    def __init__(self, *, storebase: StoreBase, handover: Handover, limits: zip_in.Limits) -> None:
        super().__init__(storebase=storebase, handover=handover)
        self.limits = limits

    def check(self, inputs: Inputs) -> None:
        """Reject a job without a zip."""
        self._key_dir(inputs.jid)
        if inputs.upload is None:
            raise InvalidRequest("data_file", "field is required")

    async def stage(self, inputs: Inputs) -> Staged:
        """Unpack the zip and expand the links in it. It is judged first, before an earlier attempt is removed.

        :raises InvalidRequest: the zip is malformed or hostile, or a link in it leads nowhere
        :raises TooLarge: it is over a limit
        """
        upload = inputs.upload
        if upload is None:
            raise InvalidRequest("data_file", "field is required")
        async with self.turns.hold(inputs.jid):
            return await workers.run(lambda stop: self._stage(inputs.jid, upload, stop))

    async def data(self, inputs: Inputs, *, lifetime_s: float) -> Mounts:  # noqa: ARG002 - directories do not expire
        """The two directories below ``key-<jid>``."""
        key_dir = self._key_dir(inputs.jid)
        return Mounts(incoming=key_dir / "incoming", outgoing=key_dir / "outgoing")

    async def listing(self, inputs: Inputs, job_output_path: str) -> list[str]:  # noqa: ARG002 - see below
        """There is none: out of the network output is sent as a zip."""
        raise NoSuchData(f"Job {inputs.jid} has no files in shared storage")

    def zip_root(self, jid: str) -> Path:
        """The job's output directory; made when absent, so that a job without output yields an empty zip."""
        key_dir = self._key_dir(jid)
        if not self._holds(jid):
            raise NoSuchData(f"Job {jid} has no data")
        with storage_errors():
            (key_dir / "outgoing").mkdir(mode=0o755, exist_ok=True)
        return key_dir / "outgoing"

    def _stage(self, jid: str, upload: Path, stop: Stop) -> Staged:
        with storage_errors():
            plan = zip_in.judge(upload, limits=self.limits, stop=stop)
            room = os.statvfs(self.storebase.root)
            if room.f_blocks and plan.size > room.f_bavail * room.f_frsize:
                raise StorageFull(f"Storage is full: the input needs {plan.size} bytes, more than there are left")
            key_dir = self._fresh_key_dir(jid, stop)
            try:
                partial, incoming = key_dir / _PARTIAL, key_dir / "incoming"
                partial.mkdir(mode=0o755)
                partial.chmod(0o755)
                zip_in.unpack(plan, partial, stop=stop)
                if plan.links:
                    partial = self._expanded(partial, stop)
                self.handover.make(key_dir / "outgoing")
                partial.rename(incoming)
            except BaseException:
                trees.remove(key_dir)
                raise
            return Staged(nfiles=plan.entries - plan.links, path=incoming)

    def _expanded(self, partial: Path, stop: Stop) -> Path:
        """Build the tree anew with its links expanded, of hard links: all files in it are this job's own."""
        expanded = partial.with_name(_EXPANDED)
        expanded.mkdir(mode=0o755)
        expanded.chmod(0o755)
        try:
            found, directories = gather_zip(partial, stop=stop)
            files = Files(found.files)
            leaving = carriers(files, found.links)
            expansion = Expansion(files=files, links=found.links, limit=self.limits.entries, stop=stop)
            staying = [path for path in files if not lies_in(path, leaving)]
            for path in staying:
                expansion.keep(path)
        except BadLink as bad:
            raise InvalidRequest(FIELD, str(bad)) from bad
        emptied = directories_of(files) - directories_of(staying)
        with trees.opened(expanded) as root:
            for directory in directories:
                if directory not in emptied and not lies_in(directory, leaving):
                    trees.make_directories(root, directory)
        copying.bring(expansion.placed, source=partial, target=expanded, hard_links=True, stop=stop)
        trees.remove(partial, stop=stop)
        return expanded

    def _seal(self, inputs: Inputs, stop: Stop) -> Sealed:
        sums = trees.measure(self._key_dir(inputs.jid) / "outgoing", stop=stop)
        return Sealed(files=sums.files, size=sums.size, allocated=sums.allocated, dropped_links=sums.links)
