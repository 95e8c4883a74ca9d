"""Debian packages, unpacked beside the system: what runs containers and what routes between networks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolchain import debian, machine, products, versions
from toolchain.errors import ToolchainError

_PLUGINS = "usr/lib/cni"
# Where the loader looks; what lies deeper is loaded by its path, and nothing here does that.
_LIBRARY_FILES = ("lib/*-linux-*/*.so*", "usr/lib/*-linux-*/*.so*")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A Debian package.

    :param name: Debian's
    :param programs: what is wanted of it, by name, and where it lies in the package
    :param accept: versions of the machine's own first program that are as good; without it the package is always unpacked
    :param files: more that is kept, as patterns
    :param shared: its programs need shared libraries, which are unpacked too
    :param architecture: Debian's name of an architecture, where it is not the machine's
    """

    name: str
    programs: Mapping[str, str]
    accept: versions.Range | None = None
    files: Sequence[str] = ()
    shared: bool = False
    architecture: str = ""

    @property
    def reference(self) -> str:
        """What apt calls it."""
        return f"{self.name}:{self.architecture}" if self.foreign else self.name

    @property
    def foreign(self) -> bool:
        """True if it is for another architecture than the machine's."""
        return self.architecture not in {"", machine.debian_architecture()}


@dataclass(frozen=True, kw_only=True)
class Runtime(products.Product):
    """The packages, as one product: each program under ``bin/``, CNI plugins under ``cni/``.

    :param packages: the first one's version is the product's
    """

    packages: Sequence[Package]
    accept: Mapping[str, versions.Range]

    @property
    def version(self) -> str:
        """That of the release: which packages it has changes with its updates."""
        return machine.debian_release()

    @property
    def platform(self) -> str:
        """Debian's packages fit their release."""
        return f"{machine.debian_release()}-{machine.debian_architecture()}"

    def pins(self) -> Iterator[tuple[str, bytes]]:
        """What is wanted; apt verifies what is got."""
        yield "packages", repr(self.packages).encode()

    def make(self, order: products.Order) -> Mapping[Path, Path]:
        """Link what the machine has, unpack the others."""
        programs = order.draft / "bin"
        programs.mkdir()
        linked: dict[Path, Path] = {}
        unpacked: list[Package] = []
        for package in self.packages:
            found = self._on_machine(package, order.aside)
            linked |= {programs / name: path for name, path in found.items()}
            if not found:
                unpacked.append(package)
        if unpacked:
            self._unpack(unpacked, order)
        return linked

    def _on_machine(self, package: Package, aside: Path) -> Mapping[str, Path]:
        if package.accept is None:
            return {}
        first, *others = package.programs
        program = machine.find(first, package.accept, aside=aside)
        if program is None:
            return {}
        found = {first: program.path}
        for name in others:
            path = machine.find_beside(name, [program.path.parent])
            if path is None:
                return {}
            found[name] = path
        return found

    def _unpack(self, packages: Sequence[Package], order: products.Order) -> None:
        apt = debian.Apt(order.workshop.directory / "apt", foreign=sorted({p.architecture for p in packages if p.foreign}))
        order.say.say(f"{self.name}: reading Debian's lists of packages{order.after}")
        apt.update()
        libraries = sorted({library for package in packages if package.shared for library in apt.libraries(package.name)})
        order.say.say(f"{self.name}: downloading {len(packages) + len(libraries)} packages{order.after}")
        archives = apt.download(list(dict.fromkeys([*(package.reference for package in packages), *libraries])))
        for library in libraries:
            debian.unpack(archives[library], order.draft / "root", _LIBRARY_FILES)
        for package in packages:
            root = order.draft / (package.architecture if package.foreign else "root")
            debian.unpack(archives[package.reference], root, [*package.programs.values(), *package.files])
            for name, path in package.programs.items():
                self._name(order, package, name, root / path)
        if (order.draft / "root" / _PLUGINS).is_dir():
            (order.draft / "cni").symlink_to(f"root/{_PLUGINS}")
        recorded = {reference: debian.version(archive) for reference, archive in sorted(archives.items())}
        (order.draft / "packages.json").write_text(json.dumps(recorded, indent=1) + "\n")

    def _name(self, order: products.Order, package: Package, name: str, path: Path) -> None:
        """Give a program its name in bin/: a link, or a wrapper that tells it where its libraries are."""
        if not path.is_file():
            raise ToolchainError(f"Debian's package {package.name} has no {path.name} at {path}; mend pins.py")
        entry = order.draft / "bin" / name
        within = path.relative_to(order.draft)
        if not package.shared:
            entry.symlink_to(f"../{within}")
            return
        root = order.draft / "root"
        libraries = [library for pattern in _LIBRARY_FILES for library in root.glob(pattern)]
        places = sorted({library.parent.relative_to(order.draft) for library in libraries})
        search = ":".join(str(order.place / place) for place in places)
        entry.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={search} exec {order.place / within} "$@"\n')
        entry.chmod(0o755)
