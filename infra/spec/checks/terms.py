"""Days on which something ends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from infra.spec.checks.found import Found, error, warning
from infra.spec.problems import Path
from infra.spec.site import Site

YEAR = timedelta(days=366)


def past_or_too_long(site: Site, today: date) -> Iterator[Found]:
    """Terms of tenants, and those of their credentials: ahead, by a year at most, and within the tenant's."""
    for tenant in site.tenants:
        base: Path = ("tenants", tenant.name)
        end = tenant.expires_at
        if end and end <= today:
            fix = "extend it, or let `python -m infra expire` quarantine the tenant"
            yield warning((*base, "expires_at"), f"the tenant's term ended on {end}", fix), (base,)
        credential = tenant.openstack.application_credential if tenant.openstack else None
        if credential is None or credential.expires_at is None:
            continue
        path: Path = (*base, "openstack", "application_credential", "expires_at")
        # No error: a file that was right yesterday must still serve to quarantine this tenant and to look after the others.
        if credential.expires_at <= today:
            cause = f"the credential ended on {credential.expires_at}"
            yield warning(path, cause, "set a day ahead; a new credential is made then"), (path,)
        elif credential.expires_at > today + YEAR:
            cause = f"{credential.expires_at} is more than a year ahead"
            yield error(path, cause, f"set {today + timedelta(days=365)} or sooner"), (path,)
        if end and today < end < credential.expires_at:
            cause = f"the credential is good until {credential.expires_at}, and the tenant until {end}"
            yield error(path, cause, f"set {end} or sooner"), (path, (*base, "expires_at"))
