"""The one error that people see."""

from __future__ import annotations


class ToolchainError(Exception):
    """Something could not be made. The text is one line: what is wrong, and the next step."""
