"""How a check tells what it found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from infra.spec.problems import ITEMS, Path, Problem, Severity
from infra.spec.tenant import Tenant

Found = tuple[Problem, tuple[Path, ...]]
"""A problem, and the places that it rests on: it is not told where one of them is itself wrong."""


def error(path: Path, cause: str, fix: str) -> Problem:
    """Something that stops everything."""
    return Problem(path=path, cause=cause, fix=fix)


def warning(path: Path, cause: str, fix: str) -> Problem:
    """Something to be looked at."""
    return Problem(path=path, cause=cause, fix=fix, severity=Severity.WARNING)


def listed(values: Iterable[str]) -> str:
    """Names as people read them."""
    return ", ".join(sorted(values)) or "there is none"


def tenant_exists(tenants: dict[str, Tenant], name: str, path: Path, *, on: str | None) -> Iterator[Found]:
    """Check that a tenant that is named is there, and has a project on a cloud (``openstack``, ``openshift``)."""
    if name not in tenants:
        found = error(path, f"'{name}' is no tenant: {listed(tenants)}", "add the tenant, or name one of them")
        yield found, (("tenants", ITEMS), path)
    elif on and getattr(tenants[name], on) is None:
        cloud = {"openstack": "OpenStack", "openshift": "OpenShift"}[on]
        cause = f"the tenant '{name}' has no project on {cloud}"
        yield error(path, cause, f"set {on} of the tenant, or name another"), (("tenants", name, on), path)
