"""``expire``: tenants past their term."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.commands.options import JsonOption, RefreshOption, SiteArgument, VerboseOption, YesOption, asked
from infra.commands.rollout import roll_out
from infra.commands.stacks import opened
from infra.console import out, print_json, table
from infra.failures import EXIT_REFUSED
from infra.quarantine import Term, enter, marked, terms, today

WithinOption = Annotated[int, typer.Option("--within", min=0, metavar="DAYS", help="List also those whose term ends by then.")]
QuarantineOption = Annotated[bool, typer.Option("--quarantine", help="Put those past their term into quarantine.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("expire")(expire)


def expire(
    site: SiteArgument,
    *,
    within: WithinOption = 0,
    quarantine: QuarantineOption = False,
    as_json: JsonOption = False,
    refresh: RefreshOption = True,
    yes: YesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List tenants past `expires_at`, and put them into quarantine.

    Exit status: 0 when none is past its term and still open, 2 when one is; with --quarantine that of `up`, which carries it out.
    """
    if as_json and quarantine:
        raise typer.BadParameter("--json only lists; leave one of the two out")
    wanted = asked(site, warn=False)
    with opened(wanted, create=False, remember=quarantine) as stack:
        found = terms(wanted.site, marked(stack), day=today(), within=within)
        overdue = [term.tenant for term in found if term.days <= 0 and term.quarantined is None]
        if as_json:
            print_json({"site": wanted.site.name, "terms": [term.document() for term in found]})
        else:
            _show(found)
        if quarantine and overdue:
            enter(stack, overdue, "expired")
            roll_out(stack, refresh=refresh, yes=yes, verbose=verbose)
        elif overdue:
            raise typer.Exit(EXIT_REFUSED)


def _show(found: list[Term]) -> None:
    shown = table("Tenant", "Answers for it", "Term ends", "Days", "In quarantine since")
    for term in found:
        since = str(term.quarantined) if term.quarantined else ""
        shown.add_row(term.tenant, term.pi, str(term.expires_at), str(term.days), since)
    out.print(shown if found else "no tenant is past its term")
