"""What a node reads: the workflow's input, a parent's output, or several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pfmoc.workflow.manifest import FileEntry, Manifest


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory on this machine, and what is known to be in it."""

    root: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of a node's input.

    ``name`` is where the plugin finds it, below its input directory; ``file`` what must be in ``path``.
    """

    name: str
    path: Path
    file: FileEntry


def joined(trees: Mapping[str, Tree]) -> tuple[InputFile, ...]:
    """Lay out the input of a node.

    One source is the input directory itself. Of several, each is a directory named after its node, so no two files can ever
    meet under one name.

    :param trees: sources by name; none for a node that reads nothing
    """
    alone = len(trees) == 1
    return tuple(
        InputFile(file.name if alone else f"{source}/{file.name}", tree.root / file.name, file)
        for source, tree in sorted(trees.items())
        for file in tree.manifest.files
    )
