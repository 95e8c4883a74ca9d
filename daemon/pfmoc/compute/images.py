"""The "images" of the ``process`` environment: a directory tree that an operator fills, beginning at ``PFMOC_PROCESS_IMAGES``.

``localhost/chris/pl-x:1.0`` is the directory ``localhost/chris/pl-x/1.0``; its ``bin`` holds the programs, and comes first in the
plugin's PATH. A reference without a tag means ``latest``, as everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pfmoc.compute.limits import check_reference
from pfmoc.errors import ComputeRefused, InvalidRequest

# Neither can be ".", ".." or hold a slash: a reference cannot leave the tree.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]+)?")
_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class ProcessImage:
    """A directory that stands for an image."""

    reference: str
    path: Path

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.path / "bin"

    def program(self, argv: Sequence[str]) -> Path:
        """The file that an entry point means.

        A bare name is looked for in ``bin``; so is the last part of an absolute path, since what plugins call
        ``/usr/local/bin/x`` is here ``<image>/bin/x``. A relative path with a slash means nothing without a root file system.

        :raises ComputeRefused: names the image and the program
        """
        entry = argv[0] if argv else ""
        name = entry.rpartition("/")[2]
        if name in ("", ".", "..") or "\0" in entry or not (entry == name or entry.startswith("/")):
            raise ComputeRefused(
                f"{self.reference}: entrypoint {entry!r} must be a program's name or absolute path", engine_status=400
            )
        program = self.bin / name
        if not program.is_file():
            raise ComputeRefused(f"{self.reference}: there is no program {name!r} in the image", engine_status=400)
        if not os.access(program, os.X_OK):
            raise ComputeRefused(f"{self.reference}: program {name!r} is not executable", engine_status=400)
        return program


def find_image(tree: Path | None, reference: str) -> ProcessImage:
    """Find the directory of an image.

    :raises InvalidRequest: that is no reference
    :raises ComputeRefused: there is no such image, status 404; it is named by a digest, 400
    """
    if tree is None:
        raise ComputeRefused(f"{reference}: no images are configured; set PFMOC_PROCESS_IMAGES", engine_status=404)
    check_reference(reference)
    relative = _relative(reference)
    if not (tree / relative / "bin").is_dir():
        raise ComputeRefused(
            f"{reference}: no such image; the process environment fetches none, so put its programs"
            f" into {relative}/bin below PFMOC_PROCESS_IMAGES",
            engine_status=404,
        )
    return ProcessImage(reference, tree / relative)


def _relative(reference: str) -> str:
    if "@" in reference:
        raise ComputeRefused(
            f"{reference}: a digest names the bytes of an image, which the process environment does not have; use a tag",
            engine_status=400,
        )
    *parents, last = reference.split("/")
    name, colon, tag = last.partition(":")
    tag = tag if colon else "latest"
    components = [*parents, name]
    good = all(
        (_HOST if number == 0 and parents else _COMPONENT).fullmatch(part) for number, part in enumerate(components)
    ) and _TAG.fullmatch(tag)
    if not good:
        raise InvalidRequest("image", "must be an image reference such as localhost/chris/pl-x:1.0")
    return "/".join([*components, tag])
