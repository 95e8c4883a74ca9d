"""The state of the box: one row a service, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from boxkit import processes
from boxkit.health import look, process_of
from boxkit.layout import Layout
from boxkit.service import by_name

ALL_HEALTHY, NOT_ALL, NOT_RUNNING = 0, 1, 3
"""Exit statuses; the last one is that of init scripts for the same thing."""
HEALTHY = "healthy"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One service.

    :param pid: of its process; None if there is none
    :param memory: MiB that it and its children hold (PSS); 0 for another user's
    :param since: when the process was started, in UTC; empty if there is none
    :param health: `healthy`, or what is wrong
    """

    service: str
    group: str
    version: str
    endpoint: str
    pid: int | None
    memory: float
    since: str
    health: str


def rows(layout: Layout) -> list[Row]:
    """Every service of the box, by group, in the order in which it was handed over."""
    services = by_name(layout)
    health = look(layout, services.values())
    table = processes.table()
    found = []
    for name, service in services.items():
        process = process_of(layout, name)
        memory = processes.memory_kib(processes.descendants(process.pid, table)) if process else 0
        found.append(
            Row(
                service=name,
                group=service.group,
                version=service.version,
                endpoint=service.endpoint,
                pid=process.pid if process else None,
                memory=round(memory / 1024, 1),
                since=datetime.fromtimestamp(process.since, UTC).isoformat(timespec="seconds") if process else "",
                health=HEALTHY if health[name].well else health[name].detail,
            )
        )
    return found


def exit_status(found: list[Row]) -> int:
    """What a program may want to know of all rows together."""
    if not any(row.pid for row in found):
        return NOT_RUNNING
    return ALL_HEALTHY if all(row.health == HEALTHY for row in found) else NOT_ALL


def as_json(found: list[Row]) -> str:
    """A list of objects, whose keys are the columns."""
    return json.dumps([asdict(row) for row in found], indent=2)


def show(found: list[Row]) -> None:
    """Print a table."""
    from rich.console import Console  # noqa: PLC0415 - of the box's environment; the rest of this works without
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("service", "group", "version"):
        table.add_column(column, no_wrap=True)
    table.add_column("endpoint", overflow="fold")
    for column in ("pid", "memory MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("since", no_wrap=True)
    table.add_column("health")
    for row in found:
        since = datetime.fromisoformat(row.since).astimezone().strftime("%m-%d %H:%M:%S") if row.since else ""
        colour = "green" if row.health == HEALTHY else "red"
        cells = [row.service, row.group, row.version, row.endpoint, str(row.pid or ""), f"{row.memory:.1f}", since]
        table.add_row(*cells, f"[{colour}]{row.health}[/]")
    memory = sum(row.memory for row in found)
    well = sum(row.health == HEALTHY for row in found)
    table.add_section()
    table.add_row(f"{len(found)} services", "", "", "", "", f"{memory:.1f}", "", f"{well} healthy")
    # A pipe has no width of its own, and a cut name is of no use to a program.
    console = Console()
    console.width = console.width if console.is_terminal else 200
    console.print(table)
