"""Where the commands write: tables for people, JSON for programs, never both."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 200
"""Where no terminal says how wide it is: a program that cuts lines can do so itself."""

out = Console(soft_wrap=True, highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def print_json(document: Any) -> None:
    """Write a document for programs."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def table(*columns: str) -> Table:
    """A table for people, without frames that a terminal of 80 columns would have to hold."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def tell(sentence: str) -> None:
    """Tell the operator something beside the answer."""
    err.print(sentence)
