"""Where products lie: ``<root>/<product>/<key>/``, whole or not at all, and stable names for the ones in use."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from toolchain.progress import Progress

_MANIFEST = "product.json"
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Made:
    """What is known of a product that is there.

    :param action: ``built``, or ``linked`` where nothing but links to the machine's own programs is there
    :param version: upstream's
    :param seconds: how long it took
    :param mib: how much room it takes
    :param machine: the machine's own programs that are linked to: path to size and time of change
    """

    action: str
    version: str
    seconds: float
    mib: float
    machine: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def identity(path: Path) -> tuple[int, int]:
    """What changes when a program of the machine is replaced."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def mib(directory: Path) -> float:
    """Room that a directory's files take; a file with two names counts once, what links lead to does not."""
    sizes: dict[int, int] = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            status = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - a hundred thousand files
            sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values()) / _MIB


def remove(directory: Path) -> None:
    """Remove a tree; Go keeps the directories of its module cache read-only."""
    if not directory.exists():
        return
    for parent, names, _ in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - a hundred thousand files
            if not os.path.islink(path):  # noqa: PTH114
                os.chmod(path, 0o700)  # noqa: PTH101
    shutil.rmtree(directory)


class Cache:
    """The products of all checkouts.

    :param root: the directory
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.programs = root / "bin"
        self.current = root / "current"

    @contextlib.contextmanager
    def locked(self, progress: Progress) -> Iterator[None]:
        """Alone, as long as this process lives: of two builds the second waits, and then finds the work done."""
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
                progress.say(f"waiting for another build of the toolchain, process {holder or 'unknown'}")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def directory(self, product: str, key: str) -> Path:
        """Where a product lies, or would."""
        return self.root / product / key

    def made(self, product: str, key: str) -> Made | None:
        """What is there; None also if it links to a program of the machine that has changed or is gone."""
        try:
            document = json.loads((self.directory(product, key) / _MANIFEST).read_text())
            made = Made(**document)
            unchanged = all(identity(Path(path)) == tuple(was) for path, was in made.machine.items())
        except (OSError, ValueError, TypeError):
            return None
        return made if unchanged else None

    @contextlib.contextmanager
    def draft(self, product: str) -> Iterator[Path]:
        """An empty directory to make a product in. What earlier attempts left is removed; the caller holds the lock."""
        home = self.root / product
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob(".new-*"):
            remove(left)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
        draft.chmod(0o755)
        try:
            yield draft
        finally:
            remove(draft)

    def keep(self, draft: Path, product: str, key: str, made: Made) -> None:
        """Put a finished draft in its place: what is there is whole."""
        (draft / _MANIFEST).write_text(json.dumps(asdict(made), indent=1) + "\n")
        place = self.directory(product, key)
        if place.exists():
            place.rename(draft.with_name(f"{draft.name}.old"))
        draft.rename(place)
        remove(draft.with_name(f"{draft.name}.old"))

    def stable_names(self, product: str, key: str) -> Mapping[Path, str]:
        """Links that lead to a product, and where: ``current/<product>``, and ``bin/<program>`` for what is in its bin/."""
        names = {self.current / product: f"../{product}/{key}"}
        if product not in _OFF_PATH:
            programs = sorted(path.name for path in (self.directory(product, key) / "bin").glob("*"))
            names |= {self.programs / name: f"../current/{product}/bin/{name}" for name in programs}
        return names

    def has_names(self, product: str, key: str) -> bool:
        """True if the stable names lead to this product."""
        return all(link.is_symlink() and str(link.readlink()) == to for link, to in self.stable_names(product, key).items())

    def give_names(self, product: str, key: str) -> None:
        """Make the stable names lead to this product; each changes at once."""
        for link, to in self.stable_names(product, key).items():
            link.parent.mkdir(exist_ok=True)
            draft = link.with_name(f".{link.name}.new")
            draft.unlink(missing_ok=True)
            draft.symlink_to(to)
            draft.replace(link)


# The engine warns of plugins that it finds on PATH; these are installed into its home.
_OFF_PATH = ("pulumi_kubernetes", "pulumi_openstack")
