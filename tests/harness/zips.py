"""Zips for tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    """Every entry, read in full, as CUBE does it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert not [name for name in archive.namelist() if name.endswith("/")]
        return {name: archive.read(name) for name in archive.namelist()}


def zip_file(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a zip of the files, and return its path."""
    path.write_bytes(zipped(files))
    return path
