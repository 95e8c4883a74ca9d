"""``drift``: whether the clouds match the site file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from infra.commands.options import Asked, JsonOption, SiteArgument, VerboseOption, asked
from infra.commands.stacks import opened, watched
from infra.console import out, print_json, table
from infra.drift import EXIT, Finding, Verdict, beside, judged, verdict
from infra.drift_additions import additions
from infra.drift_store import read_back
from infra.failures import EXIT_UNKNOWN, OperatorError
from infra.lost_members import lost_members
from infra.plan import Plan
from infra.stack import Incomplete, SiteStack


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("drift")(drift)


def drift(site: SiteArgument, *, as_json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Tell what in the clouds is not as the site file says. Read-only. Exit status 0: in step, 2: drifted, 3: unknown."""
    wanted = asked(site, warn=not as_json)
    with opened(wanted, create=False, remember=False) as stack:
        looked, findings = look(stack, wanted, verbose=verbose)
    answer = verdict(findings)
    if as_json:
        print_json(document(wanted, answer, looked, findings))
    else:
        show(wanted, answer, looked, findings)
    raise typer.Exit(EXIT[answer])


def look(stack: SiteStack, wanted: Asked, *, verbose: bool) -> tuple[int, list[Finding]]:
    """Look at everything.

    :returns: how many resources were looked at, and what was found
    """
    failed: list[Finding] = []
    lost = lost_members(wanted.site, stack.resources())
    past = [each.urn for each in lost]
    try:
        events = stack.preview(refresh=True, policies=False, past=past, on_event=watched(verbose=verbose))
    except Incomplete as error:
        events = error.events
        if not any("resOutputsEvent" in event for event in events):
            raise OperatorError(error.cause, error.fix, code=EXIT_UNKNOWN) from error
        failed = [Finding(verdict=Verdict.UNKNOWN, kind="", name="what was not looked at", why=str(error))]
    plan = Plan.of(events)
    found = judged(plan)
    if any(finding.verdict == Verdict.UNKNOWN for finding in found):
        failed = []
    resources = stack.resources(secrets=True)
    more = [*read_back(wanted.site, resources), *additions(wanted.site, resources)]
    return plan.looked_at + len(lost), [*found, *lost, *failed, *beside(found, more)]


def document(wanted: Asked, answer: Verdict, looked: int, findings: list[Finding]) -> Mapping[str, Any]:
    """The answer for programs."""
    return {
        "site": wanted.site.name,
        "verdict": str(answer),
        "looked_at": looked,
        "findings": [finding.document() for finding in findings],
    }


def show(wanted: Asked, answer: Verdict, looked: int, findings: list[Finding]) -> None:
    """The answer for people."""
    if findings:
        rows = table("Verdict", "Kind", "Name", "Why", "Field", "Found", "Wanted")
        for each in findings:
            rows.add_row(str(each.verdict), each.kind, each.name, each.why, each.field, each.found, each.wanted)
        out.print(rows)
    out.print(f"{wanted.site.name}: {answer}, {looked} resources looked at")
