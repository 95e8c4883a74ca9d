"""Zips for tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path


def zip_bytes(files: Mapping[str, str | bytes]) -> bytes:
    """A zip that holds these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zip_file(path: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a zip that holds these files, and return its path."""
    path.write_bytes(zip_bytes(files))
    return path
