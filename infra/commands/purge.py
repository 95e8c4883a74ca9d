"""``purge``: delete a tenant that is in quarantine."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.commands.options import JsonOption, SiteArgument, VerboseOption, YesOption, asked
from infra.commands.rollout import roll_out
from infra.commands.stacks import confirm, opened
from infra.console import err, out, print_json
from infra.failures import EXIT_REFUSED, OperatorError
from infra.identity import require_same
from infra.purge import cost, delete, going_on, permitted
from infra.quarantine import today
from infra.stack import SiteStack

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Whom.")]
NowOption = Annotated[bool, typer.Option("--now", help="Do not wait for the end of the grace (quarantine_days).")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("purge")(purge)


def purge(
    site: SiteArgument,
    tenant: TenantArgument,
    *,
    now: NowOption = False,
    as_json: JsonOption = False,
    yes: YesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Delete a tenant that has left the site file, with all its data, once its grace has ended.

    It takes two runs of `up`, each shown and asked for; the guards let go what is the tenant's own, and nothing else.

    Exit status: 0 it is gone, 1 not all of it, 2 refused: the grace goes on, its project holds what is not of this stack, or the
    guards refuse something else.
    """
    wanted = asked(site, warn=False)
    with opened(wanted, create=False) as stack:
        require_same(wanted.site, stack.resources(), allowed=())
        lost = "" if going_on(stack, tenant) else _permitted(stack, tenant, now=now)
        if lost:
            confirm(f"Delete {tenant} with {lost}?", yes=yes)
        shown = err if as_json else out

        def up() -> None:
            roll_out(stack, allow=[f"tenant/{tenant}"], refresh=False, yes=yes, verbose=verbose, console=shown)

        delete(stack, tenant, up)
    if as_json:
        print_json({"site": wanted.site.name, "purged": tenant, "with": lost})
    else:
        out.print(f"{tenant} is deleted")


def _permitted(stack: SiteStack, tenant: str, *, now: bool) -> str:
    """What goes with the tenant, in words."""
    held = cost(stack, tenant, permitted(stack, tenant, day=today(), now=now))
    if held.foreign:
        left = "\n".join(f"  {each}" for each in held.foreign)
        cause = f"the stack does not know all data of {tenant}, and it would be left without an owner:\n{left}"
        raise OperatorError(cause, "delete it first, or give it to another project", code=EXIT_REFUSED)
    return held.sentence()
