"""What a product is: where its version and its sums are pinned, what may come from the machine, how it is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from toolchain import golang, machine, progress, versions
from toolchain.errors import ToolchainError

FILES = Path(__file__).resolve().parent.parent
_SOURCES = FILES / "go"


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a product is to be made.

    :param draft: the empty directory to make it in
    :param place: where that will lie in the end
    :param aside: the cache's root, whose programs are not the machine's
    :param after: a word on what comes after it
    """

    draft: Path
    place: Path
    aside: Path
    workshop: golang.Workshop
    say: progress.Progress
    after: str

    @cached_property
    def go(self) -> golang.Go:
        """The Go to build with, made ready when a product first needs it."""
        return golang.Go.ready(self.workshop, aside=self.aside, say=self.say)


@dataclass(frozen=True, kw_only=True)
class Product:
    """Something that is made, or that the machine has.

    :param name: its name, and that of its directory in the cache
    :param cpu_minutes: what it takes from nothing, measured
    :param disk_mib: room that it needs while it is made
    :param accept: the machine's own programs that are as good, if all of them are there
    :param beside: companions of those, taken from the directories where those lie; they say no version
    :param recipe: raised when a step changes what comes out, and no file that the key is made of does
    """

    name: str
    cpu_minutes: float
    disk_mib: int
    accept: Mapping[str, versions.Range]
    beside: Sequence[str] = ()
    recipe: int = 1

    @property
    def version(self) -> str:
        """Upstream's."""
        raise NotImplementedError

    def pins(self) -> Iterator[tuple[str, bytes]]:
        """What decides what comes out: names and contents."""
        raise NotImplementedError

    def make(self, order: Order) -> Mapping[Path, Path]:
        """Make it in the draft.

        :returns: the machine's own programs that it needs: links in the draft to what they lead to
        :raises ToolchainError: it cannot be made
        """
        raise NotImplementedError

    def complete(self, order: Order) -> None:
        """Add to the machine's own programs what those do not bring along."""

    @property
    def platform(self) -> str:
        """What a product is made for."""
        return f"linux-{machine.go_architecture()}"

    @property
    def key(self) -> str:
        """Digest of pins and platform: another key, another product."""
        digest = hashlib.sha256(repr((self.name, self.recipe, self.platform)).encode())
        for name, content in self.pins():
            digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:16]

    def find(self, aside: Path) -> Mapping[str, machine.Program]:
        """The machine's own programs; empty unless all of them are there and good enough."""
        found: dict[str, machine.Program] = {}
        for name, accepted in self.accept.items():
            program = machine.find(name, accepted, aside=aside)
            if program is None:
                return {}
            found[name] = program
        directories = list(dict.fromkeys(program.path.parent for program in found.values()))
        directories += list(dict.fromkeys(program.path.resolve().parent for program in found.values()))
        for name in self.beside:
            path = machine.find_beside(name, directories)
            if path is None:
                return {}
            found[name] = machine.Program(path=path, version="")
        return found


@dataclass(frozen=True, kw_only=True)
class Module:
    """A main module among the role's files, whose go.mod and go.sum pin everything that is linked.

    :param directory: below files/go
    :param programs: program to package
    :param pinned: the required module whose version the programs have; a release where that version is a pseudo-version
    :param ldflags: more for the linker; ``{version}`` stands for the version without its v
    """

    directory: str
    programs: Mapping[str, str]
    pinned: str
    release: str = ""
    ldflags: str = ""

    @property
    def source(self) -> Path:
        """Where its files are."""
        return _SOURCES / self.directory

    @cached_property
    def version(self) -> str:
        """The version of the programs, without its v.

        :raises ToolchainError: go.mod does not require the module
        """
        return self.release or self.required(self.pinned)

    def required(self, module: str) -> str:
        """The version, without its v, at which go.mod requires a module."""
        for line in (self.source / "go.mod").read_text().splitlines():
            words = line.removeprefix("require ").split()
            if words[:1] == [module] and words[1:2] != ["=>"]:
                return words[1].removeprefix("v")
        raise ToolchainError(f"{self.source}/go.mod does not require {module}")

    @property
    def linking(self) -> str:
        """Flags for the linker: without symbols, which are two fifths of a program."""
        return f"-s -w {self.ldflags.format(version=self.version)}".strip()


@dataclass(frozen=True, kw_only=True)
class GoProduct(Product):
    """A product that is built from Go modules.

    :param modules: the first one's version is the product's
    """

    modules: Sequence[Module]

    @property
    def version(self) -> str:
        """As go.mod pins it."""
        return self.modules[0].version

    def pins(self) -> Iterator[tuple[str, bytes]]:
        """The modules' files, and the flags."""
        for module in self.modules:
            for file in sorted(path for path in module.source.rglob("*") if path.is_file()):
                yield str(file.relative_to(_SOURCES)), file.read_bytes()
            yield f"{module.directory} flags", json.dumps([module.linking, dict(module.programs)]).encode()

    def make(self, order: Order) -> Mapping[Path, Path]:
        """Build each module's programs, in a copy of its sources."""
        (order.draft / "bin").mkdir()
        for number, module in enumerate(self.modules):
            source = order.workshop.directory / "work" / module.directory
            copy_tree(module.source, source)
            self.prepare(order, module, source)
            share = self.cpu_minutes if number == 0 else 0.0
            self.build(
                order, module, source, {order.draft / "bin" / name: package for name, package in module.programs.items()}, share
            )
        self.complete(order)
        return {}

    def build(self, order: Order, module: Module, source: Path, outputs: Mapping[Path, str], cpu_minutes: float) -> None:
        """Build some of a module's packages."""
        build = golang.Build(name=self.name, ldflags=module.linking, cpu_minutes=cpu_minutes, after=order.after, say=order.say)
        order.go.build(source, outputs, build)

    def prepare(self, order: Order, module: Module, source: Path) -> None:
        """Add to the sources what is generated."""

    def source(self, order: Order, module: Module) -> Path:
        """A copy of a module's sources to look modules up in."""
        source = order.workshop.directory / "work" / module.directory
        if not (source / "go.mod").exists():
            copy_tree(module.source, source)
        return source


def copy_tree(origin: Path, target: Path) -> None:
    """Copy files into a directory that may be there, and let them be written; what is read-only in Go's cache stays so there."""
    for path in origin.rglob("*"):
        copy = target / path.relative_to(origin)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
