"""The Pulumi program: the site of the stack's name, deployed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The language host runs this file from its own directory; imports begin at the repository.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "infra")]

import pulumi  # noqa: E402
from pulumi.runtime import stack  # noqa: E402

from infra.deployment import run  # noqa: E402
from infra.failures import explained  # noqa: E402

_wait = stack.wait_for_rpcs


async def _wait_and_explain(*args: Any, **kwargs: Any) -> None:
    """Wait for what the program asked of the engine; a lookup that a cloud refuses ends in a sentence.

    The SDK raises a plain exception for one, outside of the program's reach, and the language host shows that with its stack.
    """
    try:
        await _wait(*args, **kwargs)
    except Exception as error:
        if isinstance(error, pulumi.RunError) or not str(error).startswith("invoke of "):
            raise
        raise pulumi.RunError(f"{explained(str(error))}\n{error}") from None


stack.wait_for_rpcs = _wait_and_explain

run(ROOT)
