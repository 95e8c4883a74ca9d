"""Command line: ``python -m workflows.runner WORKFLOW.yml --input DIRECTORY_OR_DOCUMENT``."""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from workflows.runner.documents import DocumentError, PackagedInput, Workflow, load
from workflows.runner.engine import Engine
from workflows.runner.report import Report, progress
from workflows.runner.server import ROOT, Access, Server, ServerError

EXIT_FAILED = 1
EXIT_UNUSABLE = 2
EXIT_STOPPED = 130


def parse() -> argparse.Namespace:
    """Read the command line."""
    cache = Path(os.environ.get("PFMOC_CACHE") or Path.home() / ".cache" / "pfmoc")
    parser = argparse.ArgumentParser(
        prog="python -m workflows.runner",
        description="Run a tree of ChRIS plugins through a pfcon API and fetch the output of each node.",
        epilog="Exit status: 0 all nodes done, 1 a node failed, 2 nothing could be run, 130 stopped by a signal.",
    )
    parser.add_argument("workflow", type=Path, help="the workflow's document")
    parser.add_argument("--input", type=Path, required=True, help="a directory, or a document that names files of a package")
    parser.add_argument("--output", type=Path, default=cache / "results", help="each run gets a directory in it (%(default)s)")
    parser.add_argument("--env-file", type=Path, default=cache / "daemon" / "pfmoc.env", help="the daemon's (%(default)s)")
    parser.add_argument("--at-once", type=int, default=max(2, os.cpu_count() or 1), help="nodes at a time (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of the table")
    return parser.parse_args()


def prepare_input(source: Path, destination: Path) -> None:
    """Put the workflow's input where its first nodes look for it."""
    if source.is_dir():
        shutil.copytree(source, destination)
    else:
        load(PackagedInput, source).collect(destination)


def main() -> int:
    """Run a workflow."""
    arguments = parse()
    stop = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    # The first signal asks for an orderly end, which removes our jobs; the second is for those who cannot wait.
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        workflow = load(Workflow, arguments.workflow)
        access = Access.from_env_file(arguments.env_file)
        server = Server(access, stop)
        run = f"{workflow.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        results = arguments.output.absolute() / run
        prepare_input(arguments.input, results / "input")
    except (DocumentError, ServerError) as error:
        print(error, file=sys.stderr)
        return EXIT_UNUSABLE
    began = time.monotonic()
    with progress(workflow) as watcher:
        engine = Engine(workflow, server, run=run, results=results, watcher=watcher)
        outcomes = engine.go(stop, at_once=arguments.at_once)
    report = Report(
        workflow=workflow,
        run=run,
        api=access.url,
        results=results,
        seconds=time.monotonic() - began,
        outcomes=outcomes,
        store=f"{server.store.container}/{ROOT}/{run}" if server.store else "",
    )
    report.print_failures()
    if arguments.json:
        report.print_json()
    else:
        report.print_table()
    if stop.is_set():
        return EXIT_STOPPED
    return 0 if report.succeeded else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
