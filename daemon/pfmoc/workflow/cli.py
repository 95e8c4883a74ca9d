"""The command line of ``pfmoc run``. Imports nothing that a daemon's installation may lack."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

EXIT_CANNOT = 2
_NEEDS = {"yaml": "PyYAML", "rich": "rich"}


def add_parser(commands: Any) -> None:
    """Add ``run`` to the subcommands.

    :param commands: what ``ArgumentParser.add_subparsers`` returned
    """
    parser = commands.add_parser(
        "run",
        help="run a workflow over one or more compute resources",
        description="Run a workflow over one or more compute resources that speak pfcon 6 or 5. The output of each node comes"
        " into a directory of its own below --output, and goes on from there to the nodes that read it. Progress goes to standard"
        " error, the final table or document to standard output.",
        epilog="Exit status: 0 when every node is done, 1 when one failed, 2 when a document or an option is wrong, 130 after"
        " Ctrl-C, with the jobs of this run ended.",
    )
    parser.add_argument("workflow", type=Path, metavar="WORKFLOW.yml", help="the workflow")
    parser.add_argument("--input", type=Path, metavar="DIR", help="what nodes without parents read")
    parser.add_argument("--output", type=Path, metavar="DIR", required=True, help="where results and the state of the run go")
    parser.add_argument(
        "--resources",
        type=Path,
        metavar="FILE",
        help="the compute resources (default: $PFMOC_RESOURCES, or pfmoc/resources.yml below $XDG_CONFIG_HOME or ~/.config)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output")
    parser.add_argument("--keep", action="store_true", help="leave jobs and their data on the resources")
    parser.add_argument("--json", action="store_true", help="write the result as JSON instead of a table")
    parser.add_argument(
        "--parallel",
        type=_at_least_one,
        default=8,
        metavar="N",
        help="most nodes at the same time, over all resources (default: 8)",
    )


def main(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    missing = [name for module, name in _NEEDS.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.stderr.write(f"pfmoc: run needs {' and '.join(missing)}; install with: pip install 'chris-on-moc[run]'\n")
        return EXIT_CANNOT
    return int(importlib.import_module("pfmoc.workflow.command").run(options))


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
