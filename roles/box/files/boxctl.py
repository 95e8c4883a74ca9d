#!/usr/bin/env python3
"""The box's own commands; `make` calls those for people. See --help."""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from boxkit import apply, down, logs, prepare, processes, status, usage
from boxkit.layout import Layout
from boxkit.service import SpecificationError
from boxkit.settings import Settings
from boxkit.supervisor import SupervisorError

ERRORS = (SpecificationError, SupervisorError, apply.ApplyError, processes.EndError, logs.UnknownServiceError)


def do_prepare(layout: Layout, arguments: argparse.Namespace) -> int:
    """Make the directory; the settings come as JSON on standard input."""
    document = json.load(sys.stdin)
    path = document.pop("path")
    print(json.dumps(prepare.prepare(layout, Settings(**document), path, check=arguments.check)))
    return 0


def do_apply(layout: Layout, arguments: argparse.Namespace) -> int:
    """Run a group; the services come as JSON on standard input."""
    services = apply.read_group(layout, arguments.group, json.load(sys.stdin), check=arguments.check)
    if arguments.check:
        print(json.dumps({"changed": apply.differs(layout, arguments.group, services)}))
    else:
        print(json.dumps(apply.run(layout, arguments.group, services, arguments.seconds)))
    return 0


def do_stop(layout: Layout, _arguments: argparse.Namespace) -> int:
    """Stop the services."""
    print("stopped" if down.stop(layout) else "unchanged")
    return 0


def do_end(layout: Layout, _arguments: argparse.Namespace) -> int:
    """End what is left."""
    for line in down.end(layout):
        print(line)
    return 0


def do_look(layout: Layout, _arguments: argparse.Namespace) -> int:
    """Tell what the role has to know beforehand."""
    print(json.dumps(prepare.look(layout)))
    return 0


def do_remove(layout: Layout, _arguments: argparse.Namespace) -> int:
    """Remove the files."""
    print("removed" if prepare.remove(layout) else "unchanged")
    return 0


def do_status(layout: Layout, arguments: argparse.Namespace) -> int:
    """Show the services."""
    found = status.rows(layout)
    if arguments.json:
        print(status.as_json(found))
    elif found:
        status.show(found)
    else:
        print("There is no box here: `make box` makes it", file=sys.stderr)
    return status.exit_status(found)


def do_logs(layout: Layout, arguments: argparse.Namespace) -> int:
    """Show logs."""
    chosen = logs.choose(layout, arguments.service)
    logs.show(chosen, arguments.lines)
    if arguments.follow:
        logs.follow(chosen)
    return 0


def do_usage(layout: Layout, arguments: argparse.Namespace) -> int:
    """Say how the box is used."""
    print(usage.text(layout, arguments.seconds))
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="boxctl", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the box")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, function: Callable[[Layout, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        return added

    command("prepare", do_prepare, "make the box's directory").add_argument("--check", action="store_true")
    applied = command("apply", do_apply, "run a group of services")
    applied.add_argument("group")
    applied.add_argument("--seconds", type=float, default=300.0)
    applied.add_argument("--check", action="store_true")
    command("stop", do_stop, "stop all services")
    command("end", do_end, "end what is left of the box")

    command("look", do_look, "tell of root, room on the disk, and whether the box is made")
    command("remove", do_remove, "remove the files of a box that is down")
    shown = command(
        "status",
        do_status,
        f"show every service; exit status {status.ALL_HEALTHY}: all are healthy, {status.NOT_ALL}: not all, "
        f"{status.NOT_RUNNING}: nothing runs",
    )
    shown.add_argument("--json", action="store_true", help="a JSON list, memory in MiB, times in UTC")
    logged = command("logs", do_logs, "show the logs of a service, of a group, or of those whose names begin so")
    logged.add_argument("service", nargs="?", default="", help="default: all")
    logged.add_argument("--lines", type=int, default=100, help="how many of each; default: 100")
    logged.add_argument("--follow", action="store_true", help="and go on as they grow")
    command("usage", do_usage, "say how the box is used").add_argument("--seconds", type=float, help="how long it took")

    arguments = parser.parse_args()
    try:
        return int(arguments.function(Layout(arguments.directory.absolute()), arguments))
    except ERRORS as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
