"""Files that are either the old ones or the new ones, whenever the power goes.

Standard library only: the supervisor of a run uses it too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, document: object) -> None:
    """Replace a JSON document in one step: a reader sees all of it or nothing."""
    new = path.with_name(f".{path.name}.new")
    write_synced(new, json.dumps(document, indent=1).encode() + b"\n", flags=os.O_CREAT | os.O_TRUNC)
    publish(new, path)


def read_json(path: Path) -> Any:
    """Read a JSON document.

    :returns: None when there is no such file
    :raises ValueError: it holds no JSON
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def write_synced(path: Path, data: bytes, *, flags: int) -> None:
    """Write a file, mode 0600, and wait until the disk has it.

    :param flags: of open(2), which say whether the file is to be made, and what becomes of an old one
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def publish(new: Path, path: Path) -> None:
    """Put a finished file in the place of another, for good."""
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
