"""Who shares with whom in Kueue."""

from __future__ import annotations

from collections import defaultdict

from infra.spec.queueing import Queueing


def cohorts(queueing: Queueing) -> list[frozenset[str]]:
    """Groups of tenants that borrowing joins, directly or through others, in a fixed order."""
    joined: dict[str, set[str]] = defaultdict(set)
    for each in queueing.borrowing:
        joined[each.borrower].add(each.lender)
        joined[each.lender].add(each.borrower)
    groups = []
    left = set(joined)
    while left:
        pending, group = [min(left)], set[str]()
        while pending:
            name = pending.pop()
            if name not in group:
                group.add(name)
                pending += joined[name]
        left -= group
        groups.append(frozenset(group))
    return groups
