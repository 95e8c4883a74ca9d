"""Who borrows from whom."""

from __future__ import annotations

from collections.abc import Iterator

from infra.spec.checks.found import Found, error, tenant_exists, warning
from infra.spec.cohorts import cohorts
from infra.spec.openshift import OpenShiftQuotas
from infra.spec.problems import Path
from infra.spec.queueing import Borrowing
from infra.spec.site import Site

BASE: Path = ("queueing", "borrowing")


def borrowing(site: Site) -> Iterator[Found]:
    """Each entry has two tenants of the cluster, and no more is borrowed than the lender has; each pair stands once."""
    tenants = {tenant.name: tenant for tenant in site.tenants}
    if site.queueing.kueue and not site.clouds.openshift:
        yield error(("queueing", "kueue"), "the site has no OpenShift", "set clouds.openshift, or kueue: false"), (("clouds",),)
    if site.queueing.borrowing and not site.queueing.kueue:
        fix = "install Kueue and set queueing.kueue: true, or remove the entries"
        yield error(BASE, "borrowing needs Kueue, and kueue is false", fix), (("queueing", "kueue"), BASE)
    pairs: dict[tuple[str, str], int] = {}
    for index, each in enumerate(site.queueing.borrowing):
        path: Path = (*BASE, index)
        for field, name in (("borrower", each.borrower), ("lender", each.lender)):
            yield from tenant_exists(tenants, name, (*path, field), on="openshift")
        if each.borrower == each.lender:
            yield error(path, f"'{each.borrower}' borrows from itself", "name another lender"), (path,)
        first = pairs.setdefault((each.borrower, each.lender), index)
        if first != index:
            cause = f"'{each.borrower}' borrows from '{each.lender}' in entry {first} too"
            yield error(path, cause, "add the amounts in one entry"), (BASE,)
        lender = tenants.get(each.lender)
        if lender and lender.openshift:
            yield from _lender_has(path, each, lender.openshift.quotas)


def _lender_has(path: Path, each: Borrowing, quotas: OpenShiftQuotas) -> Iterator[Found]:
    wanted: list[tuple[Path, int, int]] = [
        (("cpu",), each.amount.cpu, quotas.limits_cpu),
        (("memory_mib",), each.amount.memory_mib, quotas.limits_memory_mib),
    ]
    wanted += [(("gpus", product), count, quotas.gpus.get(product, 0)) for product, count in each.amount.gpus.items()]
    for field, want, own in wanted:
        if want > own:
            cause = f"{want} may be borrowed, and '{each.lender}' has {own} itself"
            yield error((*path, "amount", *field), cause, f"write {own} or less"), (("tenants", each.lender, "openshift"), path)


def shared_by_others(site: Site) -> Iterator[Found]:
    """Kueue shares within a cohort, so who is joined through others shares with them too."""
    edges = {(each.borrower, each.lender) for each in site.queueing.borrowing}
    for members in cohorts(site.queueing):
        borrowers = sorted({borrower for borrower, _ in edges} & members)
        lenders = sorted({lender for _, lender in edges} & members)
        for borrower in borrowers:
            for lender in lenders:
                if borrower != lender and (borrower, lender) not in edges:
                    cause = f"'{borrower}' can borrow from '{lender}' too: Kueue shares within a cohort, and others join the two"
                    yield warning(BASE, cause, "accept it, or part the entries"), (("queueing",),)
