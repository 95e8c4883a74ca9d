"""A tenant's Swift account and containers.

Not managed here: objects; the hidden containers that versioning makes. Swift has no expiry for a whole container: the days are
written into the container's metadata, and pfmoc puts them on each output of a job.

The provider does not read a container's metadata back, so a refresh does not see quotas and keys that were changed by hand; the
operators' ``drift`` reads them itself. Nor does it remove keys that are no longer named, so all of ours are always sent, empty
where there is nothing: that is how Swift removes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_openstack import objectstorage

from infra.keys import Keys
from infra.providers import OpenStack
from infra.roster import Mark
from infra.spec.checks.acls import is_id
from infra.spec.containers import Container, TempUrl
from infra.spec.tenant import Tenant as TenantSpec
from infra.tenant import Tenant

SLOTS = 2
"""Temporary URL keys that Swift keeps for a container: Temp-URL-Key and Temp-URL-Key-2."""


@dataclass(frozen=True, kw_only=True)
class ObjectStoreArgs:
    """Whose containers.

    :param tenants: all that have a project on OpenStack, by name: ACLs name them
    :param quarantined: nothing more may be written, and no signature opens anything; containers that are emptied may be deleted
        with what is in them
    """

    tenant: TenantSpec
    tenants: Mapping[str, Tenant]
    cloud: OpenStack
    keys: Keys
    quarantined: Mark | None = None


class ObjectStore(pulumi.ComponentResource):
    """Account quota and containers."""

    containers: dict[str, objectstorage.Container]

    def __init__(self, name: str, args: ObjectStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:ObjectStore", name, None, opts)
        owner, spec = args.tenants[args.tenant.name], args.tenant.openstack
        limit = spec.quotas.object_bytes if spec else None
        self.account = None
        # An account without a limit gets none in quarantine: the provider leaves it there when the resource goes again.
        if limit is not None:
            # One byte and not none: Ceph's gateway, which speaks Swift at NERC, takes 0 for no limit.
            self.account = objectstorage.AccountV1(
                name,
                project_id=owner.project_id,
                metadata={"Quota-Bytes": "1" if args.quarantined else str(limit)},
                opts=pulumi.ResourceOptions(parent=self, provider=args.cloud.admin),
            )
        self.containers = {
            each.name: objectstorage.Container(
                f"{name}-{each.name}",
                name=each.name,
                storage_policy=each.storage_policy,
                container_read=_acl(each.read, args.tenants),
                container_write=_acl(each.write, args.tenants),
                versioning=each.versioning,
                metadata=_metadata(each, args),
                force_destroy=args.quarantined is not None and args.quarantined.emptied,
                opts=pulumi.ResourceOptions(
                    parent=self, provider=owner.provider, depends_on=[self.account] if self.account else None
                ),
            )
            for each in args.tenant.containers
        }
        self.register_outputs({"containers": sorted(self.containers)})


def _metadata(container: Container, args: ObjectStoreArgs) -> dict[str, pulumi.Input[str]]:
    def text(number: int | None) -> str:
        return "" if number is None else str(number)

    metadata: dict[str, pulumi.Input[str]] = {
        "Pfmoc-Tenant": args.tenant.name,
        "Pfmoc-Expire-After-Days": text(container.expire_after_days),
        "Quota-Bytes": text(container.quota_bytes),
        "Quota-Count": text(container.quota_objects),
    }
    for slot in range(SLOTS):
        name = "Temp-Url-Key" if slot == 0 else f"Temp-Url-Key-{slot + 1}"
        # Addresses that were signed before would still open what is closed. The keys are derived, so a release brings them back.
        generation = None if args.quarantined else in_slot(container.tempurl, slot)
        metadata[name] = args.keys.derive("tempurl", args.tenant.name, container.name, generation) if generation else ""
    return metadata


def in_slot(tempurl: TempUrl | None, slot: int) -> int | None:
    """The generation of the key in a slot, 0 or 1; None when it is empty. Generations take the slots in turn, so that the last
    one stays while the newest is already there.
    """
    if tempurl is None:
        return None
    newest = tempurl.generation
    generation = newest if (newest - 1) % SLOTS == slot else newest - 1
    return generation or None


def signing_slot(tempurl: TempUrl) -> int:
    """The slot of the key that signs today."""
    return (tempurl.generation - 1) % SLOTS


def _acl(elements: tuple[str, ...], tenants: Mapping[str, Tenant]) -> pulumi.Output[str] | None:
    """Write an ACL with ids for names: with names Swift would not match tokens of other domains than the default one."""
    if not elements:
        return None
    return pulumi.Output.all(*(_element(each, tenants) for each in elements)).apply(",".join)


def _element(text: str, tenants: Mapping[str, Tenant]) -> pulumi.Input[str]:
    if text.startswith(".") or ":" not in text:
        return text
    owner, user = text.split(":")
    owner_id: pulumi.Input[str] = tenants[owner].project_id if owner in tenants else owner
    user_id: pulumi.Input[str] = user
    if user != "*" and not is_id(user):
        candidates = [tenants[owner]] if owner in tenants else list(tenants.values())
        user_id = next(each.user_ids[user] for each in candidates if user in each.user_ids)
    return pulumi.Output.concat(owner_id, ":", user_id)
