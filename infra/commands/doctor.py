"""``doctor``: whether a site can be deployed from here."""

from __future__ import annotations

import os

import typer

from infra.commands.options import JsonOption, SiteArgument, asked
from infra.console import out, print_json, table
from infra.doctor import Check, examine
from infra.failures import EXIT_FAILED, EXIT_UNKNOWN


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """Check credentials, endpoints, versions and rights, and say what to do. Exit status 0: all good, 1: not, 3: unknown."""
    wanted = asked(site, warn=not as_json)
    checks = list(examine(wanted.site, os.environ))
    if as_json:
        print_json({"site": wanted.site.name, "good": not status(checks), "checks": [check.document() for check in checks]})
    else:
        rows = table("", "Subject", "Says", "What to do")
        for check in checks:
            rows.add_row({True: "ok", False: "BAD", None: "?"}[check.good], check.subject, check.says, check.fix)
        out.print(rows)
    raise typer.Exit(status(checks))


def status(checks: list[Check]) -> int:
    """The exit status that checks amount to."""
    if any(check.good is False for check in checks):
        return EXIT_FAILED
    return EXIT_UNKNOWN if any(check.good is None for check in checks) else 0
