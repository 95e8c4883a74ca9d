"""What the engine does not see: what Swift says of containers, and what somebody has added."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fakes.engine import urn

from infra import drift_additions, drift_store
from infra.drift import HIDDEN, MISSING, Finding, Verdict, beside
from infra.drift_additions import additions, grants, members, objects, rules
from infra.drift_store import Kept, compared, kept, mend, unseen
from infra.failures import OperatorError

PROJECT = "openstack:identity/project:Project"
CONTAINER = "openstack:objectstorage/container:Container"
ACCOUNT = "openstack:objectstorage/accountV1:AccountV1"
NAMESPACE = "kubernetes:core/v1:Namespace"


def resource(kind: str, name: str, **more):
    return {"urn": urn(kind, name), "type": kind, **more}


def sealed(text: str) -> dict[str, str]:
    return {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": json.dumps(text)}


METADATA = {"Pfmoc-Tenant": "chris", "Quota-Bytes": "100", "Temp-Url-Key": sealed("k1"), "Temp-Url-Key-2": ""}
STATE = [
    resource(PROJECT, "chris", id="p1"),
    resource(CONTAINER, "chris-data", inputs={"name": "data", "metadata": METADATA, "containerRead": "p2:*,.rlistings"}),
    resource(ACCOUNT, "chris", inputs={"projectId": "p1", "metadata": {"Quota-Bytes": "9"}}),
]
AS_APPLIED = {
    "x-container-meta-pfmoc-tenant": "chris",
    "x-container-meta-quota-bytes": "100",
    "x-container-meta-temp-url-key": "k1",
    "x-container-read": ".rlistings,p2:*",
}


def test_what_swift_should_have_is_found_in_the_state():
    container, account = kept(STATE)
    assert container == Kept(
        urn=urn(CONTAINER, "chris-data"),
        project="p1",
        container="data",
        metadata={"Pfmoc-Tenant": "chris", "Quota-Bytes": "100", "Temp-Url-Key": "k1", "Temp-Url-Key-2": ""},
        acls={"containerRead": "p2:*,.rlistings", "containerWrite": ""},
    )
    assert account == Kept(urn=urn(ACCOUNT, "chris"), project="p1", container="", metadata={"Quota-Bytes": "9"}, acls={})
    assert (container.resource, account.resource) == ("chris-data", "chris")


def test_of_a_change_that_failed_the_new_values_are_what_swift_should_have():
    before = {"name": "data", "metadata": METADATA, "containerRead": "p2:*"}
    tried = before | {"metadata": METADATA | {"Quota-Bytes": "200"}, "containerRead": None}
    (container,) = kept([STATE[0], resource(CONTAINER, "chris-data", inputs=before, outputs=tried)])
    assert (container.metadata["Quota-Bytes"], container.acls["containerRead"]) == ("200", "")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, set()),
        ({"x-container-meta-quota-bytes": "7"}, {("metadata.Quota-Bytes", "7", "100")}),
        ({"x-container-meta-quota-bytes": ""}, {("metadata.Quota-Bytes", MISSING, "100")}),
        ({"x-container-meta-temp-url-key": "stolen"}, {("metadata.Temp-Url-Key", HIDDEN, HIDDEN)}),
        ({"x-container-meta-temp-url-key-2": "mine"}, {("metadata.Temp-Url-Key-2", HIDDEN, MISSING)}),
        # The provider goes on believing in an ACL that is gone.
        ({"x-container-read": ""}, {("containerRead", MISSING, "p2:*,.rlistings")}),
        ({"x-container-read": "p2:*"}, {("containerRead", "p2:*", "p2:*,.rlistings")}),
        ({"x-container-write": "p9:*"}, {("containerWrite", "p9:*", MISSING)}),
    ],
)
def test_what_swift_has_is_compared_and_keys_are_not_shown(changes, found):
    told = compared(kept(STATE)[0], {**AS_APPLIED, **changes})
    assert {(each.field, each.found, each.wanted) for each in told} == found
    assert {each.urn for each in told} <= {urn(CONTAINER, "chris-data")}


class SwiftInMemory:
    """An account with one container, as the operator sees it."""

    def __init__(self, container, account) -> None:
        self.container, self.account = dict(container), dict(account)

    def head_container(self, _):
        return self.container

    def head_account(self):
        return self.account

    def post_container(self, _, headers):
        self.container |= {name.lower(): value for name, value in headers.items()}

    def post_account(self, headers):
        self.account |= {name.lower(): value for name, value in headers.items()}


@pytest.fixture
def swift(monkeypatch):
    made = SwiftInMemory(AS_APPLIED, {"x-account-meta-quota-bytes": "9"})
    monkeypatch.setattr(drift_store, "openstack_connection", lambda _: None)
    monkeypatch.setattr(drift_store, "swift_connection", lambda *_: made)
    return made


def test_an_acl_that_was_taken_away_is_given_back(swift):
    assert unseen(None, STATE) == []
    assert mend(None, STATE) == []
    swift.container |= {"x-container-read": "", "x-container-write": "p9:*"}
    assert [each.name for each in unseen(None, STATE)] == ["chris-data"]
    assert mend(None, STATE) == ["mended chris-data: containerRead, containerWrite"]
    assert (swift.container["x-container-read"], swift.container["x-container-write"]) == ("p2:*,.rlistings", "")
    assert unseen(None, STATE) == []


def test_what_two_looks_see_is_told_once():
    known = Finding(
        verdict=Verdict.DRIFTED, kind="Container", name="chris-data", why="changed in the cloud", field="containerRead"
    )
    again = [known, Finding(verdict=Verdict.DRIFTED, kind="Container", name="chris-data", why="", field="metadata.Quota-Bytes")]
    assert beside([known], again) == again[1:]


GROUP = "openstack:networking/secGroup:SecGroup"
OURS = [
    resource(PROJECT, "chris", id="p1", inputs={}),
    resource(GROUP, "chris-web", id="g1", inputs={}),
    resource("openstack:networking/secGroupRule:SecGroupRule", "chris-web-0", id="r1", inputs={}),
    resource("openstack:identity/groupV3:GroupV3", "chris-member", id="k1", inputs={}),
    resource(
        "openstack:identity/userMembershipV3:UserMembershipV3",
        "chris-member-ann",
        id="u1/k1",
        inputs={"userId": "u1", "groupId": "k1"},
    ),
    resource(
        "openstack:identity/roleAssignment:RoleAssignment",
        "chris-member",
        id="/p1/k1//m",
        inputs={"groupId": "k1", "projectId": "p1", "roleId": "m"},
    ),
    resource(NAMESPACE, "chris", id="chris-ns", inputs={}),
    resource(NAMESPACE, "kube-system", id="kube-system", inputs={}),
    resource("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", "chris-edit", id="chris-ns/edit", inputs={}),
    resource("kubernetes:networking.k8s.io/v1:NetworkPolicy", "chris-default-deny", id="chris-ns/default-deny", inputs={}),
]


def rule(id_, direction="ingress", protocol=None, port=None, cidr=None, group=None):
    return SimpleNamespace(
        id=id_,
        direction=direction,
        ether_type="IPv4",
        protocol=protocol,
        port_range_min=port,
        port_range_max=port,
        remote_ip_prefix=cidr,
        remote_group_id=group,
    )


def told(findings):
    listed = list(findings)
    assert {(each.verdict, each.why) for each in listed} == {(Verdict.DRIFTED, "added in the cloud")}
    return [(each.kind, each.name, each.field, each.found) for each in listed]


def test_a_rule_that_opens_ssh_to_the_world_is_told():
    there = [rule("r1", protocol="icmp"), rule("n1", "egress"), rule("x", protocol="tcp", port=22, cidr="0.0.0.0/0")]
    asked = []

    def listed(security_group_id):
        asked.append(security_group_id)
        return there

    network = SimpleNamespace(security_group_rules=listed)
    assert told(rules(network, OURS)) == [("SecGroup", "chris-web", "rules", "ingress IPv4 tcp 22 0.0.0.0/0 (x)")]
    assert asked == ["g1"]
    there[2:] = [rule("y", "egress", cidr="10.0.0.0/8"), rule("z", group="g9")]
    assert [text for *_, text in told(rules(network, OURS))] == [
        "egress IPv4 every protocol 10.0.0.0/8 (y)",
        "ingress IPv4 every protocol group g9 (z)",
    ]


def test_a_member_and_a_role_that_somebody_gave_are_told():
    ann, eve = SimpleNamespace(id="u1", name="ann"), SimpleNamespace(id="u9", name="eve")

    def grant(role, user=None, group=None):
        return SimpleNamespace(role={"id": role, "name": f"role-{role}"}, user=user, group=group)

    identity = SimpleNamespace(
        group_users=lambda group: [ann, eve] if group == "k1" else [],
        role_assignments=lambda **_: [
            grant("m", group={"id": "k1", "name": "chris-member"}),
            grant("admin", group={"id": "k1", "name": "chris-member"}),
            grant("m", user={"id": "u9", "name": "eve"}),
        ],
    )
    assert told(members(identity, OURS)) == [("GroupV3", "chris-member", "members", "eve (u9)")]
    assert told(grants(identity, OURS)) == [
        ("Project", "chris", "roles", "role-admin for the group chris-member (k1)"),
        ("Project", "chris", "roles", "role-m for the user eve (u9)"),
    ]


def test_bindings_and_policies_that_somebody_made_are_told():
    def listing(*names, owned=()):
        def listed(namespace, **_):
            assert namespace == "chris-ns"
            items = [SimpleNamespace(metadata=SimpleNamespace(name=name, owner_references=name in owned)) for name in names]
            return SimpleNamespace(items=items)

        return listed

    bindings = listing("edit", "system:deployers", "of-an-operator", "mallory", "pfmoc", owned=["of-an-operator"])
    assert told(objects("RoleBinding", bindings, OURS)) == [
        ("RoleBinding", "chris-ns/mallory", "", ""),
        ("RoleBinding", "chris-ns/pfmoc", "", ""),
    ]
    policies = listing("default-deny", "pfmoc", "let-all-in")
    assert told(objects("NetworkPolicy", policies, OURS)) == [("NetworkPolicy", "chris-ns/let-all-in", "", "")]


def test_a_cloud_that_is_away_leaves_the_additions_of_the_other_known(monkeypatch, read, document):
    def away(_):
        raise OperatorError("nothing listens")

    site = read(document)[0]
    monkeypatch.setattr(drift_additions, "openstack_connection", away)
    monkeypatch.setattr(drift_additions, "_in_openshift", lambda *_: [])
    (finding,) = additions(site, OURS)
    assert (finding.verdict, finding.why) == (Verdict.UNKNOWN, "nothing listens")
    assert additions(site, []) == []
