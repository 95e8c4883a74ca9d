"""``unlock``: take away the lock of an operator who is no more."""

from __future__ import annotations

import typer

from infra.commands.options import SiteArgument, YesOption, asked
from infra.commands.stacks import confirm, opened
from infra.console import out


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("unlock")(unlock)


def unlock(site: SiteArgument, *, yes: YesOption = False) -> None:
    """Take away the locks of the state. Only when who holds them has died: two at once ruin the state."""
    wanted = asked(site, warn=False)
    with opened(wanted, create=False, remember=False) as stack:
        confirm(f"Is nobody else at work on {wanted.site.name}?", yes=yes)
        stack.cancel()
    out.print(f"{wanted.site.name}: unlocked")
