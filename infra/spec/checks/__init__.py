"""What lies between the fields of a site file: names that collide, references that lead nowhere, sums that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

from infra.spec.checks import acls, addresses, clouds, daemon, names, queueing, references, resources, room, terms
from infra.spec.checks.found import Found, error
from infra.spec.site import Site

CHECKS: tuple[Callable[[Site], Iterator[Found]], ...] = (
    clouds.tenants_have_theirs,
    clouds.pools_have_theirs,
    names.of_tenants,
    names.within_tenants,
    names.of_pools,
    resources.are_told_apart,
    references.to_users,
    references.to_classes,
    references.to_security_groups,
    references.to_tenants,
    acls.name_what_is_there,
    references.to_storage_policies,
    addresses.overlap,
    addresses.open_ssh,
    room.gpus_work,
    room.quotas_fit,
    room.servers_fit,
    queueing.borrowing,
    queueing.shared_by_others,
    daemon.storage,
    daemon.tenant_and_image,
    daemon.containers,
    daemon.jobs_fit,
)


def contradictions(site: Site, *, name: str | None, today: date) -> Iterator[Found]:
    """Find what is wrong between fields.

    :param name: the name that the site must have; None: any
    :param today: the day that terms are compared with
    """
    if name is not None and site.name != name:
        cause = f"'{site.name}' is not the name of the directory, '{name}'"
        yield error(("name",), cause, "make them agree: stack and inventory are found by it"), (("name",),)
    for check in CHECKS:
        yield from check(site)
    yield from terms.past_or_too_long(site, today)
