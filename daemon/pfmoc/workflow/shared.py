"""Storage that a compute resource shares with this machine: input is put into its storeBase, output taken out of it.

Everything of a node lies below ``pfmoc-runs/<job id>/`` in the storeBase: ``in``, which we fill, and ``out``, which we make, as
CUBE does, and the plugin fills.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from pfmoc.storage.workers import Stop
from pfmoc.workflow.inputs import InputFile
from pfmoc.workflow.manifest import CHUNK, FileEntry, Hashing, Manifest, wire_name
from pfmoc.workflow.problems import Damaged, NodeFailed

TOP = "pfmoc-runs"


class SharedDirectory:
    """The directory of one node's job in shared storage.

    :param root: the storeBase, as this machine sees it
    :param jid: the job's id
    """

    def __init__(self, root: Path, jid: str) -> None:
        self._top = root / TOP / jid
        self.input_dir = f"{TOP}/{jid}/in"
        self.output_dir = f"{TOP}/{jid}/out"

    def put(self, files: Sequence[InputFile], stop: Stop, *, progress: Callable[[int], None]) -> None:
        """Lay out the input, and make the output directory. What an earlier attempt left is replaced.

        :raises Damaged: a file is not what it was when it was fetched
        """
        self.remove()
        (self._top / "in").mkdir(parents=True)
        (self._top / "out").mkdir()
        # The plugin may run as somebody else of this group.
        (self._top / "out").chmod(0o775)
        done = 0
        for file in files:
            target = self._top / "in" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.path.open("rb") as source, target.open("xb") as copy:
                found = _copied(source, copy, file.file.name, stop)
            if found != file.file:
                raise Damaged(f"{file.path}: changed since it was fetched")
            done += found.size
            progress(done)

    def take(self, names: Sequence[str], into: Path, stop: Stop, *, progress: Callable[[int], None]) -> Manifest:
        """Copy the output that the server listed into a new directory.

        :raises Damaged: a file is not there, or no regular file of the output directory
        """
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        out = self._top / "out"
        if out.is_symlink():
            raise Damaged(f"{out}: is a symbolic link")
        real = out.resolve()
        entries: dict[str, FileEntry] = {}
        done = 0
        for listed in names:
            name = wire_name(listed, where=listed)
            path = out / name
            if path.parent.resolve() != real / path.parent.relative_to(out):
                raise Damaged(f"{path}: leads out of the output directory")
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                # Nothing that the plugin left there is followed, or waited for.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise Damaged(f"{path}: was listed, but: {error.strerror}") from None
            with os.fdopen(descriptor, "rb") as source, target.open("xb") as copy:
                if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
                    raise Damaged(f"{path}: is no regular file")
                entries[name] = _copied(source, copy, name, stop)
            done += entries[name].size
            progress(done)
        return Manifest(tuple(entries[name] for name in sorted(entries)))

    def remove(self) -> None:
        """Remove all of it.

        :raises NodeFailed: something cannot be removed
        """
        if not self._top.exists():
            return
        try:
            shutil.rmtree(self._top)
        except OSError as error:
            raise NodeFailed(f"{error.filename}: cannot be removed: {error.strerror}") from None


def _copied(source: BinaryIO, target: BinaryIO, name: str, stop: Stop) -> FileEntry:
    hashing = Hashing()
    while data := source.read(CHUNK):
        stop.check()
        hashing.update(data)
        target.write(data)
    return hashing.entry(name)
