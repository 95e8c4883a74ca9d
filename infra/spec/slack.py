"""How much a tenant may borrow and lend, of all its entries together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from infra.spec.queueing import Queueing, Slack


def borrowable(queueing: Queueing, tenant: str) -> Slack:
    """All that a tenant may use of others."""
    return _sum(each.amount for each in queueing.borrowing if each.borrower == tenant)


def lent(queueing: Queueing, tenant: str) -> Slack:
    """All that others may use of a tenant, when none of them uses any yet."""
    return _sum(each.amount for each in queueing.borrowing if each.lender == tenant)


def _sum(amounts: Iterable[Slack]) -> Slack:
    cpu = memory = 0
    gpus: Counter[str] = Counter()
    for each in amounts:
        cpu, memory = cpu + each.cpu, memory + each.memory_mib
        gpus.update(each.gpus)
    return Slack(cpu=cpu, memory_mib=memory, gpus=dict(gpus))
