"""Delete a tenant that is in quarantine: what that costs, and the two runs that it takes.

Each run is an ``up`` of the whole site, so each goes through the guards, which let go what is the tenant's own and nothing else.

Swift deletes no container that has objects, and the provider empties one only when its state says that it may; so the first run
lets it, and the second one deletes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from infra.failures import EXIT_REFUSED, OperatorError
from infra.guards import Risk, shown
from infra.intents import PROJECT
from infra.quarantine import keep, marked
from infra.roster import PURGED, Mark, read_names
from infra.spec import names
from infra.stack import SiteStack
from infra.strays import strays
from infra.use import Clouds


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What goes with a tenant.

    :param amounts: how much of what
    :param foreign: data of it that the state does not know, in words: the tenant made it, and it would be left without an owner
    """

    amounts: Mapping[str, int]
    foreign: Sequence[str]

    def sentence(self) -> str:
        """It for people."""
        held = [f"{shown(count)} {what}" for what, count in self.amounts.items() if count]
        return ", ".join(held) or "nothing"


def going_on(stack: SiteStack, tenant: str) -> bool:
    """True when an earlier purge of the tenant was not finished."""
    return tenant in read_names(stack.config().get(f"{PROJECT}:{PURGED}"))


def permitted(stack: SiteStack, tenant: str, *, day: date, now: bool) -> Mark:
    """The mark of a tenant that may be deleted.

    :param now: do not wait for the end of the grace
    :raises OperatorError: when it may not
    """
    marks = marked(stack)
    if tenant in {each.name for each in stack.site.tenants}:
        raise OperatorError(f"{tenant} is in the site file", "take it out first, and run up: that puts it into quarantine")
    if tenant not in marks:
        known = ", ".join(sorted(name for name, mark in marks.items() if mark.record)) or "none"
        raise OperatorError(f"{tenant} is not in quarantine", f"tenants that may be purged: {known}")
    mark = marks[tenant]
    free = mark.grace(stack.site.quarantine_days)
    if day < free and not now:
        raise OperatorError(
            f"{tenant} is in quarantine since {mark.since}, and its grace ends on {free}",
            "wait, or give --now",
            code=EXIT_REFUSED,
        )
    return mark


def cost(stack: SiteStack, tenant: str, mark: Mark) -> Cost:
    """Ask the clouds what goes with a tenant.

    :raises OperatorError: when they cannot tell
    """
    project = ((stack.outputs().get("identity") or {}).get("projects") or {}).get(tenant)
    risks = []
    if project:
        risks.append(Risk(resource=f"tenant/{tenant}", tenant=tenant, subject="project", id=project))
    if mark.record and mark.record.tenant.openshift and stack.site.clouds.openshift:
        namespace = names.namespace(mark.record.tenant)
        risks.append(Risk(resource=f"tenant/{tenant}", tenant=tenant, subject="namespace", id=namespace))
    amounts: dict[str, int] = {}
    for _, use in Clouds(stack.site).use(risks):
        if use.unknown:
            raise OperatorError(f"what {tenant} holds cannot be told: {use.unknown}", f"see: python -m infra doctor {stack.name}")
        amounts |= {what: int(count) for what, count in use.amounts.items()}
    foreign = [str(each) for each in strays(stack.site, stack.resources()) if each.data and each.tenant == tenant]
    return Cost(amounts=amounts, foreign=foreign)


def delete(stack: SiteStack, tenant: str, up: Callable[[], object]) -> None:
    """Delete a tenant with all that it has. What was begun is gone on with.

    :param up: makes the clouds match the stack, under its guards
    :raises OperatorError: when not all of it was done
    """
    marks = marked(stack)
    if tenant in marks:
        keep(stack, {**marks, tenant: marks[tenant].model_copy(update={"emptied": True})})
        up()
        going = sorted({*read_names(stack.config().get(f"{PROJECT}:{PURGED}")), tenant})
        stack.intents.write(PURGED, json.dumps(going))
        keep(stack, {name: mark for name, mark in marks.items() if name != tenant})
    up()
    rest = [name for name in read_names(stack.config().get(f"{PROJECT}:{PURGED}")) if name != tenant]
    if rest:
        stack.set_config(PURGED, json.dumps(rest))
    else:
        stack.remove_config(PURGED)
