#!/usr/bin/env python3
"""Give the cluster's container runtime its images, without a registry.

    images.py [--check] < SPECIFICATION > RESULT

Both are JSON. The specification has

- ``ctr``: the program that speaks to the runtime; ``sandbox``: a file with the process in whose mounts the runtime's socket is;
  ``record``: a file that tells what was loaded from where
- ``made``: images to be made of files of this machine, see ``Recipe``
- ``archives``: tar files with images, as ``docker save``, ``podman save`` or ``ctr images export`` write them

and the result lists under ``loaded`` the images that were given to the runtime, or with ``--check`` would be. What the
runtime still has from the same source is left alone: it is asked by digest.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import oci_layout

# What the runtime is to call an image whose name it does not find, until it has been given its own.
NAMELESS = "archive.invalid/image"


class LoadError(Exception):
    """The runtime did not take an image; the text is for people."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An image of one layer.

    :param reference: its full name with its tag
    :param files: files of this machine by their place in the image
    :param applets: a busybox that runs here; each of its commands becomes a link to ``bin/busybox``
    :param text: contents of small files by their place
    :param directories: places that any user may write to
    :param entrypoint: the program that a container runs when it is told no other
    :param architecture: in Go's spelling; this machine's by default
    """

    reference: str
    files: Mapping[str, str]
    applets: str = ""
    text: Mapping[str, str] = field(default_factory=dict)
    directories: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    architecture: str | None = None

    @property
    def source(self) -> str:
        """What it is made of, in one word. The files' content is known by name, size and time, which costs no reading."""
        stats = [(place, os.stat(file)) for place, file in sorted(self.files.items())]  # noqa: PTH116 - follows links
        identity = [(place, os.path.realpath(self.files[place]), found.st_size, found.st_mtime_ns) for place, found in stats]
        return hashlib.sha256(repr((self, identity)).encode()).hexdigest()

    def write(self, layout: Path, root: Path) -> None:
        """Write the image into ``layout``, by way of an empty directory ``root``."""
        if self.applets:
            listed = subprocess.run([self.applets, "--list"], capture_output=True, text=True, check=True)  # noqa: S603 - ours
            (root / "bin").mkdir()
            for name in sorted(set(listed.stdout.split()) - {"busybox"}):
                (root / "bin" / name).symlink_to("busybox")
        for place, content in self.text.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_text(content)
        for place in self.directories:
            (root / place).mkdir(parents=True, exist_ok=True)
            (root / place).chmod(0o1777)
        oci_layout.add_image(
            oci_layout.Layout(layout),
            self.reference,
            trees={path: path.name for path in sorted(root.iterdir())}
            | {Path(file).resolve(): place for place, file in self.files.items()},
            environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            labels={},
            entrypoint=self.entrypoint,
            architecture=self.architecture,
        )


class Runtime:
    """containerd, as its command ``ctr`` reaches it.

    :param ctr: that command
    :param sandbox: file with the number of a process that sees the runtime's socket
    """

    def __init__(self, ctr: str, sandbox: Path) -> None:
        self._ctr = ctr
        self._sandbox = sandbox

    def images(self) -> dict[str, str]:
        """Digests of the images by name."""
        rows = [line.split() for line in self._run("images", "list").splitlines()[1:]]
        return {row[0]: row[2] for row in rows}

    def load(self, archive: Path) -> dict[str, str]:
        """Load an archive and return the digests of its images by name.

        :raises LoadError: it holds none, or one without a full name
        """
        known = names_in(archive)
        options = [f"--base-name={NAMELESS}", "--all-platforms", *(["--digests"] if known else [])]
        with archive.open("rb") as source:
            said = self._run("images", "import", *options, "-", stdin=source.fileno())
        loaded = dict(re.findall(r"^unpacking (\S+) \((sha256:[0-9a-f]+)\)", said, re.MULTILINE))
        for name, digest in list(loaded.items()):
            if not name.startswith(NAMELESS):
                continue
            del loaded[name]
            if digest in known:
                self._run("images", "tag", "--force", name, known[digest])
                loaded[known[digest]] = digest
            self._run("images", "remove", name)
        if not loaded:
            raise LoadError(f"{archive} holds no image with a full name: save it by its name and tag, such as localhost/tools:1")
        return loaded

    def _run(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> str:
        enter = ["nsenter", f"--target={self._sandbox.read_text()}", "--mount", "--", self._ctr, "--namespace=k8s.io"]
        done = subprocess.run([*enter, *arguments], stdin=stdin, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if done.returncode:
            raise LoadError(f"ctr {' '.join(arguments[:2])} failed: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout


def names_in(archive: Path) -> dict[str, str]:
    """Full names by digest, of images whose name stands where OCI wants a tag, which is how podman writes it.

    containerd takes that for a tag that is wrong and leaves the image out. What it reads itself is not listed.
    """
    with tarfile.open(archive) as tar:
        member = next((each for each in tar if each.name.removeprefix("./") == "index.json"), None)
        source = tar.extractfile(member) if member else None
        entries = json.load(source)["manifests"] if source else []
    found = ((entry["digest"], entry.get("annotations", {})) for entry in entries)
    return {
        digest: notes[oci_layout.REFERENCE]
        for digest, notes in found
        if oci_layout.CONTAINERD_NAME not in notes and "/" in notes.get(oci_layout.REFERENCE, "")
    }


def digest_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def make(recipe: Recipe, archive: Path) -> None:
    """Write the image as a tar file."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        layout, root = Path(scratch, "layout"), Path(scratch, "root")
        root.mkdir()
        recipe.write(layout, root)
        with tarfile.open(archive, "w") as tar:
            tar.add(layout, arcname=".")


def present_in(runtime: Runtime, *, stopped_is_empty: bool) -> dict[str, str]:
    """Digests of the runtime's images by name.

    :raises LoadError: it does not run, and ``stopped_is_empty`` does not excuse that
    """
    try:
        return runtime.images()
    except (LoadError, FileNotFoundError):
        if stopped_is_empty:
            return {}
        raise


def main() -> None:
    """Run the command line."""
    check = "--check" in sys.argv[1:]
    specification = json.load(sys.stdin)
    record_file = Path(specification["record"])
    record: dict[str, dict[str, str]] = json.loads(record_file.read_text()) if record_file.exists() else {}
    runtime = Runtime(specification["ctr"], Path(specification["sandbox"]))
    loaded: list[str] = []
    try:
        present = present_in(runtime, stopped_is_empty=check)
        for entry in [*specification["made"], *specification["archives"]]:
            recipe = Recipe(**entry) if isinstance(entry, dict) else None
            source = recipe.source if recipe else digest_of(Path(entry))
            known = record.get(source, {})
            if known and known.items() <= present.items():
                continue
            if check:
                loaded.append(recipe.reference if recipe else entry)
                continue
            with tempfile.TemporaryDirectory(dir=record_file.parent) as scratch:
                archive = Path(scratch, "image.tar") if recipe else Path(entry)
                if recipe:
                    make(recipe, archive)
                record[source] = runtime.load(archive)
            loaded += record[source]
    except (LoadError, OSError, tarfile.TarError) as error:
        sys.exit(str(error))
    if loaded and not check:
        # What the runtime has lost since is no longer known.
        present = runtime.images()
        record = {source: names for source, names in record.items() if names.items() <= present.items()}
        draft = record_file.with_suffix(".new")
        draft.write_text(json.dumps(record, indent=2))
        draft.replace(record_file)
    print(json.dumps({"loaded": loaded}))


if __name__ == "__main__":
    main()
