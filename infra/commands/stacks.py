"""How the commands open a stack, show what the engine does, and ask before it does it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from infra import quarantine
from infra.commands.options import Asked
from infra.console import err, out, table, tell
from infra.drift import Finding
from infra.guards import Refused, refusals, risks
from infra.plan import Plan
from infra.progress import Progress
from infra.stack import SiteStack, open_stack
from infra.use import Clouds

SYMBOLS = {"create": "+", "import": "=", "update": "~", "replace": "+-", "delete": "-"}


@contextmanager
def opened(wanted: Asked, *, create: bool, remember: bool = True) -> Iterator[SiteStack]:
    """Open a site's stack; tell the operator what that made. What is meant to be done and not begun is forgotten at the end.

    :param create: make the stack where it is not there
    :param remember: put into the configuration what the program has to know of earlier site files
    """
    with open_stack(wanted.site, wanted.file, create=create, tell=tell, on_interrupt=interrupted) as stack:
        if remember:
            for sentence in quarantine.remember(stack):
                tell(sentence)
        yield stack


def interrupted(times: int) -> None:
    """Tell the operator that a signal was heard."""
    err.print(
        "ending: the engine finishes what it is doing; twice more ends it at once"
        if times == 1
        else "the engine was told already"
    )


def quarantined(stack: SiteStack) -> frozenset[str]:
    """Tenants whose quotas go to zero on purpose."""
    return quarantine.quarantined(stack)


def watched(*, verbose: bool) -> Progress | None:
    """What shows a look: nothing, unless all is to be shown."""
    return progress(verbose=True) if verbose else None


def progress(*, verbose: bool) -> Progress:
    """What shows an operation as it happens."""
    return Progress(err.print, verbose=verbose)


def guard(stack: SiteStack, plan: Plan, *, allow: Iterable[str], quarantined: frozenset[str] = frozenset()) -> None:
    """Refuse a plan that would cost data or cut off what is in use.

    :raises Refused: with the numbers
    """
    dangers = risks(plan, allowed=[*stack.site.allow_destroy, *allow], quarantined=quarantined)
    found = refusals(Clouds(stack.site).use(dangers))
    if found:
        raise Refused(found)


def show(plan: Plan, console: Console = out) -> int:
    """Show what a plan changes.

    :returns: how many resources
    """
    rows = table("", "Kind", "Name", "Fields")
    count = 0
    for step in plan.changes():
        rows.add_row(SYMBOLS.get(step.op, step.op), step.kind, step.name, ", ".join(path for path, _, _ in step.differences()))
        count += 1
    if count:
        console.print(rows)
    return count


def show_lost(findings: Collection[Finding], console: Console = out) -> int:
    """Show memberships that are made again, which no plan has.

    :param console: what shows it
    :returns: how many
    """
    for finding in findings:
        console.print(f"+ {finding.kind} {finding.name}: {finding.why}")
    return len(findings)


def show_unseen(findings: Collection[Finding], console: Console = out) -> int:
    """Show what is mended in Swift, which no plan has.

    :param console: what shows it
    :returns: how many containers and accounts
    """
    if findings:
        console.print(f"~ of Swift's metadata: {', '.join(finding.name for finding in findings)}")
    return len(findings)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is done; without somebody to ask, `--yes` is needed.

    :raises typer.Exit: when the answer is no
    """
    if yes:
        return
    if not sys.stdin.isatty():
        err.print("error: nobody is there to be asked; give --yes")
        raise typer.Exit(1)
    if not typer.confirm(question):
        raise typer.Exit(1)
