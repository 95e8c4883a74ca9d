#!/usr/bin/env python3
"""Make ChRIS plugins: directories that hold a tool from PyPI and its entry point, and images made of them.

    build_plugins.py [--check] < SPECIFICATION > RESULT

Both are JSON; see ``Specification`` and ``main``. What is there already, made from the same recipe, is left alone. The file
``progress`` in the specification's directory tells how far it is.
Standard library only.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import oci_layout

HERE = Path(__file__).resolve().parent
LABEL = "org.chrisproject.pfmoc.content"
ROOT = "/opt/plugin"


class BuildError(Exception):
    """A step of the recipe failed; the text is for people."""


class Progress:
    """Tells people how far the work is: the last line of a file, which Ansible shows while it waits.

    :param file: started anew with the first news
    :param steps: how many there are in all
    """

    def __init__(self, file: Path, steps: int) -> None:
        self._file = file
        self._steps = steps
        self._begun = 0
        self._lock = threading.Lock()

    def begin(self, step: str) -> None:
        """Say that a step begins; any thread may."""
        with self._lock:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a" if self._begun else "w") as file:
                self._begun += 1
                file.write(f"step {self._begun} of {self._steps}: {step}\n")


@dataclass(frozen=True, kw_only=True)
class Specification:
    """What to make, and from what.

    :param directory: everything is made below it
    :param registry: what the images' names begin with
    :param uv: the uv to install with
    :param python: path of the interpreter that plugins run with, where there are no images; an image has its own
    :param base: tar of the images' lower layer; without it there are no images, and the directories are the plugins
    :param engine: who gets the images: ``podman``, or ``archive``, which is a tar file for each; ``none`` without images
    """

    directory: Path
    registry: str
    uv: str
    python: str
    base: Path | None
    engine: str

    @cached_property
    def target(self) -> list[str]:
        """What to tell uv about the interpreter."""
        if not self.base:
            return ["--python", self.python]
        with tarfile.open(self.base) as tar:
            found = (re.search(r"/usr/bin/python(3[.]\d+)$", name) for name in tar.getnames())
            version = next((match[1] for match in found if match), None)
        if version is None:
            raise BuildError(f"there is no Python in {self.base}")
        return ["--python-version", version]


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One plugin.

    :param name: its directory beside this file, which holds ``requirements.txt`` and ``<entrypoint>.py``
    :param version: the tag of its image
    :param entrypoint: the program that ChRIS calls
    :param module: the tool's main module
    """

    name: str
    version: str
    entrypoint: str
    module: str
    specification: Specification

    @property
    def reference(self) -> str:
        """The full name of its image."""
        return f"{self.specification.registry}/{self.name}:{self.version}"

    @cached_property
    def content(self) -> str:
        """Digest of the whole recipe."""
        digest = hashlib.sha256()
        source = HERE / self.name
        for file in (*sorted(HERE.glob("*.py")), source / "requirements.txt", source / f"{self.entrypoint}.py"):
            digest.update(file.read_bytes())
        base = self.specification.base and self.specification.base.name
        digest.update(repr((self.reference, self.entrypoint, self.module, self.specification.python, base)).encode())
        return digest.hexdigest()

    @property
    def tree(self) -> Path:
        """The directory: the ``process`` compute environment finds it by the image's name and tag."""
        kind = "trees" if self.specification.base else "images"
        return self.specification.directory / kind / self.reference.replace(":", "/")

    @property
    def archive(self) -> Path:
        """The image as a tar file, for the engine ``archive``."""
        return self.specification.directory / "archives" / f"{self.name}-{self.version}.tar"

    def present(self) -> bool:
        """True if it is there, made from this recipe."""
        if self.specification.engine == "archive":
            stamp = self.archive.with_suffix(".content")
            return self.archive.exists() and stamp.is_file() and stamp.read_text() == self.content
        if not self.specification.base:
            stamp = self.tree / "content"
            return stamp.is_file() and stamp.read_text() == self.content
        template = f'{{{{ index .Labels "{LABEL}" }}}}'
        image = ["podman", "image", "inspect", "--format", template, self.reference]
        done = subprocess.run(image, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, our own words
        return done.returncode == 0 and done.stdout.strip() == self.content

    def build_tree(self, progress: Progress) -> None:
        """Install the packages and the entry point, beside the destination, and rename: never half-made.

        The tool is imported once. That proves that the locked packages fit each other, and leaves compiled what every
        job would else compile again in its throw-away container.
        """
        progress.begin(f"{self.name}: install its packages")
        draft = self.tree.with_name(f".{self.tree.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        binaries = draft / "bin"
        binaries.mkdir(parents=True)
        install = [self.specification.uv, "pip", "install", "--quiet", *self.specification.target]
        # No dependencies: the lock names them all, less what excluded.txt leaves out.
        install += ["--no-deps", "--require-hashes", "--requirement", str(HERE / self.name / "requirements.txt")]
        run([*install, "--target", str(draft / "lib")])
        shutil.copy(HERE / "adapter.py", binaries)
        shutil.copy(HERE / self.name / f"{self.entrypoint}.py", binaries / self.entrypoint)
        (binaries / self.entrypoint).chmod(0o755)
        progress.begin(f"{self.name}: import it once")
        run([sys.executable, str(binaries / "adapter.py"), self.module])
        if not self.specification.base:
            (binaries / "python3").symlink_to(self.specification.python)
        (draft / "content").write_text(self.content)
        shutil.rmtree(self.tree, ignore_errors=True)
        draft.rename(self.tree)

    def build_image(self, layout: Path, progress: Progress) -> None:
        """Add the image to the layout and give it to the engine."""
        progress.begin(f"{self.name}: make its image")
        oci_layout.add_image(
            oci_layout.Layout(layout),
            self.reference,
            bases=[self.specification.base] if self.specification.base else [],
            trees={self.tree: ROOT},
            environment={"PATH": f"{ROOT}/bin:/usr/bin:/bin", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"},  # noqa: S108 - in the image
            labels={LABEL: self.content},
        )
        if self.specification.engine == "archive":
            self._keep(layout)
            return
        # podman names what it takes from a layout after the layout.
        image = run(["podman", "pull", "--quiet", f"oci:{layout.name}:{self.reference}"], cwd=layout.parent).strip()
        run(["podman", "tag", image, self.reference])
        run(["podman", "untag", image, f"localhost/{layout.name}:latest"])

    def _keep(self, layout: Path) -> None:
        """Make the layout the archive; the stamp comes last."""
        self.archive.parent.mkdir(exist_ok=True)
        draft = self.archive.with_suffix(".new")
        with tarfile.open(draft, "w") as tar:
            tar.add(layout, arcname=".")
        draft.replace(self.archive)
        self.archive.with_suffix(".content").write_text(self.content)


def run(command: Sequence[str], cwd: Path | None = None) -> str:
    """Run a command and return what it says; its last words are ours when it fails."""
    # uv would otherwise report on the virtual environment that it finds itself in.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode:
        last_words = (done.stderr or done.stdout).strip()
        raise BuildError(f"{' '.join(command[:3])} failed with status {done.returncode}:\n{last_words}")
    return done.stdout


def build(specification: Specification, plugins: Sequence[Plugin]) -> None:
    """Make the plugins, two at a time: half of the work is waiting for the network and the disk."""
    progress = Progress(specification.directory / "progress", len(plugins) * (3 if specification.base else 2))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda plugin: plugin.build_tree(progress), plugins))
    if specification.base:
        layout = specification.directory / "layout"
        shutil.rmtree(layout, ignore_errors=True)
        for plugin in plugins:
            plugin.build_image(layout, progress)
            if specification.engine == "archive":
                # Each archive holds one image.
                shutil.rmtree(layout)
        # The engine has it all now.
        shutil.rmtree(layout, ignore_errors=True)
        shutil.rmtree(specification.directory / "trees")


def main() -> None:
    """Read the specification, make what is missing, and write what was made and what was there."""
    document: dict[str, Any] = json.load(sys.stdin)
    base = document["base"] and Path(document["base"])
    specification = Specification(
        directory=Path(document["directory"]),
        registry=document["registry"],
        uv=document["uv"],
        python=document["python"],
        base=base or None,
        engine=document["engine"],
    )
    plugins = [Plugin(specification=specification, **plugin) for plugin in document["plugins"]]
    missing = [plugin for plugin in plugins if not plugin.present()]
    if missing and "--check" not in sys.argv:
        try:
            build(specification, missing)
        except (BuildError, OSError) as error:
            sys.exit(str(error))
    archives = [str(p.archive) for p in plugins] if specification.engine == "archive" else []
    present = [p.reference for p in plugins if p not in missing]
    print(json.dumps({"built": [p.reference for p in missing], "present": present, "archives": archives}))


if __name__ == "__main__":
    main()
