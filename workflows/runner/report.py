"""What a person sees on the way (on standard error) and in the end, and the same for a program."""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from workflows.runner.documents import Node, Workflow
from workflows.runner.engine import Outcome, Watcher
from workflows.runner.server import STAGES

COLOURS = {"done": "green", "failed": "red", "skipped": "yellow", "stopped": "yellow"}
PLAIN_WIDTH = 120


@contextlib.contextmanager
def progress(workflow: Workflow) -> Iterator[Watcher]:
    """Show the phase of each node: live on a terminal, else a line per change."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[phase]}"), TimeElapsedColumn())
    width = max(len(node.name) for node in workflow.nodes)
    with Progress(*columns, console=console) as bars:
        tasks = {
            node.name: bars.add_task(node.name.ljust(width), start=False, total=1, phase="waiting") for node in workflow.nodes
        }

        def show(node: Node, phase: str) -> None:
            task = tasks[node.name]
            if phase == "sending":
                bars.start_task(task)
            colour = COLOURS.get(phase)
            bars.update(task, phase=f"[{colour}]{phase}[/]" if colour else phase, completed=1 if colour else 0)
            if colour:
                bars.stop_task(task)

        yield show


def _plain() -> Watcher:
    began = time.monotonic()
    lock = threading.Lock()
    last: dict[str, str] = {}

    def show(node: Node, phase: str) -> None:
        with lock:
            if last.get(node.name) != phase:
                last[node.name] = phase
                print(f"  {time.monotonic() - began:6.1f} s  {node.name}: {phase}", file=sys.stderr, flush=True)

    return show


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run, as a table for people or as JSON for programs."""

    workflow: Workflow
    run: str
    api: str
    results: Path
    seconds: float
    outcomes: Sequence[Outcome]
    store: str = ""
    """Container and prefix of the data in a shared store."""

    @property
    def succeeded(self) -> bool:
        """True if every node is done."""
        return all(outcome.status == "done" for outcome in self.outcomes)

    @property
    def picture(self) -> Path | None:
        """The largest PNG: something to look at."""
        pictures = [file for outcome in self.outcomes for file in outcome.files if file.suffix == ".png"]
        return max(pictures, key=lambda file: (file.stat().st_size, str(file)), default=None)

    def print_failures(self) -> None:
        """Say why nodes failed, with the last lines of their logs."""
        for outcome in self.outcomes:
            if outcome.status == "failed":
                print(f"\n{outcome.node.name} failed: {outcome.reason}", file=sys.stderr)
                for line in outcome.log:
                    print(f"  | {line}", file=sys.stderr)

    def print_table(self) -> None:
        """Print the table and where things are."""
        console = Console()
        if not console.is_terminal:
            console = Console(width=PLAIN_WIDTH)
        title = f"{self.workflow.name}: {self.workflow.description}"
        table = Table("node", "plugin", "status", title=title, title_justify="left")
        shown = STAGES if any(outcome.stages for outcome in self.outcomes) else ()
        for heading in ("seconds", *shown, "files", "bytes"):
            table.add_column(heading, justify="right")
        for outcome in self.outcomes:
            colour = COLOURS[outcome.status]
            stages = [getattr(outcome.stages, name, None) for name in shown]
            times = ["" if seconds is None else f"{seconds:.1f}" for seconds in (outcome.seconds, *stages)]
            numbers = (*times, str(len(outcome.files)), f"{outcome.size:,}")
            table.add_row(outcome.node.name, outcome.node.image, f"[{colour}]{outcome.status}[/]", *numbers)
        console.print(table)
        print(f"API:      {self.api}")
        if self.store:
            print(f"Swift:    {self.store}")
        print(f"Results:  {self.results}")
        if self.picture:
            print(f"Picture:  {self.picture}")

    def print_json(self) -> None:
        """Print everything as one JSON document."""
        document = {
            "workflow": self.workflow.name,
            "run": self.run,
            "succeeded": self.succeeded,
            "seconds": round(self.seconds, 3),
            "api": self.api,
            "results": str(self.results),
            "store": self.store or None,
            "picture": str(self.picture) if self.picture else None,
            "nodes": [
                {
                    "name": outcome.node.name,
                    "parent": outcome.node.parent,
                    "image": outcome.node.image,
                    "jid": outcome.jid,
                    "status": outcome.status,
                    "reason": outcome.reason,
                    "seconds": round(outcome.seconds, 3),
                    "stages": asdict(outcome.stages) if outcome.stages else None,
                    "files": len(outcome.files),
                    "bytes": outcome.size,
                    "output": str(outcome.output),
                    "log": list(outcome.log),
                }
                for outcome in self.outcomes
            ],
        }
        print(json.dumps(document, indent=2))
