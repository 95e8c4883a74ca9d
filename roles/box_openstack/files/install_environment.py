#!/usr/bin/env python3
"""Install OpenStack from a lock into a directory that is named after what is in it.

    install_environment.py < SPECIFICATION > RESULT

Both are JSON. SPECIFICATION: ``lock`` (file), ``directory`` (the environment is made in it), ``uv``, ``python``, ``progress``
(file whose last line says how far it is) and ``check``. RESULT: ``changed``, ``path`` of the environment, ``lock`` (its digest).
An environment is whole or not there: it is made beside its place and renamed. Standard library only.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 13)
# What it took on two cores, for the estimate: downloads included, and with a warm cache of uv.
USUAL_S = "40 to 120 s"
POLL_S = 0.5


class InstallError(Exception):
    """It cannot be installed; the text names the cause and, where there is one, the fix."""


def key_of(lock: Path, python: str) -> tuple[str, str]:
    """The digest of the lock, and the name of an environment made from it: lock, interpreter and platform."""
    asked = [python, "-I", "-c", "import sys; print(*sys.version_info[:3]); print(sys.implementation.name, sys.base_prefix)"]
    version, base = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
    series = tuple(int(number) for number in version.split()[:2])
    if not OLDEST_PYTHON <= series <= NEWEST_PYTHON:
        supported = " to ".join(".".join(map(str, limit)) for limit in (OLDEST_PYTHON, NEWEST_PYTHON))
        raise InstallError(f"this release of OpenStack runs on Python {supported}, and {python} is {version.replace(' ', '.')}")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    key = hashlib.sha256(f"{digest} {version} {base} {platform.machine()} {platform.libc_ver()}".encode()).hexdigest()
    return digest[:16], key[:16]


def install(specification: dict[str, Any], target: Path) -> None:
    """Make the environment at ``target``. Others that want the same one wait, and then find it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return
        # What an interrupted run has left. Nobody else is at work: we hold the lock.
        for remains in target.parent.glob(".new-*"):
            shutil.rmtree(remains)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        draft.chmod(0o755)
        uv = specification["uv"]
        _run([uv, "venv", "--quiet", "--relocatable", "--allow-existing", "--python", specification["python"], str(draft)])
        sync = [uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", "--python", str(draft)]
        _run([*sync, specification["lock"]], progress=specification["progress"], draft=draft, lock=Path(specification["lock"]))
        draft.rename(target)


def _run(argv: list[str], *, progress: str = "", draft: Path = Path(), lock: Path = Path()) -> None:
    """Run uv; its last words are ours when it fails."""
    # uv would otherwise report on the virtual environment that it finds itself in.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        running = subprocess.Popen(argv, env=environment, stdout=output, stderr=output)  # noqa: S603 - no shell
        try:
            while running.poll() is None:
                if progress:
                    _say(Path(progress), draft, lock, time.monotonic() - began)
                time.sleep(POLL_S)
        finally:
            running.kill()
            running.wait()
        if running.returncode:
            output.seek(0)
            raise InstallError(f"{' '.join(argv[:3])} failed with status {running.returncode}:\n{output.read().strip()}")


def _say(progress: Path, draft: Path, lock: Path, elapsed_s: float) -> None:
    """How far it is: first everything is downloaded, then it is all put in place at once, then compiled."""
    total = len(re.findall("^[a-z0-9][^;\n]*$", lock.read_text(), re.MULTILINE))
    installed = len(list(draft.glob("lib/python*/site-packages/*.dist-info")))
    stage = "downloading" if not installed else f"{installed} in place"
    progress.parent.mkdir(parents=True, exist_ok=True)
    progress.write_text(f"{total} packages, {stage}; {elapsed_s:.0f} s of usually {USUAL_S}\n")


def main() -> None:
    """Install what is missing, and say where it is."""
    specification: dict[str, Any] = json.load(sys.stdin)
    try:
        digest, key = key_of(Path(specification["lock"]), specification["python"])
        target = Path(specification["directory"]) / key
        missing = not target.exists()
        if missing and not specification["check"]:
            install(specification, target)
    except (InstallError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    print(json.dumps({"changed": missing, "path": str(target), "lock": digest}))


if __name__ == "__main__":
    main()
