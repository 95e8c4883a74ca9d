"""What came of a run: a table for people, a document for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Verdict(StrEnum):
    """What came of a node."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


STYLES = {Verdict.DONE: "green", Verdict.FAILED: "red", Verdict.SKIPPED: "dim", Verdict.INTERRUPTED: "yellow"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of one node."""

    node: str
    resource: str
    plugin: str
    """Image."""
    jid: str
    status: Verdict
    seconds: float = 0.0
    files: int = 0
    bytes: int = 0
    message: str = ""


def document(*, workflow: str, run: str, status: Verdict, seconds: float, results: Sequence[Result]) -> dict[str, Any]:
    """The run as JSON has it."""
    nodes = [{**asdict(result), "seconds": round(result.seconds, 3)} for result in results]
    return {"workflow": workflow, "run": run, "status": status, "seconds": round(seconds, 3), "nodes": nodes}


def print_table(console: Console, results: Sequence[Result]) -> None:
    """Write the table, and under it why a node did not end well."""
    table = Table()
    for heading in ("node", "resource", "plugin", "status"):
        table.add_column(heading, overflow="fold")
    for heading in ("seconds", "files", "bytes"):
        table.add_column(heading, justify="right")
    for result in results:
        ran = result.status in (Verdict.DONE, Verdict.FAILED)
        table.add_row(
            result.node,
            result.resource,
            Text(result.plugin),
            Text(result.status, STYLES[result.status]),
            f"{result.seconds:.1f}" if ran else "",
            f"{result.files:,}" if ran else "",
            f"{result.bytes:,}" if ran else "",
        )
    console.print(table)
    for result in results:
        if result.message:
            console.print(f"{result.node}: {result.message}", markup=False, highlight=False, soft_wrap=True)
