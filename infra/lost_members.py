"""Memberships that somebody has ended in Keystone. Each look at the clouds would fail of them.

Asked for one that is not there, the OpenStack provider does not tell that it is gone: it ends with "Error retrieving
openstack_identity_user_membership_v3 ...: %!w(<nil>)". So Keystone is asked first, and the engine is told to look past them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from infra.clients import openstack_connection, sentences
from infra.drift import Finding, Verdict
from infra.drift_additions import MEMBERSHIP, held
from infra.failures import OperatorError
from infra.spec import Site


def lost_members(site: Site, resources: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Find memberships that the state has and Keystone has not; none where Keystone cannot be asked."""
    known = held(resources, MEMBERSHIP)
    if not known or not site.clouds.openstack:
        return []
    try:
        with sentences(), openstack_connection(site) as connection:
            there = members(connection.identity, {str(each.inputs["groupId"]) for each in known})
    except OperatorError:
        return []  # the engine asks next, and tells what is wrong of each resource
    return [
        Finding(verdict=Verdict.DRIFTED, kind="UserMembershipV3", name=each.name, why="gone from the cloud", urn=each.urn)
        for each in known
        if (each.inputs["groupId"], each.inputs["userId"]) not in there
    ]


def members(identity: Any, groups: Iterable[str]) -> set[tuple[str, str]]:
    """Ids of groups that are there, with those of their members."""
    return {
        (group, user.id)
        for group in groups
        if identity.find_group(group, ignore_missing=True)
        for user in identity.group_users(group)
    }
