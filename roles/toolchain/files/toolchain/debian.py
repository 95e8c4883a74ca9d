"""Debian packages without installing them: a private apt, which root's own knows nothing of."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolchain import machine, processes
from toolchain.errors import ToolchainError

_MAIN_LIST = Path("/etc/apt/sources.list")
_LIST_DIRECTORY = Path("/etc/apt/sources.list.d")
# The C library is the machine's: its loader, which a program names by path, fits no other.
_C_LIBRARY = re.compile(r"^(?:libc6|libc-bin|libgcc-s1|gcc-\d+-base)$")
_LIBRARY = re.compile(r"^(?:lib.*|zlib1g)$")


class Apt:
    """An apt with lists and downloads of its own, for this architecture and perhaps a foreign one.

    :param directory: where it keeps them
    :param foreign: more architectures, in Debian's words
    :raises ToolchainError: there is no apt here
    """

    def __init__(self, directory: Path, *, foreign: Sequence[str]) -> None:
        missing = [program for program in ("apt-get", "apt-cache", "dpkg", "dpkg-deb") if not shutil.which(program)]
        if missing:
            raise ToolchainError(
                f"{', '.join(missing)} not found: the container runtime comes from Debian's packages. Run this on Debian,"
                " or use a profile without Kubernetes (PROFILE=openstack)"
            )
        self._directory = directory
        self._unread = ""
        native = machine.debian_architecture()
        self._architectures = list(dict.fromkeys([native, *foreign]))
        for place in ("state/lists/partial", "cache/archives/partial", "sources"):
            (directory / place).mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()

    def _options(self) -> list[str]:
        options = {
            "APT::Architecture": self._architectures[0],
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "1",
            "Dir::Cache": str(self._directory / "cache"),
            "Dir::Etc::sourcelist": str(_MAIN_LIST if _MAIN_LIST.exists() else "/dev/null"),
            "Dir::Etc::sourceparts": str(self._directory / "sources"),
            "Dir::State": str(self._directory / "state"),
            "Dir::State::lists": str(self._directory / "state" / "lists"),
            # As if nothing were installed: what a package needs is then all that it needs.
            "Dir::State::status": str(self._directory / "status"),
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        # A list is emptied with `#clear` only in a file; the first -o of this form replaces the machine's own.
        return [*words, "-o", f"APT::Architectures={','.join(self._architectures)}"]

    def update(self) -> None:
        """Read the lists of the distribution's own sources; what else the machine takes packages from has no say.

        A mirror may lack one list of many. Whether that matters shows when a package is asked for.
        """
        for source in (*_LIST_DIRECTORY.glob("debian*.sources"), *_LIST_DIRECTORY.glob("ubuntu*.sources")):
            shutil.copy(source, self._directory / "sources")
        try:
            self._run(["apt-get", *self._options(), "--quiet=2", "update"], self._directory)
        except ToolchainError as error:
            self._unread = f" ({error})"

    def libraries(self, package: str) -> list[str]:
        """The packages of shared libraries that a package needs, and those need, less the C library."""
        graph = self._run(["apt-cache", *self._options(), "depends", "--recurse", "--important", package], self._directory)
        needs: dict[str, set[str]] = {}
        current = ""
        for line in graph.splitlines():
            if line.startswith(" "):
                needs[current].add(line.partition(":")[2].strip())
            else:
                current = line.strip()
                needs.setdefault(current, set())
        found: set[str] = set()
        waiting = [package]
        while waiting:
            more = {name for name in needs.get(waiting.pop(), ()) if _LIBRARY.match(name) and not _C_LIBRARY.match(name)}
            waiting += more - found
            found |= more
        return sorted(found)

    def download(self, packages: Sequence[str]) -> Mapping[str, Path]:
        """Download packages, by name, or by ``name:architecture`` for a foreign one.

        :returns: their files
        :raises ToolchainError: one cannot be had
        """
        place = self._directory / "archives"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            self._run(["apt-get", *self._options(), "--quiet=2", "download", *packages], place)
        except ToolchainError as error:
            raise ToolchainError(f"{error}{self._unread}") from error
        found: dict[str, Path] = {}
        for archive in place.glob("*.deb"):
            name, architecture = archive.name.split("_")[0], archive.stem.split("_")[-1]
            found[f"{name}:{architecture}" if f"{name}:{architecture}" in packages else name] = archive
        return found

    @staticmethod
    def _run(words: Sequence[str], directory: Path) -> str:
        try:
            return processes.run(words, directory=directory)
        except processes.ProcessError as error:
            if "No space left" in error.words:
                raise ToolchainError("the disk is full: make room, or choose another disk with PFMOC_CACHE") from error
            told = " ".join(error.words.split()[:60])
            raise ToolchainError(
                f"Debian's packages cannot be had: {told}. Check the network and /etc/apt, then run again"
            ) from error


def version(archive: Path) -> str:
    """The version of a package's file."""
    return processes.run(["dpkg-deb", "--field", str(archive), "Version"]).strip()


def unpack(archive: Path, root: Path, keep: Sequence[str]) -> None:
    """Put the files of a package that match ``keep`` below ``root``."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:
        tree = Path(name, "tree")
        processes.run(["dpkg-deb", "--extract", str(archive), str(tree)])
        for path in dict.fromkeys(path for pattern in keep for path in sorted(tree.glob(pattern))):
            target = root / path.relative_to(tree)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(path, target, follow_symlinks=False)
