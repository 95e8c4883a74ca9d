"""A tenant's service user that was there before the stack, made the stack's own.

Its password is derived from the stack's seed (``infra.tenant``), so after a lost one it has another; and of application
credentials that the state does not have nobody has the secret, while Keystone takes no second one of the name. The program
cannot set either right: it takes over what is there as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from infra.adopt import USER, Import
from infra.clients import openstack_connection, sentences
from infra.keys import derived, labelled
from infra.spec import Site
from infra.spec.tenant import Tenant

CREDENTIAL = "openstack:identity/applicationCredential:ApplicationCredential"


def of(tenant: Tenant, imports: Iterable[Import]) -> str | None:
    """The id of the tenant's service user, where it is to be taken over."""
    return next((each.id for each in imports if (each.kind, each.name) == (USER, f"{tenant.name}-service")), None)


def credentials(resources: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Ids of the application credentials that a state has."""
    return frozenset(str(each["id"]) for each in resources if each["type"] == CREDENTIAL and each.get("id"))


def made_own(
    site: Site,
    tenant: Tenant,
    user: str,
    *,
    seed: str,
    known: Collection[str],
    connect: Callable[[Site], Any] = openstack_connection,
) -> Iterator[str]:
    """Give the user the password that the program signs in with, and take the credentials from it that nobody can use.

    :param user: its id
    :param seed: the stack's
    :param known: ids of application credentials that the state has
    :returns: what was done, a sentence each
    :raises OperatorError: when Keystone does not do it
    """
    with sentences(f"the service user of {tenant.name}"):
        keystone = connect(site).identity
        keystone.update_user(user, password=derived(seed, labelled("service-user", tenant.name)))
        yield f"the service user of {tenant.name} has the password now that this stack gives it"
        for each in list(keystone.application_credentials(user)):
            if each.id not in known:
                keystone.delete_application_credential(user, each.id)
                yield f"deleted its application credential {each.name}, as nobody here has its secret; there is a new one"
