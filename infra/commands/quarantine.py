"""``quarantine``: close a tenant's projects, or open them again."""

from __future__ import annotations

from typing import Annotated

import typer

from infra import quarantine as quarantines
from infra.commands.options import JsonOption, RefreshOption, SiteArgument, VerboseOption, YesOption, asked
from infra.commands.rollout import roll_out
from infra.commands.stacks import opened
from infra.console import out, print_json, table
from infra.roster import Mark

TenantArgument = Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Whose. Without it: list who is in quarantine.")]
ReleaseOption = Annotated[bool, typer.Option("--release", help="Open the projects again.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quarantine")(quarantine)


def quarantine(
    site: SiteArgument,
    tenant: TenantArgument = None,
    *,
    release: ReleaseOption = False,
    as_json: JsonOption = False,
    refresh: RefreshOption = True,
    yes: YesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Put a tenant into quarantine, or release it; without one, list who is in it.

    In quarantine a tenant keeps all that it has, and nobody has rights there; its servers are shut off, its pods scaled to zero,
    its quotas what is in use. Exit status: that of `up`, which carries it out.
    """
    if as_json and tenant:
        raise typer.BadParameter("--json only lists; leave TENANT out")
    wanted = asked(site, warn=False)
    with opened(wanted, create=False, remember=tenant is not None) as stack:
        if tenant is None:
            _show(quarantines.marked(stack), wanted.site.quarantine_days, as_json=as_json)
            return
        if release:
            quarantines.leave(stack, tenant)
        else:
            quarantines.enter(stack, [tenant], "asked")
        roll_out(stack, refresh=refresh, yes=yes, verbose=verbose)


def _show(marks: dict[str, Mark], days: int, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "quarantined": [
                    {
                        "tenant": name,
                        "since": mark.since,
                        "reason": mark.reason,
                        "in_file": mark.record is None,
                        "until": mark.grace(days),
                    }
                    for name, mark in sorted(marks.items())
                ]
            }
        )
        return
    shown = table("Tenant", "Since", "Why", "In the file", "May go from")
    for name, mark in sorted(marks.items()):
        shown.add_row(name, str(mark.since), mark.reason, "no" if mark.record else "yes", str(mark.grace(days)))
    out.print(shown if marks else "nobody is in quarantine")
