"""All that a site has in its clouds, put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pulumi

from infra.adopt import take_over
from infra.daemon import DaemonArgs, DaemonPrerequisites
from infra.failures import OperatorError
from infra.inventory_export import Inventory
from infra.keys import Keys
from infra.node_pool import NodePool, NodePoolArgs
from infra.object_store import ObjectStore, ObjectStoreArgs
from infra.openshift_project import OpenShiftProject, OpenShiftProjectArgs
from infra.providers import CloudEntry, Clouds, refuse_ambient_credentials
from infra.queueing import Queueing, QueueingArgs
from infra.roster import MARKS, PURGED, Mark, Roster, lost, read_marks, read_names, records, roster
from infra.spec import Severity, Site, SiteError, load
from infra.tenant import Tenant, TenantArgs


def run(root: Path) -> None:
    """Deploy the stack's site: what the Pulumi program does.

    :param root: the repository
    :raises pulumi.RunError: with text for people
    """
    config = pulumi.Config("pfmoc")
    file = root / (config.get("site") or f"inventories/{pulumi.get_stack()}/site.yml")
    try:
        site, warnings = load(file)
    except SiteError as error:
        raise pulumi.RunError(str(error)) from None
    for problem in warnings:
        if problem.severity == Severity.WARNING:
            pulumi.log.warn(problem.text().removeprefix("warning: "))
    entry = None
    if site.clouds.openstack:
        refuse_ambient_credentials(os.environ)
        entry = CloudEntry.read(site.clouds.openstack)
    whole = _whole(site, config)
    take_over(config)
    for name, value in deploy(whole.site, entry=entry, keys=Keys.of_stack(config), quarantined=whole.closed).items():
        pulumi.export(name, value)


def _whole(site: Site, config: pulumi.Config) -> Roster:
    """The site with the tenants that have left it, which the state still has."""
    stack = pulumi.get_stack()
    try:
        marks, purged = read_marks(config.get(MARKS)), read_names(config.get(PURGED))
        found = roster(site, marks, purged)
    except OperatorError as error:
        raise pulumi.RunError(str(error)) from None
    gone = lost(_outputs(stack).get("tenants") or {}, site, marks, purged)
    if gone:
        raise pulumi.RunError(
            f"{', '.join(gone)} left the site file, and would be deleted with all data;"
            f" put it back, or run `python -m infra up {stack}`, which quarantines it"
        )
    return found


def _outputs(stack: str) -> dict[str, Any]:
    """The stack's outputs of the last run. Only the engine can read them, and a StackReference tells them too late to decide what
    is made.
    """
    reference = {"name": f"{pulumi.get_organization()}/{pulumi.get_project()}/{stack}"}
    return dict((pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", reference).value or {}).get("outputs") or {})


@dataclass
class Deployment:
    """What was made, by name."""

    tenants: dict[str, Tenant] = field(default_factory=dict)
    projects: dict[str, OpenShiftProject] = field(default_factory=dict)
    pools: dict[str, NodePool] = field(default_factory=dict)


def deploy(
    site: Site,
    *,
    entry: CloudEntry | None,
    keys: Keys,
    today: date | None = None,
    quarantined: Mapping[str, Mark] = MappingProxyType({}),
) -> dict[str, pulumi.Input[object]]:
    """Make everything of a site.

    :param entry: how to reach its OpenStack; None where it has none
    :param keys: what passwords and signing keys are derived from
    :param today: the day that terms begin; today (UTC)
    :param quarantined: tenants that keep all they have, and that nobody can use
    :returns: the stack's outputs
    """
    today = today or datetime.now(UTC).date()
    clouds = Clouds(site.clouds, entry)
    made = Deployment()
    for tenant in site.tenants:
        closed = quarantined.get(tenant.name)
        if tenant.openstack and clouds.openstack:
            wanted = TenantArgs(tenant=tenant, site=site.name, cloud=clouds.openstack, keys=keys, today=today, quarantined=closed)
            made.tenants[tenant.name] = Tenant(tenant.name, wanted)
        if tenant.openshift and clouds.openshift:
            project = OpenShiftProjectArgs(tenant=tenant, site=site, cloud=clouds.openshift, quarantined=closed is not None)
            made.projects[tenant.name] = OpenShiftProject(tenant.name, project)
    for tenant in site.tenants:
        if clouds.openstack and tenant.name in made.tenants and "object-store" in clouds.openstack.spec.services:
            closed = quarantined.get(tenant.name)
            store = ObjectStoreArgs(tenant=tenant, tenants=made.tenants, cloud=clouds.openstack, keys=keys, quarantined=closed)
            ObjectStore(tenant.name, store)
    for pool in site.node_pools:
        owner = made.tenants.get(pool.tenant or "")
        arguments = NodePoolArgs(pool=pool, clouds=clouds, owner=owner, quarantined=pool.tenant in quarantined)
        made.pools[pool.name] = NodePool(pool.name, arguments)
    if clouds.openshift:
        Queueing(site.name, QueueingArgs(site=site, cloud=clouds.openshift, projects=made.projects))
    daemon = _daemon(site, clouds, made, keys)
    cluster = clouds.openshift.cluster_uid() if clouds.openshift else None
    inventory = Inventory(
        site=site, tenants=made.tenants, projects=made.projects, pools=made.pools, daemon=daemon, cluster=cluster
    )
    return {**inventory.outputs(), "tenants": records(site, quarantined)}


def _daemon(site: Site, clouds: Clouds, made: Deployment, keys: Keys) -> DaemonPrerequisites | None:
    if site.daemon.tenant is None:
        return None
    name = site.daemon.tenant
    arguments = DaemonArgs(
        site=site,
        clouds=clouds,
        tenant=made.tenants.get(name),
        project=made.projects.get(name),
        keys=keys,
    )
    return DaemonPrerequisites("daemon", arguments)
