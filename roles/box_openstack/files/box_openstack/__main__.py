"""Make, run and fill the cloud.

    python -m box_openstack prepare < SPECIFICATION    render its configuration, make its databases and its catalogue
    python -m box_openstack seed DATABASES STATE       make one service's databases
    python -m box_openstack serve SERVICE STATE        run one service in the foreground
    python -m box_openstack fill STATE < CONTENTS      make images, flavors and the like through the cloud's own APIs

The interpreter is that of the environment which holds OpenStack. What ``prepare`` and ``fill`` write is JSON.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from box_openstack.cloud import Cloud, SpecificationError


def prepare() -> None:
    """Bring the state directory in line with a specification.

    Beside the fields of ``Cloud`` it holds ``check`` (change nothing), ``programs`` (directory that gets links to the clients, or
    empty) and ``progress`` (file that says what takes its time).
    """
    from box_openstack import preparation, services  # noqa: PLC0415 - the services do without what it imports

    document = json.load(sys.stdin)
    cloud = Cloud.from_document(document)
    programs = Path(document["programs"]) if document["programs"] else None
    changes = preparation.prepare(cloud, programs=programs, progress=Path(document["progress"]), check=document["check"])
    print(json.dumps({"changed": bool(changes), "changes": changes, "services": services.listing(cloud)}))


def fill(state: Path) -> None:
    """Make what the contents name and is not there; see ``contents.Contents``."""
    from box_openstack import contents  # noqa: PLC0415 - it loads the OpenStack SDK

    changes = contents.fill(Cloud.load(state), json.load(sys.stdin))
    print(json.dumps({"changed": bool(changes), "changes": changes}))


def main() -> None:
    """Read the command line. Errors that a person can mend are one line."""
    parser = argparse.ArgumentParser(prog="box_openstack", description="OpenStack on loopback")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare")
    for command in ("seed", "serve"):
        sub = commands.add_parser(command)
        sub.add_argument("name")
        sub.add_argument("state", type=Path)
    commands.add_parser("fill").add_argument("state", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "prepare":
            prepare()
        elif arguments.command == "fill":
            fill(arguments.state)
        else:
            cloud = Cloud.load(arguments.state)
            # The services read the command line too, and would take ours for theirs.
            sys.argv = [arguments.name]
            from box_openstack import running  # noqa: PLC0415 - it loads the services' libraries

            getattr(running, arguments.command)(cloud, arguments.name)
    except SpecificationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
