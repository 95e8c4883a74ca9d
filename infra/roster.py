"""Which tenants a stack has: those of the site file, and those that have left it and are in quarantine.

A tenant that leaves the file is not deleted: its last form is in the stack's outputs (``tenants``), from where the operator's
commands put it into the stack's configuration (``pfmoc:quarantine``), and the program goes on with it, closed. The program
refuses to run where a tenant is in neither, so that nobody's data go because a line is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from infra.failures import OperatorError
from infra.spec import Problem, Severity, Site
from infra.spec.base import Model
from infra.spec.checks import names, resources
from infra.spec.node_pools import NodePool
from infra.spec.tenant import Tenant

MARKS, PURGED = "quarantine", "purge"
"""Keys of the stack's configuration."""


class InUse(Model):
    """What of a tenant's quotas is in use: a quota cannot be less than that, as Nova and Neutron refuse it."""

    compute: Mapping[str, int] = Field(default_factory=dict)
    volume: Mapping[str, int] = Field(default_factory=dict)
    network: Mapping[str, int] = Field(default_factory=dict)
    load_balancer: Mapping[str, int] = Field(default_factory=dict)


class Record(Model):
    """A tenant as it was, with the pools whose servers are in its project."""

    tenant: Tenant
    node_pools: tuple[NodePool, ...] = ()


class Mark(Model):
    """A tenant is in quarantine.

    :param since: first day of it
    :param reason: why: the operator asked for it, the term ended, or the tenant left the site file
    :param record: its last form, where the site file has it no more
    :param emptied: its containers go with what is in them
    """

    since: date
    reason: Literal["asked", "expired", "removed"]
    in_use: InUse = InUse()
    record: Record | None = None
    emptied: bool = False

    def grace(self, days: int) -> date:
        """The day from which the tenant may be deleted without being asked twice."""
        return self.since + timedelta(days=days)


Marks = Mapping[str, Mark]
_MARKS: TypeAdapter[dict[str, Mark]] = TypeAdapter(dict[str, Mark])
_NAMES: TypeAdapter[list[str]] = TypeAdapter(list[str])


def read_marks(text: str | None) -> dict[str, Mark]:
    """Read what the stack's configuration says of quarantine.

    :raises OperatorError: when it is not what was written there
    """
    try:
        return _MARKS.validate_json(text) if text else {}
    except ValidationError as error:
        first = error.errors()[0]
        raise OperatorError(
            f"the stack's configuration pfmoc:{MARKS} cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "put its last good form back: pulumi config",
        ) from error


def write_marks(marks: Marks) -> str:
    """Write them for the stack's configuration."""
    return _MARKS.dump_json(dict(sorted(marks.items())), exclude_defaults=True, by_alias=True).decode()


def read_names(text: str | None) -> list[str]:
    """Read a list of names from the stack's configuration."""
    return _NAMES.validate_json(text) if text else []


@dataclass(frozen=True, kw_only=True)
class Roster:
    """The site with all tenants that the stack has.

    :param closed: those in quarantine
    """

    site: Site
    closed: Marks


def roster(site: Site, marks: Marks, purged: Iterable[str] = ()) -> Roster:
    """Add to a site the tenants that have left it.

    :raises OperatorError: when one of them stands in the way of a tenant of the file
    """
    present = {tenant.name for tenant in site.tenants}
    gone = {name: mark.record for name, mark in marks.items() if mark.record and name not in present and name not in set(purged)}
    closed = {name: mark for name, mark in marks.items() if name in gone or (name in present and mark.reason != "removed")}
    pools = {pool.name for pool in site.node_pools}
    more = [pool for record in gone.values() for pool in record.node_pools if pool.name not in pools]
    whole = site.model_copy(
        update={
            "tenants": tuple(
                alone(tenant) if tenant.name in closed else tenant
                for tenant in (*site.tenants, *(record.tenant for record in gone.values()))
            ),
            "node_pools": (*site.node_pools, *more),
        }
    )
    problem = next(_collisions(whole), None) if gone else None
    if problem:
        left = ", ".join(sorted(gone))
        raise OperatorError(
            f"a tenant that left the site file is still there ({left}): {problem.where}: {problem.cause}",
            f"choose another name, or delete the old one first: python -m infra purge {site.name} TENANT",
        )
    return Roster(site=whole, closed=closed)


def alone(tenant: Tenant) -> Tenant:
    """A tenant whose containers nobody else may use: in quarantine, and so that no other tenant must be there for it."""
    return tenant.model_copy(
        update={"containers": tuple(each.model_copy(update={"read": (), "write": ()}) for each in tenant.containers)}
    )


def records(site: Site, closed: Marks) -> dict[str, Any]:
    """The stack's output ``tenants``: each as it is now, for the day on which the file has it no more."""
    found = {}
    for tenant in site.tenants:
        pools = tuple(pool for pool in site.node_pools if pool.source == "nova" and pool.tenant == tenant.name)
        document: dict[str, Any] = Record(tenant=tenant, node_pools=pools).model_dump(mode="json", exclude_defaults=True)
        if tenant.name in closed:
            document["quarantined_since"] = closed[tenant.name].since.isoformat()
        found[tenant.name] = document
    return found


def read_record(document: Mapping[str, Any]) -> Record:
    """Read a tenant from the stack's outputs.

    :raises OperatorError: when this version of the kit does not know its form
    """
    try:
        return Record.model_validate({key: value for key, value in document.items() if key != "quarantined_since"})
    except ValidationError as error:
        first = error.errors()[0]
        raise OperatorError(
            f"the state holds a tenant in a form that is not known here: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "use the version of the kit that made it, or put the tenant back into the site file",
        ) from error


def lost(previous: Iterable[str], site: Site, marks: Marks, purged: Iterable[str] = ()) -> list[str]:
    """Tenants that the state has, and neither the file nor the quarantine: they would be deleted."""
    kept = {tenant.name for tenant in site.tenants} | {name for name, mark in marks.items() if mark.record} | set(purged)
    return sorted(set(previous) - kept)


def _collisions(site: Site) -> Iterator[Problem]:
    return (
        problem
        for check in (names.of_tenants, names.of_pools, resources.are_told_apart)
        for problem, _ in check(site)
        if problem.severity == Severity.ERROR
    )
