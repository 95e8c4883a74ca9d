"""What the plugins' entry points share: their packages on the path, a place to write, and the tool run in-process.

An image, or a directory in its place, holds ``bin/`` (the entry point and this file) and ``lib/`` (the packages).
"""
# ruff: noqa: INP001, T201 - it lies beside programs and speaks for them

from __future__ import annotations

import atexit
import importlib
import os
import runpy
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "lib"
# What matplotlib finds out about fonts on its first run, in 2 s.
SEED = ROOT / "home"


def prepare() -> None:
    """Make the plugin's packages importable and give them a home that they can write to."""
    sys.path.insert(0, str(LIB))
    # A job runs as an arbitrary user, perhaps with a read-only root: matplotlib and pudb write to HOME on import.
    home = tempfile.mkdtemp(prefix="plugin-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    if SEED.is_dir():
        shutil.copytree(SEED, home, dirs_exist_ok=True)
    os.environ.update(HOME=home, MPLCONFIGDIR=home, XDG_CONFIG_HOME=home, MPLBACKEND="Agg")


def split(argv: Sequence[str], usage: str) -> tuple[list[str], Path, Path]:
    """Part a ChRIS command line, whose last two words are always the directories, into options and those two."""
    if "--help" in argv or "-h" in argv:
        print(usage)
        sys.exit(0)
    if len(argv) < 2:
        sys.exit(f"usage: {usage}\nthe input and the output directory are missing")
    *options, inputdir, outputdir = argv
    for directory in (inputdir, outputdir):
        if not Path(directory).is_dir():
            sys.exit(f"usage: {usage}\n{directory!r} is not a directory")
    return options, Path(inputdir), Path(outputdir)


def run_script(name: str, argv: Sequence[str]) -> int:
    """Run the tool's own console script with ``argv`` and return its exit status."""
    return _status(lambda: runpy.run_path(str(LIB / "bin" / name), run_name="__main__"), name, argv)


def run_module(name: str, argv: Sequence[str]) -> int:
    """Run a module of the tool as ``python -m`` would, with ``argv``, and return its exit status."""
    return _status(lambda: runpy.run_module(name, run_name="__main__", alter_sys=True), name, argv)


def _status(run: Callable[[], object], name: str, argv: Sequence[str]) -> int:
    """Exit status as the shell would see it: tools end by sys.exit, by returning or by an exception."""
    sys.argv = [name, *argv]
    try:
        run()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:  # noqa: BLE001 - a tool's crash is its result here, not ours
        traceback.print_exc()
        return 1
    return 0


def _try(module: str) -> None:
    """Import the tool once, while the plugin is built, and keep what its packages leave in their home."""
    prepare()
    importlib.import_module(module)
    shutil.copytree(os.environ["HOME"], SEED)


if __name__ == "__main__":
    _try(sys.argv[1])
