"""The programs of the role box, for tests that run toy services under them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "box" / "files"
SUPERVISE = ROOT / "roles" / "background_process" / "files" / "supervise.py"

SLEEP = ["/bin/sleep", "600"]


class ToyBox:
    """A box whose services are toys, driven through its commands.

    :param directory: short, for the sake of the socket in it
    """

    def __init__(self, directory: Path, *, port_base: int = 0) -> None:
        self.directory = directory
        self.port_base = port_base

    def ctl(self, *words: str, document: Any = None) -> subprocess.CompletedProcess[str]:
        """Run one of its commands."""
        return subprocess.run(
            [sys.executable, str(FILES / "boxctl.py"), "--directory", str(self.directory), *words],
            input=json.dumps(document),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def prepare(self, *groups: str) -> None:
        """Do as the role's tasks do: make the directory, start the supervisor."""
        document = {"profile": "full", "groups": groups or ["toys"], "port_base": self.port_base, "cgroup": "", "path": []}
        made = self.ctl("prepare", document=document)
        assert made.returncode == 0, made.stderr
        environment = self.directory / "env"
        if not environment.exists():
            environment.symlink_to(sys.prefix)
        self._supervise("ensure", "--env", f"PFMOC_BOX={self.directory}", "--", *self._supervisord())

    def apply(self, *services: dict[str, Any], group: str = "toys", seconds: float = 30) -> dict[str, Any]:
        """Hand over a group; return what was done."""
        done = self.ctl("apply", group, "--seconds", str(seconds), document=services)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def status(self) -> dict[str, dict[str, Any]]:
        """The rows by service."""
        return {row["service"]: row for row in json.loads(self.ctl("status", "--json").stdout)}

    def pid(self, service: str) -> int:
        """Of a service that is healthy."""
        row = self.status()[service]
        assert row["health"] == "healthy", row
        return int(row["pid"])

    def down(self) -> str:
        """Do as the role's tasks do; return what had to be ended by force."""
        self.ctl("stop")
        self._supervise("stop")
        ended = self.ctl("end")
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def _supervisord(self) -> Sequence[str]:
        return [str(Path(sys.prefix) / "bin/supervisord"), "--configuration", str(self.directory / "conf/supervisord.conf")]

    def _supervise(self, command: str, *words: str) -> None:
        if self.directory.exists():
            subprocess.run([sys.executable, str(SUPERVISE), command, str(self.directory), "box", *words], check=True, timeout=120)


def toy(name: str, *argv: str, **more: Any) -> dict[str, Any]:
    """A service as a role writes it."""
    return {"name": name, "argv": list(argv) or SLEEP, **more}
