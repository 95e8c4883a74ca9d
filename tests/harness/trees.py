"""Directory trees to plant and to read back, and the directories that are images of the ``process`` environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def plant(path: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files, and the directories that they need; returns the top one."""
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def contents(path: Path) -> dict[str, bytes]:
    """All regular files below a directory."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }


def install(images: Path, reference: str, programs: Mapping[str, str]) -> Path:
    """Make an image of programs, each with its first line; returns the directory that holds them."""
    target = plant(images / reference.replace(":", "/") / "bin", programs)
    for name in programs:
        (target / name).chmod(0o755)
    return target
