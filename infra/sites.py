"""Where the site files of this repository are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def site_file(site: str) -> Path:
    """The file of a site that is given by its name, its directory, or its file."""
    path = Path(site)
    if path.is_dir():
        return path / "site.yml"
    if path.suffix in (".yml", ".yaml") or path.exists():
        return path
    return ROOT / "inventories" / site / "site.yml"


def short(file: Path) -> str:
    """A file as messages name it: from the repository, where it is in there."""
    resolved = file.resolve()
    return str(resolved.relative_to(ROOT)) if resolved.is_relative_to(ROOT) else str(file)
