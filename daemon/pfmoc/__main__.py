"""The command line: ``pfmoc serve``, ``check``, ``run``, ``openapi``, ``settings``; or the same through ``python -m pfmoc``.

The daemon itself is imported by the commands that are about it only: that takes three times as long as all else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

from pfmoc import __version__, logs, pidfile
from pfmoc.errors import PfmocError, StartError
from pfmoc.reference import settings_page
from pfmoc.settings import Settings, SettingsError, load
from pfmoc.workflow import cli as workflow_cli

EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.command == "run":
        return workflow_cli.main(options)
    if options.command == "settings":
        sys.stdout.write(settings_page())
        return 0
    try:
        settings = load(os.environ, env_file=options.env_file)
    except SettingsError as error:
        return _misconfigured(error)
    if options.command == "check":
        _say("pfmoc: the settings are valid", stream=sys.stdout)
        return 0
    if options.command == "openapi":
        return _describe(settings)
    return _serve(settings, pid_file=options.pid_file)


def _serve(settings: Settings, *, pid_file: Path | None) -> int:
    from pfmoc import app  # noqa: PLC0415 - see the module

    os.umask(0o077)
    logs.configure(redact=settings.secrets)
    try:
        with pidfile.held(pid_file) if pid_file is not None else nullcontext():
            asyncio.run(app.serve(settings))
    except SettingsError as error:  # some show only beside the machine: an environment it cannot offer
        return _misconfigured(error)
    except (StartError, PfmocError) as error:
        _say(f"pfmoc: {error}")
        return EXIT_FAILED
    except Exception:  # noqa: BLE001 - the last word before the process ends
        _log.exception("the daemon failed")
        return EXIT_FAILED
    return 0


def _describe(settings: Settings) -> int:
    from pfmoc import app  # noqa: PLC0415 - see the module
    from pfmoc.storage.registry import open_storage  # noqa: PLC0415

    try:
        storage = open_storage(settings.model_copy(update={"application_mode": "production"}))  # which makes no directory
        document = app.Daemon(settings, storage=storage).describe()
    except SettingsError as error:
        return _misconfigured(error)
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def _misconfigured(error: SettingsError) -> int:
    for problem in error.problems:
        _say(f"pfmoc: {problem}")
    return EXIT_MISCONFIGURED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pfmoc", description="A ChRIS compute resource: runs plugins and moves their data.")
    parser.add_argument("--version", action="version", version=f"pfmoc {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--env-file", type=Path, metavar="FILE", help="read settings from FILE (key=value lines); the environment overrides it"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        parents=[common],
        help="serve the API until SIGTERM or SIGINT",
        description="Serve the API until SIGTERM or SIGINT, then let requests in flight finish. Settings come from the"
        " environment; with none at all the daemon listens on loopback, with local storage, jobs as processes, and development"
        " credentials. Logs go to standard error, one JSON object per line; the event 'listening' holds the URL.",
        epilog="Exit status: 0 after a signal, 1 when the daemon cannot start or fails, 2 when a setting is wrong.",
    )
    serve.add_argument(
        "--pid-file", type=Path, metavar="FILE", help="keep the process id in FILE; refuse to start beside another"
    )
    commands.add_parser(
        "check",
        parents=[common],
        help="check the settings and exit",
        description="Check the settings and exit: nothing is contacted, nothing is written. Prints every problem, one per line.",
        epilog="Exit status: 0 when the settings are valid, 2 when one is wrong.",
    )
    commands.add_parser(
        "openapi",
        parents=[common],
        help="print the API's description, OpenAPI 3.1",
        description="Print the description of the API as a daemon with these settings serves it at /api/v1/openapi.json, in JSON:"
        " pfcon 6 and 5, as far as they are on at its main port. Nothing is contacted, nothing is written.",
        epilog="Exit status: 0, or 2 when a setting is wrong.",
    )
    commands.add_parser("settings", help="print the reference of all settings, in Markdown")
    workflow_cli.add_parser(commands)
    return parser


def _say(line: str, *, stream: TextIO | None = None) -> None:
    print(line, file=stream or sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
