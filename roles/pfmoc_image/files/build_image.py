#!/usr/bin/env python3
"""Make the image of the daemon and the mover, as an OCI archive.

    build_image.py [--check] < SPECIFICATION > RESULT

Both are JSON; see ``Specification`` and ``main``. The lowest layer is Debian with its Python and is given; above it lie the
packages that uv.lock names, and the daemon's source. What is there already, made from the same things, is left alone. Equal
things give an equal digest, wherever and whenever they are made.

It runs as any user id, with group 0 and a root that cannot be written: all files are everybody's to read, bytecode is made here,
and nothing is looked for in a home.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import compileall
import contextlib
import hashlib
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import oci_layout
from packaging.markers import Marker

HERE = Path(__file__).resolve().parent
LABEL = "org.chrisproject.pfmoc.content"
USER = "1001:0"
"""Whoever runs it: a number, so that Kubernetes sees that it is not root. OpenShift gives another."""
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    # The one place that may be written, where a pod mounts it.
    "HOME": "/tmp",  # noqa: S108 - in the image
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "SSL_CERT_FILE": f"/{CERTIFICATES}",
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""What the kernel, and with it Python and its wheels, calls an architecture where Go calls it otherwise."""
OLDEST_GLIBC, NEWEST_GLIBC = 17, 36
"""Wheels are for the C library 2.17 (manylinux2014) or later, up to that of Debian 12."""
EPOCH = 0


class BuildError(Exception):
    """A step of the recipe failed; the text is for people."""


@dataclass(frozen=True, kw_only=True)
class Specification:
    """What to make, and from what.

    :param directory: where the archive and the packages' layers go
    :param source: directory of the repository
    :param uv: the uv that reads its lock
    :param reference: full name of the image with its tag
    :param bases: by architecture in Go's spelling, the tar file that is the lowest layer
    """

    directory: Path
    source: Path
    uv: str
    reference: str
    bases: Mapping[str, Path]

    @property
    def archive(self) -> Path:
        """The image."""
        return self.directory / f"pfmoc-{'-'.join(self.bases)}.tar"

    @property
    def record(self) -> Path:
        """What the archive was made from, and its digest."""
        return self.archive.with_suffix(".json")

    @cached_property
    def lock(self) -> str:
        """The packages that the daemon needs, as pip reads them."""
        words = ["export", "--quiet", "--frozen", "--no-header", "--no-annotate", "--no-emit-project", "--group", "image"]
        return run([self.uv, *words], cwd=self.source)

    @property
    def modules(self) -> list[Path]:
        """The daemon's source."""
        return sorted(path for path in (self.source / "daemon").rglob("*.py") if "__pycache__" not in path.parts)

    @cached_property
    def content(self) -> str:
        """Digest of all that the image is made of."""
        root = self.source / "daemon"
        things = [self.reference, self.lock, *((name, base.name) for name, base in self.bases.items())]
        recipe = [(path.name, path.read_text()) for path in (Path(__file__), Path(oci_layout.__file__))]
        source = [(str(path.relative_to(root)), path.read_text()) for path in self.modules]
        return digest(things, recipe, source)


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One architecture of the image.

    :param architecture: in Go's spelling
    :param base: its Debian
    """

    architecture: str
    base: Path
    specification: Specification

    @cached_property
    def python(self) -> str:
        """Version of its Python, such as ``3.11``."""
        with tarfile.open(self.base) as tar:
            found = (re.search(r"/usr/bin/python(3[.]\d+)$", name) for name in tar.getnames())
            version = next((match[1] for match in found if match), None)
        if version is None:
            raise BuildError(f"there is no Python in {self.base}")
        return version

    @property
    def library(self) -> str:
        """Where its Python looks for packages that are not Debian's."""
        return f"usr/local/lib/python{self.python}/dist-packages"

    @property
    def machine(self) -> str:
        """The architecture as Python calls it."""
        return MACHINES.get(self.architecture, self.architecture)

    @cached_property
    def requirements(self) -> str:
        """What of the lock is for this architecture. pip would ask the machine that it runs on."""
        about = {"platform_machine": self.machine, "python_version": self.python, "python_full_version": f"{self.python}.0"}
        kept = []
        for line in re.sub(r"\\\n\s*", "", self.specification.lock).splitlines():
            named, hashes, rest = line.partition(" --hash=")
            package, condition, marker = named.partition(" ; ")
            if not condition or Marker(marker).evaluate(about):
                kept.append(package + hashes + rest)
        return "\n".join(kept)

    @property
    def packages(self) -> Path:
        """The layer of packages."""
        name = digest([self.requirements, self.base.name], Path(__file__).read_text(), Path(oci_layout.__file__).read_text())
        return self.specification.directory / f"packages-{self.architecture}-{name[:12]}.tar"

    def make_packages(self) -> None:
        """Install the packages into a directory, from wheels only: no code of theirs runs, so any architecture will do."""
        with scratch(self.specification.directory) as root:
            wanted = root / "requirements.txt"
            wanted.write_text(self.requirements)
            target = root / "tree" / self.library
            words = ["install", "--quiet", "--no-cache-dir", "--no-deps", "--require-hashes", "--only-binary=:all:"]
            words += ["--no-compile", f"--target={target}", f"--requirement={wanted}", f"--python-version={self.python}"]
            libraries = ["manylinux2014", *(f"manylinux_2_{minor}" for minor in range(OLDEST_GLIBC, NEWEST_GLIBC + 1))]
            words += ["--implementation=cp", *(f"--platform={library}_{self.machine}" for library in libraries)]
            run([sys.executable, "-m", "pip", *words], cwd=root)
            shutil.rmtree(target / "bin", ignore_errors=True)
            certificates = root / "tree" / CERTIFICATES
            certificates.parent.mkdir(parents=True)
            shutil.copy(target / "certifi" / "cacert.pem", certificates)
            settle(root / "tree", self.python)
            draft = root / "layer.tar"
            with draft.open("wb") as sink:
                oci_layout.pack({path: path.name for path in sorted((root / "tree").iterdir())}, sink)
            draft.replace(self.packages)

    def add_to(self, layout: oci_layout.Layout) -> oci_layout.Json:
        """Write this architecture's image and return its descriptor."""
        if not self.packages.exists():
            self.make_packages()
        with scratch(self.specification.directory) as root:
            for module in self.specification.modules:
                place = root / self.library / module.relative_to(self.specification.source / "daemon")
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(module, place)
            settle(root, self.python)
            return oci_layout.write_image(
                layout,
                bases=[self.base, self.packages],
                trees={path: path.name for path in sorted(root.iterdir())},
                environment=ENVIRONMENT,
                labels={LABEL: self.specification.content},
                entrypoint=["python3", "-m", "pfmoc"],
                architecture=self.architecture,
                user=USER,
            )


