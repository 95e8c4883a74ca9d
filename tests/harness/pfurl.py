"""The real pfurl from PyPI, unmodified, as a command line of its own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.clients import environment

VERSIONS = ("2.3.0.1", "2.2.4.6")
"""What PyPI has. 2.3.0.2, the head of its repository, was never released there."""


class Pfurl:
    """One release of pfurl.

    :param home: it keeps its zips in the working directory, and a ``tmp`` in its home
    """

    def __init__(self, version: str, home: Path) -> None:
        self.program = environment("pfurl", version) / "bin" / "pfurl"
        self.home = home
        home.mkdir(parents=True, exist_ok=True)

    async def __call__(self, url: str, message: Mapping[str, Any] | str, *options: str, verb: str = "POST") -> Any:
        """Send a message, and return what is printed, from JSON where it is some."""
        text = message if isinstance(message, str) else json.dumps(message)
        command = ["--verb", verb, "--http", url, "--msg", text, "--quiet", "--raw", *options]
        process = await asyncio.create_subprocess_exec(
            str(self.program),
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "NO_PROXY": "127.0.0.1", "USER": "nobody"},
        )
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors.decode()
        try:
            return json.loads(output)
        except ValueError:
            return output.decode()
