"""Names in the ACLs of containers: they become ids, so they must be known. Ids are taken as they are."""

from __future__ import annotations

from collections.abc import Iterator

from infra.spec.checks.found import Found, error, listed
from infra.spec.problems import ITEMS, Path
from infra.spec.site import Site

TENANTS: tuple[Path, ...] = (("tenants", ITEMS),)


def name_what_is_there(site: Site) -> Iterator[Found]:
    """Each ``TENANT:USER`` names a tenant with a project on OpenStack, and a user of it."""
    for tenant in site.tenants:
        for container in tenant.containers:
            for kind, elements in (("read", container.read), ("write", container.write)):
                for index, element in enumerate(elements):
                    path: Path = ("tenants", tenant.name, "containers", container.name, kind, index)
                    yield from _element(site, path, element)


def _element(site: Site, path: Path, element: str) -> Iterator[Found]:
    if element.startswith(".") or ":" not in element:
        return
    owner, user = element.split(":")
    tenants = {tenant.name: tenant for tenant in site.tenants if tenant.openstack}
    if owner == "*" or is_id(owner):
        users = {each.name for tenant in tenants.values() for each in tenant.users}
    elif owner in tenants:
        users = {each.name for each in tenants[owner].users}
    else:
        cause = f"'{owner}' is no tenant with a project on OpenStack: {listed(tenants)}"
        yield error(path, cause, "name one of them, or the project's id"), TENANTS
        return
    if user != "*" and not is_id(user) and user not in users:
        cause = f"'{user}' is no user of {'any tenant' if owner == '*' else owner}: {listed(users)}"
        yield error(path, cause, "name one of them, the user's id, or '*'"), TENANTS


def is_id(text: str) -> bool:
    """Say whether a text is an id of Keystone: 32 hexadecimal digits, or 64 for users of LDAP and of federation."""
    return len(text) in (32, 64) and all(digit in "0123456789abcdef" for digit in text)
