"""What of a tenant is taken over, and under which ids."""

from __future__ import annotations

import json

import pulumi
import pytest

from infra.adopt import Import, InOpenStack, Rule, by_name, plan, take_over, without, written
from infra.failures import OperatorError

RULES = [{"protocol": "tcp", "ports": [22, 22], "cidr": "198.51.100.0/24"}, {"protocol": "icmp"}, {"group": "web"}]


def rule(name, group, **content):
    nothing = {"protocol": None, "ports": None, "cidr": None, "remote_group": None}
    return Rule(id=name, group=group, direction="ingress", ethertype="IPv4", **{**nothing, **content})


FOUND = InOpenStack(
    project="p",
    region="R",
    groups={"chris-member": "g"},
    users={"ann": "a", "bob": "b", "chris-pfmoc": "s"},
    roles={"member": "m"},
    grants=frozenset({("g", "m"), ("s", "m")}),
    members=frozenset({("b", "g")}),
    networks={"default": "n"},
    subnets={"default": "sn"},
    routers={"chris": "r"},
    router_ports={"sn": "port"},
    security_groups={"default": "d", "web": "w"},
    rules=(
        rule("1", "w", protocol="tcp", ports=(22, 22), cidr="198.51.100.0/24"),
        rule("2", "w", remote_group="w"),
        rule("3", "d", protocol="icmp"),
    ),
    containers=frozenset({"data", "of-the-tenant"}),
    servers={"gpu-0": "s0", "of-the-tenant": "x"},
    server_groups={"gpu": "sg"},
    flavors={"gpu": "f"},
    flavor_access=frozenset({"f"}),
)
IN_OPENSHIFT = {
    "Namespace": frozenset({"chris"}),
    "ResourceQuota": frozenset({"chris-project", "of-the-tenant"}),
    "RoleBinding": frozenset({"edit", "of-the-tenant"}),
    "NetworkPolicy": frozenset({"default-deny"}),
}


@pytest.fixture
def site(read, document):
    document["tenants"][0]["openstack"] |= {
        "security_groups": [{"name": "web", "rules": RULES}],
        "quotas": {"object_bytes": "1 TiB"},
    }
    return read(document)[0]


def ids(imports):
    return {f"{each.kind.rpartition(':')[2]} {each.name}": each.id for each in imports}


def test_what_the_program_would_make_and_a_cloud_has(site, deployed):
    imports = plan(site, site.tenant("chris"), FOUND, IN_OPENSHIFT)
    assert ids(imports) == {
        "Project chris": "p",
        "User chris-service": "s",
        "RoleAssignment chris-service-member": "/p//s/m",
        "User chris-ann": "a",
        "GroupV3 chris-member": "g",
        "RoleAssignment chris-member": "/p/g//m",
        "UserMembershipV3 chris-member-bob": "b/g",
        "QuotaSetV2 chris": "p/R",
        "QuoteSetV3 chris": "p/R",
        "QuotaV2 chris": "p/R",
        "Quota chris": "p/R",
        "Router chris": "r",
        "Network chris-default": "n",
        "Subnet chris-default": "sn",
        "RouterInterface chris-default": "port",
        "SecGroup chris-web": "w",
        "SecGroupRule chris-web-0": "1",
        "SecGroupRule chris-web-2": "2",
        "AccountV1 chris": "p",
        "Container chris-data": "data",
        "Flavor gpu": "f",
        "FlavorAccess gpu": "f/p",
        "ServerGroup gpu": "sg",
        "Instance gpu-0": "s0",
        "Namespace chris": "chris",
        "ResourceQuota chris": "chris/chris-project",
        "RoleBinding chris-edit": "chris/edit",
        "NetworkPolicy chris-default-deny": "chris/default-deny",
    }
    made = {(each.type, each.name) for each in deployed(site).made}
    assert {(each.kind, each.name) for each in imports} <= made


def test_nothing_where_there_is_no_project(site):
    assert plan(site, site.tenant("chris"), None, {}) == []


def test_a_bare_project_has_quotas_and_nothing_else(site):
    imports = plan(site, site.tenant("other"), InOpenStack(project="p", region="R"), {})
    assert set(ids(imports)) == {"Project other", "QuotaSetV2 other", "QuoteSetV3 other", "QuotaV2 other", "Quota other"}


def test_what_the_state_has_is_left_out(site):
    imports = plan(site, site.tenant("other"), InOpenStack(project="p", region="R"), {})
    known = {
        "type": "openstack:identity/project:Project",
        "urn": "urn:pulumi:small::pfmoc::pfmoc:infra:Tenant$openstack:identity/project:Project::other",
    }
    assert "Project other" not in ids(without(imports, [known]))


def test_names_that_are_there_twice_are_refused():
    with pytest.raises(OperatorError, match="two networks called 'default': a and b; rename one of them"):
        by_name("networks", [("default", "a"), ("default", "b")])


def test_the_program_imports_it_as_it_is(monkeypatch):
    kind, inside = "openstack:identity/project:Project", "openstack:objectstorage/container:Container"
    there = [Import(kind=kind, name="chris", id="p"), Import(kind=inside, name="chris-data", id="data")]
    pulumi.runtime.set_all_config({"pfmoc:adopt": written(there)})
    transformations = []
    monkeypatch.setattr(pulumi.runtime, "register_stack_transformation", transformations.append)
    take_over(pulumi.Config("pfmoc"))
    pulumi.runtime.set_all_config({})
    (transform,) = transformations

    def asked(name, kind=kind, *, preview=False):
        options = pulumi.ResourceOptions(depends_on=[])
        monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: preview)
        return transform(pulumi.ResourceTransformationArgs(resource=None, type_=kind, name=name, props={"a": 1}, opts=options))

    found = asked("chris")
    assert (found.opts.import_, found.opts.ignore_changes, found.props) == ("p", ["*"], {"a": 1})
    assert asked("other") is None
    assert asked("chris", preview=True).opts.import_ == "p"
    assert asked("chris-data", inside).opts.import_ == "data"
    assert asked("chris-data", inside, preview=True) is None, "who would read it is not made by a preview"


def test_nothing_is_imported_where_nothing_is_to_be(monkeypatch):
    pulumi.runtime.set_all_config({})
    monkeypatch.setattr(pulumi.runtime, "register_stack_transformation", pytest.fail)
    take_over(pulumi.Config("pfmoc"))


def test_the_configuration_is_plain_json():
    assert json.loads(written([Import(kind="a:b:C", name="n", id="i")])) == {"a:b:C::n": "i"}
