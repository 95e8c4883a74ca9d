#!/usr/bin/env python3
"""Measure the box on this machine, and write the figures into docs/reference/box.md.

    measure.py --cache DIRECTORY --profile PROFILE [--cold]

The box is removed and made anew, stopped and started. With --cold it is first made with caches of its own, which are removed
afterwards: everything is downloaded and built again. A figure that is not measured this time stays in the page.
"""
# ruff: noqa: T201 - it tells what it does

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "reference" / "box.md"
COLD = "from nothing to ready, all caches empty"
WARM = "from nothing to ready, the toolchain and the packages there"
TIMES = (COLD, WARM, "`make box` again", "`make box-down`", "`make box` after it")
PARTS = ("box/env", "box/openstack", "box/kubernetes", "box/openshift", "box/log", "openstack", "toolchain", "uv-cache")
MIB = 1 << 20


def make(cache: Path, profile: str, *words: str) -> str:
    """Run `make`; return what it printed.

    :raises subprocess.CalledProcessError: it failed, and has said why
    """
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "UV_CACHE_DIR")
    }
    argv = ["make", "-s", *words]
    environment = {**inherited, "PFMOC_CACHE": str(cache), "PROFILE": profile}
    return subprocess.run(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603 - ours


def timed(cache: Path, profile: str, *words: str) -> float:
    """How many seconds `make` took."""
    began = time.monotonic()
    make(cache, profile, *words)
    seconds = time.monotonic() - began
    print(f"make {' '.join(words)}: {seconds:.1f} s", flush=True)
    return seconds


def cold(cache: Path, profile: str) -> float:
    """How long it takes where there is nothing."""
    directory = Path(tempfile.mkdtemp(prefix="cold-", dir=cache))
    try:
        return timed(directory, profile, "box")
    finally:
        make(directory, profile, "box-clean")
        # Go keeps its modules read-only.
        subprocess.run(["chmod", "-R", "u+w", str(directory)], check=False)  # noqa: S603, S607 - our own directory
        shutil.rmtree(directory)


def disk_mib(path: Path) -> int:
    """What the files below a directory occupy."""
    files = (Path(directory, name).lstat() for directory, _, names in os.walk(path) for name in names)
    seen = {(status.st_dev, status.st_ino): status.st_blocks for status in files}
    return sum(seen.values()) * 512 // MIB


def before(section: str) -> dict[str, str]:
    """The times that the page holds."""
    return dict(re.findall(r"^\| (.+?) \| (\d.*?) s \|$", section, re.MULTILINE))


def machine() -> str:
    """What this was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    linux = platform.release().partition("-")[0]
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, Linux {linux}, Python {platform.python_version()}"


def section(times: Mapping[str, str], rows: Sequence[Mapping[str, object]], disk: Mapping[str, int]) -> str:
    """The page's section."""
    memory = {str(row["service"]): float(str(row["memory"])) for row in rows}
    return "\n".join(
        [
            f"On {machine()}.",
            "",
            "| What | Time |",
            "|---|---|",
            *(f"| {name} | {times[name]} s |" for name in TIMES if name in times),
            "",
            "| Service | Memory in MiB |",
            "|---|---|",
            *(f"| {name} | {size:.0f} |" for name, size in memory.items()),
            f"| all {len(memory)} | {sum(memory.values()):.0f} |",
            "",
            "| Directory below the cache | Disk in MiB |",
            "|---|---|",
            *(f"| `{name}` | {size} |" for name, size in disk.items()),
        ]
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    cache, profile = arguments.cache.absolute(), arguments.profile
    begin, end = f"<!-- measured: {profile} -->\n", f"\n<!-- /measured: {profile} -->"
    head, _, rest = PAGE.read_text().partition(begin)
    old, _, foot = rest.partition(end)
    times = before(old)
    try:
        make(cache, profile, "box-clean")
        if arguments.cold:
            times[COLD] = f"{cold(cache, profile):.0f}"
        for name, words in zip(TIMES[1:], (["box"], ["box"], ["box-down"], ["box"]), strict=True):
            times[name] = f"{timed(cache, profile, *words):.0f}"
        rows = json.loads(make(cache, profile, "box-status", "JSON=1"))
    except subprocess.CalledProcessError as error:
        print(error.stdout, file=sys.stderr)
        return 1
    disk = {name: disk_mib(cache / name) for name in PARTS if (cache / name).exists()}
    PAGE.write_text(f"{head}{begin}{section(times, rows, disk)}{end}{foot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
