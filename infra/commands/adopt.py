"""``adopt``: take over what a tenant has already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import typer

from infra import service_user
from infra.adopt import ADOPTED, Import, plan, without, written
from infra.commands.options import Asked, JsonOption, SiteArgument, VerboseOption, YesOption, asked
from infra.commands.rollout import roll_out
from infra.commands.stacks import opened
from infra.console import out, print_json, table, tell
from infra.existing import in_openshift, in_openstack
from infra.failures import OperatorError
from infra.intents import PROJECT
from infra.spec import Site
from infra.spec.tenant import Tenant
from infra.stack import NoState, SiteStack

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Whose: a tenant of the site file.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("adopt")(adopt)


def adopt(
    site: SiteArgument,
    tenant: TenantArgument,
    *,
    as_json: JsonOption = False,
    yes: YesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Import what a tenant has in the clouds already, by the names that the site file gives, without making it anew.

    What is imported stays as it is, what is missing is made; what differs from the site file the next `preview` shows. Only the
    tenant's service user gets another password, and loses application credentials that the state does not have. With --json it
    is only listed. Exit status: 0 done, or nothing is to be done, else that of `up`.
    """
    wanted = asked(site, warn=False)
    owner = _tenant(wanted.site, tenant)
    if as_json:
        found = _found(wanted.site, owner, _resources(wanted))
        print_json({"site": wanted.site.name, "tenant": tenant, "imports": [each.document() for each in found]})
        return
    with opened(wanted, create=True) as stack:
        found = _found(wanted.site, owner, stack.resources())
        _show(found)
        if not found:
            return
        stack.intents.write(ADOPTED, written(found))
        try:
            roll_out(stack, yes=yes, verbose=verbose, first=lambda: _prepared(stack, owner, found))
        finally:
            _forget(stack, found)


def _found(site: Site, tenant: Tenant, resources: Iterable[Mapping[str, Any]]) -> list[Import]:
    return without(plan(site, tenant, in_openstack(site, tenant), in_openshift(site, tenant)), resources)


def _resources(wanted: Asked) -> list[dict[str, Any]]:
    """The state's; none where there is no state."""
    try:
        with opened(wanted, create=False, remember=False) as stack:
            return stack.resources()
    except NoState:
        return []


def _prepared(stack: SiteStack, tenant: Tenant, found: list[Import]) -> Iterator[str]:
    """What has to be right before the engine signs in as the tenant's service user."""
    user = service_user.of(tenant, found)
    if user:
        known = service_user.credentials(stack.resources())
        yield from service_user.made_own(stack.site, tenant, user, seed=stack.seed(), known=known)


def _forget(stack: SiteStack, found: list[Import]) -> None:
    """After a failure take the list away, but where the engine was stopped in the midst of it: the rest must not be made anew."""
    left = stack.config().get(f"{PROJECT}:{ADOPTED}")
    if left is None or stack.intents.open:  # all of it was done, or nothing was begun
        return
    rest = without(found, stack.resources())
    if 0 < len(rest) < len(found):
        tell(f"{len(rest)} of {len(found)} are not imported yet; the next run of this command, or of up, goes on")
    else:
        stack.remove_config(ADOPTED)


def _tenant(site: Site, name: str) -> Tenant:
    known = {each.name: each for each in site.tenants}
    if name not in known:
        raise OperatorError(f"the site has no tenant '{name}'", f"its tenants: {', '.join(sorted(known)) or 'none'}")
    return known[name]


def _show(found: list[Import]) -> None:
    shown = table("Type", "Name", "Id")
    for each in found:
        shown.add_row(each.kind.rpartition(":")[2], each.name, each.id)
    out.print(shown if found else "there is nothing that the state has not")
