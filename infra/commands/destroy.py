"""``destroy``: delete all that the state knows."""

from __future__ import annotations

import time

import typer

from infra.commands.options import AllowOption, SiteArgument, VerboseOption, YesOption, asked
from infra.commands.stacks import confirm, guard, opened, progress, show, watched
from infra.console import out, tell
from infra.emptying import emptied
from infra.guards import given_up
from infra.identity import require_same
from infra.leftovers import leftovers
from infra.plan import Plan
from infra.recovery import recover
from infra.strays import told


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("destroy")(destroy)


def destroy(site: SiteArgument, *, allow: AllowOption = None, yes: YesOption = False, verbose: VerboseOption = False) -> None:
    """Delete all that the state knows, after a look by the guards. Exit status 0: all is gone, 1: not all, 2: refused."""
    began = time.monotonic()
    wanted = asked(site)
    with opened(wanted, create=False, remember=False) as stack:
        require_same(wanted.site, stack.resources(), allowed=allow or ())
        # What an `up` that was killed had just made is not in the state yet, and would stay.
        for sentence in recover(stack):
            tell(sentence)
        before = stack.resources()
        plan = Plan.of(stack.destroy_preview(on_event=watched(verbose=verbose)))
        guard(stack, plan, allow=allow or ())
        changes = show(plan)
        if changes:
            confirm(f"Delete these {changes} resources of {wanted.site.name}?", yes=yes)
        # Afterwards there is no project any more whose things could be asked for.
        strays = told(wanted.site, before)
        for sentence in emptied(wanted.site, given_up(plan, [*wanted.site.allow_destroy, *(allow or ())])):
            tell(sentence)
        stack.destroy(on_event=progress(verbose=verbose))
        after = sum(1 for each in stack.resources() if each.get("custom"))
        left = leftovers(before, files=stack.files, after=after, strays=strays)
    out.print(f"{wanted.site.name}: {changes} resources deleted in {time.monotonic() - began:.0f} s; what stays:")
    for each in left:
        out.print(f"  {each}")