def settle(tree: Path, python: str) -> None:
    """Compile what is Python, and take away what tells when and where it was done."""
    if python == f"{sys.version_info[0]}.{sys.version_info[1]}":
        # Where this Python is another one, the image's own compiles at each start.
        with contextlib.redirect_stdout(sys.stderr):
            compileall.compile_dir(
                tree, quiet=2, stripdir=tree, prependdir="/", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH, EPOCH))


@contextlib.contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A directory that is gone afterwards, on the same disk as what is made."""
    with tempfile.TemporaryDirectory(dir=directory) as made:
        yield Path(made)


def digest(*things: object) -> str:
    """The SHA-256 of what things say of themselves."""
    return hashlib.sha256(repr(things).encode()).hexdigest()


def run(command: Sequence[str], *, cwd: Path) -> str:
    """Run a command and return what it says; its last words are ours when it fails."""
    # uv would otherwise report on the virtual environment that it finds itself in.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode:
        raise BuildError(f"{' '.join(command[:4])} failed with status {done.returncode}:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def build(specification: Specification) -> dict[str, str]:
    """Make the archive and return what is to be recorded of it."""
    specification.directory.mkdir(parents=True, exist_ok=True)
    bases = specification.bases.items()
    platforms = [Platform(architecture=name, base=base, specification=specification) for name, base in bases]
    with scratch(specification.directory) as root:
        layout = oci_layout.Layout(root / "layout")
        images = [platform.add_to(layout) for platform in platforms]
        image = images[0] if len(images) == 1 else oci_layout.write_index(layout, images)
        pinned = f"{specification.reference.rpartition(':')[0]}@{image['digest']}"
        # By digest too: what a Deployment names, so that the image of before is still there to go back to.
        for name in (specification.reference, pinned):
            layout.tag(name, image)
        draft = root / "archive.tar"
        with tarfile.open(draft, "w") as tar:
            tar.add(root / "layout", arcname=".")
        draft.replace(specification.archive)
    discard(specification.directory, keep={platform.packages for platform in platforms})
    return {"content": specification.content, "digest": str(image["digest"]), "pinned": pinned}


def discard(directory: Path, *, keep: Iterable[Path]) -> None:
    """Remove layers of architectures in ``keep`` that nothing is made of any more."""
    kept = set(keep)
    for layer in kept:
        pattern = f"{layer.name.rpartition('-')[0]}-*.tar"
        for old in set(directory.glob(pattern)) - kept:
            old.unlink()


def main() -> None:
    """Read the specification, make what is missing, and write what was made and what it is."""
    document = json.load(sys.stdin)
    specification = Specification(
        directory=Path(document["directory"]),
        source=Path(document["source"]),
        uv=document["uv"],
        reference=document["reference"],
        bases={name: Path(base) for name, base in document["bases"].items()},
    )
    check = "--check" in sys.argv[1:]
    record: dict[str, str] = {}
    try:
        if specification.record.exists() and specification.archive.exists():
            record = json.loads(specification.record.read_text())
        stale = record.get("content") != specification.content
        if stale and not check:
            record = build(specification)
            draft = specification.record.with_suffix(".new")
            draft.write_text(json.dumps(record, indent=2))
            draft.replace(specification.record)
    except (BuildError, OSError, tarfile.TarError) as error:
        sys.exit(str(error))
    made = [specification.reference] if stale else []
    known = {key: record.get(key, "") for key in ("digest", "pinned")}
    print(json.dumps({"made": made, "archive": str(specification.archive), **known}))


if __name__ == "__main__":
    main()
