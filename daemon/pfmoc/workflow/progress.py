"""Progress while a run goes on: a table that lives on a terminal, or one line for each step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pfmoc.workflow.report import STYLES, Verdict


class Progress(AbstractContextManager["Progress"]):
    """Is told what happens; this one keeps silent."""

    def step(self, node: str, text: str) -> None:
        """A node began something."""

    def moved(self, node: str, what: str, done: int, total: int | None) -> None:
        """Data of a node went forward.

        :param done: bytes
        :param total: bytes of all, where known
        """

    def ended(self, node: str, verdict: Verdict, message: str) -> None:
        """A node came to its end."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


class Lines(Progress):
    """One line for each step, for logs.

    :param console: where they go
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, node: str, text: str) -> None:
        """Say what begins."""
        self._say(f"{node}: {text}")

    def ended(self, node: str, verdict: Verdict, message: str) -> None:
        """Say how it ended."""
        self._say(f"{node}: {verdict}" + (f": {message}" if message else ""))

    def _say(self, line: str) -> None:
        now = time.strftime("%H:%M:%S")
        self._console.print(f"{now} {line}", markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Row:
    resource: str
    text: str = "waiting"
    style: str = "dim"
    moving: str = ""
    began: float = field(default_factory=time.monotonic)
    took: float | None = None


class LiveTable(Progress):
    """A table with a row for each node, redrawn a few times in a second.

    :param resources: the resource of each node
    """

    def __init__(self, console: Console, resources: Mapping[str, str]) -> None:
        self._rows = {node: _Row(resource) for node, resource in resources.items()}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=5, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def step(self, node: str, text: str) -> None:
        """Show what begins."""
        row = self._rows[node]
        if row.style == "dim":
            row.began = time.monotonic()
        row.text, row.style, row.moving = text, "cyan", ""

    def moved(self, node: str, what: str, done: int, total: int | None) -> None:
        """Show how much of it."""
        of = "" if total is None else f" of {decimal(total)}"
        self._rows[node].moving = f"{what} {decimal(done)}{of}"

    def ended(self, node: str, verdict: Verdict, message: str) -> None:
        """Show how it ended."""
        row = self._rows[node]
        row.took = time.monotonic() - row.began if row.style != "dim" else None
        row.text, row.style, row.moving = str(verdict), STYLES[verdict], message.partition("\n")[0]

    def _table(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("node", "resource", "state", ""):
            table.add_column(heading)
        table.add_column("seconds", justify="right")
        now = time.monotonic()
        for node, row in list(self._rows.items()):
            seconds = row.took if row.took is not None else now - row.began if row.style == "cyan" else None
            shown = "" if seconds is None else f"{seconds:.0f}"
            table.add_row(
                node, row.resource, Text(row.text, row.style), Text(row.moving, no_wrap=True, overflow="ellipsis"), shown
            )
        return table


def progress_for(console: Console, resources: Mapping[str, str]) -> Progress:
    """Choose by what the console is."""
    return LiveTable(console, resources) if console.is_terminal else Lines(console)
