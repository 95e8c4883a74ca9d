"""Where things lie below the box's directory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SANDBOX = "sandbox"
"""The service that holds the namespaces which inside services enter."""
MARK = "PFMOC_BOX"
"""Environment variable of every process of a box: its directory. Forks inherit it, so that nothing gets away."""


@dataclass(frozen=True)
class Layout:
    """Paths of one box."""

    root: Path

    @property
    def conf(self) -> Path:
        """Configuration, rendered."""
        return self.root / "conf"

    @property
    def run(self) -> Path:
        """What is true only while the box runs."""
        return self.root / "run"

    @property
    def log(self) -> Path:
        """One file a service."""
        return self.root / "log"

    @property
    def programs(self) -> Path:
        """This package and the wrapper, so that a running box does not depend on a checkout."""
        return self.root / "lib"

    @property
    def python(self) -> Path:
        """The interpreter of the box's environment."""
        return self.root / "env" / "bin" / "python"

    @property
    def groups(self) -> Path:
        """A JSON list of services and a section of the supervisor's configuration for each group."""
        return self.conf / "groups"

    @property
    def supervisor_conf(self) -> Path:
        """The supervisor's configuration."""
        return self.conf / "supervisord.conf"

    @property
    def socket(self) -> Path:
        """Where the supervisor takes orders."""
        return self.run / "supervisor.sock"

    @property
    def marker(self) -> Path:
        """Mounted on itself in the sandbox, so that each process in there can be told by its mounts."""
        return self.run / SANDBOX

    def record(self, service: str) -> Path:
        """What the wrapper of a service noted of its process."""
        return self.run / "services" / f"{service}.json"

    def log_of(self, service: str) -> Path:
        """The service's standard output and error."""
        return self.log / f"{service}.log"


def write(path: Path, text: str, *, mode: int = 0o600) -> bool:
    """Make the file hold the text, at once or not at all; False if it did so already."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)
    return True


def read_json(path: Path) -> Any:
    """The file's document; None if there is none, or half of one."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
