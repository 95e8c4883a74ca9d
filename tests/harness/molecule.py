"""Molecule, run as a program on one scenario of one role, in a directory of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / ".config" / "molecule" / "config.yml"

# Molecule's heading of a step, and Ansible's recap in what follows.
_STEP = re.compile(r" > (\w+)\] Executing$", re.MULTILINE)
_RECAP = re.compile(r"^\S+ +: ok=\d+ +changed=(\d+)", re.MULTILINE)


class ScenarioFailed(Exception):
    """Molecule ended with an error, or did not end; the text is the end of what it printed."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One scenario of one role, found by its molecule.yml."""

    role: str
    name: str

    def __str__(self) -> str:
        return f"{self.role}-{self.name}"

    @property
    def directory(self) -> Path:
        return ROOT / "roles" / self.role / "molecule" / self.name

    @property
    def variables(self) -> dict[str, Any]:
        """What its inventory sets for all hosts: the role's options, and ``scenario_needs``."""
        document = yaml.safe_load((self.directory / "inventory" / "hosts.yml").read_text())
        variables: dict[str, Any] = document["all"]["vars"]
        return variables

    @property
    def needs(self) -> list[str]:
        """What it cannot run without on this machine."""
        needs: list[str] = self.variables.get("scenario_needs", [])
        return needs


def scenarios() -> list[Scenario]:
    """Every scenario of every role."""
    found = sorted((ROOT / "roles").glob("*/molecule/*/molecule.yml"))
    return [Scenario(role=file.parents[2].name, name=file.parent.name) for file in found]


@contextmanager
def ephemeral_directory() -> Iterator[Path]:
    """A directory for all that molecule and a scenario write. Its path is short: there will be sockets in it."""
    directory = Path(tempfile.mkdtemp(prefix="mol-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def molecule(command: str, scenario: Scenario, directory: Path, *, deadline_s: float) -> str:
    """Run one of molecule's commands and return what it printed."""
    programs = Path(sys.executable).parent
    # `make` says by UV which one it has found, or installed.
    path = [str(programs), os.environ["PATH"], str(Path(os.environ.get("UV", "uv")).parent)]
    argv = [programs / "molecule", "--base-config", CONFIG, command, "--scenario-name", scenario.name]
    environment = {
        **os.environ,
        "PATH": ":".join(path),
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(directory / "home"),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "pfmoc" / "uv-cache")),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(directory / "it"),
        "MOLECULE_COMMAND_BORDERS": "0",
        "MOLECULE_REPORT": "0",
    }
    with subprocess.Popen(
        argv,
        cwd=ROOT / "roles" / scenario.role,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=deadline_s)
        except BaseException:
            # Ansible's children are in its session; the background processes have left it.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise ScenarioFailed(f"molecule {command} of {scenario} ended with status {process.returncode}\n{output[-12000:]}")
    return output


def changes(output: str) -> list[tuple[str, int]]:
    """Each step of a run with the number of tasks that reported a change."""
    _, *parts = _STEP.split(output)
    return [(step, sum(map(int, _RECAP.findall(text)))) for step, text in zip(parts[::2], parts[1::2], strict=True)]


def leftovers(directory: Path) -> list[str]:
    """What a destroyed scenario has left: files in its directory, processes that know it, mounts below it."""
    left = [str(path) for path in (directory / "it").glob("work*")]
    left += [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {directory}/" in line]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if f"{directory}/" in f"{' '.join(process.cmdline())} {process.cwd()}/ {process.environ()}":
                left.append(f"process {process.pid} ({' '.join(process.cmdline())})")
    return left
