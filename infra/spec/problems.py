"""What is wrong with a site file: where, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic_core import PydanticCustomError

Path = tuple[str | int, ...]
"""Where a value stands: keys, names of list items (``tenants``, ``chris``, ``users``, ``ann``), and indexes of those without."""

ITEMS = "*"
"""At the end of a path: all items of the list."""


class Severity(StrEnum):
    """Whether a problem stops everything."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong, or may be.

    :param path: where
    :param cause: why it is wrong, a sentence's beginning in lower case
    :param fix: what to do about it; empty where the cause says it
    :param line: in the file, from 1; 0 where it is not known
    """

    path: Path
    cause: str
    fix: str = ""
    severity: Severity = Severity.ERROR
    line: int = 0

    @property
    def where(self) -> str:
        """The path as people read it: ``tenants[chris].users[0].name``."""
        return shown(self.path)

    def text(self, file: str = "") -> str:
        """The problem as one line."""
        place = f"{file}:{self.line}: " if file and self.line else f"{file}: " if file else ""
        fix = f"; {self.fix}" if self.fix else ""
        return f"{place}{self.severity}: {self.where}: {self.cause}{fix}"

    def document(self) -> dict[str, Any]:
        """The problem for programs."""
        return {
            "severity": str(self.severity),
            "path": self.where,
            "line": self.line or None,
            "cause": self.cause,
            "fix": self.fix or None,
        }


class SiteError(Exception):
    """A site file is not usable.

    :param problems: all that was found, warnings too
    :param file: the file's name, for the text
    """

    def __init__(self, problems: Iterable[Problem], file: str = "") -> None:
        self.problems = tuple(problems)
        self.file = file
        super().__init__("\n".join(problem.text(file) for problem in self.problems))


def shown(path: Path) -> str:
    """Join a path. What follows a key of a list stands in brackets."""
    text = ""
    for position, step in enumerate(path):
        if isinstance(step, int) or (position and _is_list(path[:position])):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text or "the document"


def _is_list(path: Path) -> bool:
    return path[-1] in LISTS


LISTS = {
    "tenants",
    "users",
    "containers",
    "node_pools",
    "networks",
    "security_groups",
    "priority_classes",
    "image_pull_secrets",
    "scc",
}
"""Keys whose lists hold items with names."""


def wrong(cause: str, fix: str = "") -> PydanticCustomError:
    """Make the error that a validator raises: why, and what to do."""
    return PydanticCustomError("site", "{cause}", {"cause": cause, "fix": fix})
