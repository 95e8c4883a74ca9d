"""``preview``: what ``up`` would do."""

from __future__ import annotations

import typer

from infra.commands.options import AllowOption, JsonOption, RefreshOption, SiteArgument, VerboseOption, asked
from infra.commands.stacks import opened, quarantined, show, show_lost, show_unseen, watched
from infra.console import out, print_json
from infra.drift_store import unseen
from infra.failures import EXIT_REFUSED
from infra.guards import refusals, risks
from infra.lost_members import lost_members
from infra.plan import Plan
from infra.use import Clouds


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("preview")(preview)


def preview(
    site: SiteArgument,
    *,
    allow: AllowOption = None,
    refresh: RefreshOption = True,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show what `up` would do, and what the guards would refuse. Exit status 0: `up` would do it, 2: it would be refused."""
    wanted = asked(site, warn=not as_json)
    with opened(wanted, create=True) as stack:
        lost = lost_members(wanted.site, stack.resources()) if refresh else []
        past = [each.urn for each in lost]
        plan = Plan.of(stack.preview(refresh=refresh, past=past, on_event=watched(verbose=verbose)))
        dangers = risks(plan, allowed=[*wanted.site.allow_destroy, *(allow or ())], quarantined=quarantined(stack))
        resources = stack.resources(secrets=True) if refresh else []
    to_mend = unseen(wanted.site, resources)
    refused = refusals(Clouds(wanted.site).use(dangers))
    if as_json:
        changes = [{"op": each.op, "kind": each.kind, "name": each.name, "urn": each.urn} for each in plan.changes()]
        changes += [{"op": "create", "kind": each.kind, "name": each.name, "urn": each.urn} for each in lost]
        changes += [{"op": "update", "kind": each.kind, "name": each.name, "urn": each.urn} for each in to_mend]
        print_json({"site": wanted.site.name, "changes": changes, "refused": [each.document() for each in refused]})
    else:
        out.print(f"{wanted.site.name}: {show(plan) + show_lost(lost) + show_unseen(to_mend)} changes, {len(refused)} refused")
        for each in refused:
            out.print(f"  refused: {each.resource} {each.why}")
    raise typer.Exit(EXIT_REFUSED if refused else 0)
