"""``up``: make the clouds match the site file."""

from __future__ import annotations

import typer

from infra.commands.options import AllowOption, RefreshOption, SiteArgument, VerboseOption, YesOption, asked
from infra.commands.rollout import roll_out
from infra.commands.stacks import opened


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    site: SiteArgument,
    *,
    allow: AllowOption = None,
    refresh: RefreshOption = True,
    yes: YesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make the clouds match the site file, after a look by the guards. Exit status 0: they do, 1: not all, 2: refused."""
    with opened(asked(site), create=True) as stack:
        roll_out(stack, allow=allow or (), refresh=refresh, yes=yes, verbose=verbose)
