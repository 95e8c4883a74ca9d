"""Programs that are on the machine already."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from toolchain import processes, versions
from toolchain.errors import ToolchainError

_MORE_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on the PATH of ordinary users
_VERSION_ARGUMENTS: Mapping[str, Sequence[str]] = {
    "coredns": ("-version",),
    "go": ("version",),
    "haproxy": ("-v",),
    "kubectl": ("version", "--client"),
    "pulumi": ("version",),
}
_ANSWER_S = 20.0
_DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el"}
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le"}


@dataclass(frozen=True)
class Program:
    """A program found on the machine."""

    path: Path
    version: str


def find(name: str, accept: versions.Range, *, aside: Path) -> Program | None:
    """The first program of that name, on PATH or where administrators' programs lie, whose version is good enough.

    A stub that a version manager left, and that does not run, is passed over.

    :param aside: the toolchain's own directory, whose programs do not count
    """
    for directory in _directories():
        candidate = Path(directory, name)
        if not os.access(candidate, os.X_OK) or candidate.is_dir() or candidate.resolve().is_relative_to(aside):
            continue
        version = version_of(candidate)
        if version and version in accept:
            return Program(path=candidate, version=".".join(map(str, version[:3])))
    return None


def find_beside(name: str, directories: Iterable[Path]) -> Path | None:
    """The first executable file of that name; for companions that say no version of their own."""
    return next((path for directory in directories if os.access(path := directory / name, os.X_OK)), None)


def _directories() -> list[str]:
    found = [part for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    return list(dict.fromkeys([*found, *_MORE_DIRECTORIES]))


@cache
def version_of(program: Path) -> tuple[int, ...] | None:
    """What a program says its version is; None if it says none, or does not run."""
    arguments = _VERSION_ARGUMENTS.get(program.name, ("--version",))
    try:
        return versions.parse(processes.run([str(program), *arguments], seconds=_ANSWER_S))
    except (ToolchainError, OSError):
        return None


def go_architecture() -> str:
    """What Go calls this machine's architecture.

    :raises ToolchainError: there is no way to make the products for it
    """
    return _architecture(_GO_ARCHITECTURES)


def debian_architecture() -> str:
    """What Debian calls this machine's architecture.

    :raises ToolchainError: as above
    """
    return _architecture(_DEBIAN_ARCHITECTURES)


def _architecture(names: Mapping[str, str]) -> str:
    machine = platform.machine()
    if machine not in names:
        raise ToolchainError(f"this machine is {machine}; the toolchain is made for {', '.join(names)} only")
    return names[machine]


def debian_release() -> str:
    """The code name of the Debian that this is, such as ``bookworm``; empty where it is none."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return release.get("VERSION_CODENAME", "")
