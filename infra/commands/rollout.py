"""How clouds are made to match a site: recovered, planned, guarded, asked for, done.

All commands that make or change something go this way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from rich.console import Console

from infra import inventory_export
from infra.adopt import ADOPTED, known_left_out
from infra.commands.stacks import confirm, guard, progress, quarantined, show, show_lost, show_unseen, watched
from infra.console import out, tell
from infra.drift_store import mend, unseen
from infra.emptying import emptied
from infra.engine import cache
from infra.guards import SERVER, given_up
from infra.identity import require_same
from infra.intents import PROJECT
from infra.lost_members import lost_members
from infra.plan import Plan
from infra.policy.plaintext import in_state
from infra.quarantine import settle
from infra.recovery import recover
from infra.stack import SiteStack


def roll_out(
    stack: SiteStack,
    *,
    allow: Collection[str] = (),
    refresh: bool = True,
    yes: bool = False,
    verbose: bool = False,
    console: Console = out,
    first: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Make the clouds match the site of a stack, after a look by the guards.

    :param allow: patterns of what may be lost
    :param refresh: look at the clouds first, and repair what was changed by hand
    :param console: what shows the plan and the end
    :param first: done when it is agreed on, before the engine begins; sentences that tell it
    :raises Refused: by a guard
    :raises OperatorError: when not all of it was done
    """
    began = time.monotonic()
    site = stack.site
    require_same(site, stack.resources(), allowed=allow)
    for sentence in recover(stack):
        tell(sentence)
    forget_imports(stack)
    lost = lost_members(site, stack.resources()) if refresh else []
    past = [each.urn for each in lost]
    plan = Plan.of(stack.preview(refresh=refresh, past=past, on_event=watched(verbose=verbose)))
    guard(stack, plan, allow=allow, quarantined=quarantined(stack))
    changes = show(plan, console) + show_lost(lost, console)
    resources = stack.resources(secrets=True) if refresh else []
    to_mend = unseen(site, resources)
    changes += show_unseen(to_mend, console)
    if changes:
        confirm(f"Make these {changes} changes?", yes=yes)
    for sentence in first():
        tell(sentence)
    stack.forget(past)
    for sentence in mend(site, resources) if to_mend else ():
        tell(sentence)
    for sentence in emptied(site, given_up(plan, [*site.allow_destroy, *allow])):
        tell(sentence)
    # Without changes too: the outputs may be others. A second look at every resource would then find what the first has.
    stack.up(refresh=refresh and bool(changes or plan.moved(SERVER)), on_event=progress(verbose=verbose))
    forget_imports(stack, all_of_them=True)
    for sentence in (*settle(stack), *in_the_clear(stack)):
        tell(sentence)
    files = export(stack)
    console.print(f"{site.name}: {changes} changes made in {time.monotonic() - began:.0f} s; inventory in {files}")


def forget_imports(stack: SiteStack, *, all_of_them: bool = False) -> None:
    """Have the program take over only what the state has not: of the rest it would never change anything again."""
    text = stack.config().get(f"{PROJECT}:{ADOPTED}")
    if text is None:
        return
    rest = None if all_of_them else known_left_out(text, stack.resources())
    if rest is None:
        stack.remove_config(ADOPTED)
    elif rest != text:
        stack.set_config(ADOPTED, rest)


def in_the_clear(stack: SiteStack) -> list[str]:
    """Secrets that the state has in the clear. The policies look at what goes in; this at what came out."""
    found = in_state(stack.export().get("deployment") or {})
    return [f"warning: {urn.rpartition('::')[2]}: {path} is in the state in the clear; report it" for urn, path in found]


def export(stack: SiteStack) -> str:
    """Write the inventory that Ansible gets.

    :returns: its directory
    """
    directory = cache() / "pulumi" / "inventories" / stack.name
    inventory_export.write(stack.outputs(secrets=True), directory)
    return str(directory)
