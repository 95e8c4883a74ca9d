"""Memberships that somebody has ended, which the provider cannot tell."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from fakes.engine import urn
from keystoneauth1.exceptions import ClientException

from infra import lost_members

MEMBERSHIP = "openstack:identity/userMembershipV3:UserMembershipV3"


def membership(name, user, group):
    inputs = {"userId": user, "groupId": group}
    return {"urn": urn(MEMBERSHIP, name), "type": MEMBERSHIP, "id": f"{user}/{group}", "inputs": inputs}


class Identity:
    """Keystone with a group that has one member."""

    def find_group(self, group, *, ignore_missing):
        assert ignore_missing
        return SimpleNamespace(id=group) if group == "there" else None

    def group_users(self, group):
        assert group == "there"
        return [SimpleNamespace(id="ann")]


@pytest.fixture(autouse=True)
def keystone(monkeypatch):
    connection = SimpleNamespace(identity=Identity())
    monkeypatch.setattr(lost_members, "openstack_connection", lambda _: nullcontext(connection))


def test_who_is_no_longer_a_member_is_found_and_so_is_whose_group_is_gone(read, document):
    site = read(document)[0]
    state = [membership("stays", "ann", "there"), membership("left", "bob", "there"), membership("alone", "ann", "gone")]
    found = lost_members.lost_members(site, state)
    assert [(each.name, each.why, each.urn) for each in found] == [
        ("left", "gone from the cloud", state[1]["urn"]),
        ("alone", "gone from the cloud", state[2]["urn"]),
    ]


def test_a_keystone_that_cannot_be_asked_is_left_to_the_engine(read, document, monkeypatch):
    def refused(_):
        raise ClientException("no")

    monkeypatch.setattr(lost_members, "openstack_connection", refused)
    assert lost_members.lost_members(read(document)[0], [membership("left", "bob", "there")]) == []


def test_where_there_are_none_nobody_is_asked(read, document, monkeypatch):
    monkeypatch.setattr(lost_members, "openstack_connection", pytest.fail)
    assert lost_members.lost_members(read(document)[0], []) == []
