"""Real clients from PyPI, unmodified, each in an environment of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.locks import locked

CACHE = Path("~/.cache/pfmoc/test-clients").expanduser()
# `make` says by UV which one it has found, or installed; without it there may be one on PATH, or the one that it installed.
UV = os.environ.get("UV") or shutil.which("uv") or str(CACHE.parent / "uv" / "bin" / "uv")
_INSTALL_S = 120.0
_RUN_S = 300.0
"""What polls waits twice as long each time: a minute's job on a busy machine is found to have ended after two."""


def environment(package: str, version: str) -> Path:
    """The directory of a virtual environment with just this package; built once, and complete as soon as it is there."""
    final = CACHE / f"{package}-{version}"
    with locked(CACHE / ".lock"):
        if final.is_dir():
            return final
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            fresh = Path(scratch) / "env"
            _uv("venv", "--quiet", "--relocatable", "--python", sys.executable, str(fresh))
            _uv("pip", "install", "--quiet", "--python", str(fresh / "bin" / "python"), f"{package}=={version}")
            fresh.rename(final)
    return final


def _uv(*arguments: str) -> None:
    try:
        done = subprocess.run([UV, *arguments], capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no environment for a real client: {error}")
    if done.returncode:
        pytest.skip(f"no environment for a real client: {done.stderr.strip()[-300:]}")


class Client:
    """One release of python-pfconclient."""

    def __init__(self, version: str) -> None:
        self.home = environment("python-pfconclient", version)

    async def command(self, *arguments: object) -> tuple[int, str]:
        """Run its command line; returns the exit code and all it printed."""
        return await self._run(str(self.home / "bin" / "pfconclient"), *map(str, arguments))

    async def script(self, source: str, **values: Any) -> Any:
        """Run Python in its environment; ``source`` sees the values, and what it puts in ``result`` is returned."""
        program = f"import json, sys\nglobals().update(json.loads(sys.argv[1]))\n{source}\nprint('\\nRESULT', json.dumps(result))"
        code, output = await self._run(str(self.home / "bin" / "python"), "-I", "-c", program, json.dumps(values))
        assert code == 0, output
        return json.loads(output.rpartition("RESULT ")[2])

    async def _run(self, *command: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"},
        )
        output, _ = await asyncio.wait_for(process.communicate(), _RUN_S)
        return process.returncode or 0, output.decode()
