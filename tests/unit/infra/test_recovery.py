"""What becomes of creations that an operation left open."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace as Thing

import pytest
from fakes.engine import urn

from infra.engine import Engine, Installation
from infra.failures import Locked, OperatorError
from infra.providers import tags
from infra.recovery import Where, recover, where
from infra.spec import Site
from infra.stack import Place, SiteStack

NETWORK = "openstack:networking/network:Network"
CREDENTIAL = "openstack:identity/applicationCredential:ApplicationCredential"
QUOTA = "kubernetes:core/v1:ResourceQuota"
PROVIDER = urn("pulumi:providers:openstack", "chris-project")


def resource(kind: str, called: str, /, **inputs):
    return {"urn": urn(kind, called), "type": kind, "inputs": inputs, "provider": f"{PROVIDER}::some-id"}


class StackOf:
    """A stack with a state, of which some is open; nobody else is at work on it."""

    def __init__(self, *pending, resources=()) -> None:
        self.site = Site(name="small")
        self.state = {"version": 3, "deployment": {"resources": list(resources), "pending_operations": list(pending)}}
        self.imported = None

    def require_free(self):
        pass

    def export(self, *, afresh=False):  # noqa: ARG002 - nobody changes it
        return self.state

    def import_state(self, document):
        self.imported = document["deployment"]


def creating(made):
    return {"type": "creating", "resource": made}


class Neutron:
    """Has one network."""

    def networks(self, *, name, project_id):
        return [Thing(id="n1")] if (name, project_id) == ("default", "p1") else []


def test_nothing_open_is_nothing_to_do():
    stack = StackOf()
    assert recover(stack, lambda _: pytest.fail("no cloud needs to be asked")) == []
    assert stack.imported is None


def test_what_was_made_is_taken_over():
    stack = StackOf(creating(resource(NETWORK, "chris-default", name="default", tenantId="p1")))
    (told,) = recover(stack, lambda _: Thing(network=Neutron()))
    assert told == "Network chris-default was made by the last run, which was ended; it is taken over"
    assert stack.imported["pending_operations"] == []
    (made,) = stack.imported["resources"]
    assert (made["id"], made["urn"]) == ("n1", urn(NETWORK, "chris-default"))


def test_what_was_not_made_is_forgotten():
    stack = StackOf(creating(resource(NETWORK, "other-default", name="default", tenantId="p2")))
    (told,) = recover(stack, lambda _: Thing(network=Neutron()))
    assert "was not made" in told
    assert stack.imported == {"resources": [], "pending_operations": []}


def test_what_may_be_made_again_needs_no_look():
    stack = StackOf(
        creating(resource(QUOTA, "chris")), {"type": "updating", "resource": resource(NETWORK, "chris-default", name="default")}
    )
    told = recover(stack, lambda _: pytest.fail("no cloud needs to be asked"))
    assert [sentence.split(";")[1] for sentence in told] == [" it is done again"] * 2
    assert stack.imported["pending_operations"] == []


class Keystone:
    """Has a credential whose secret nobody knows."""

    def __init__(self) -> None:
        self.deleted: list[tuple[str, str]] = []

    def users(self, *, name, domain_id):
        return [Thing(id="u1", name=name)] if domain_id == "default" else []

    def application_credentials(self, user):
        return [Thing(id="c1", name="pfmoc-member-1"), Thing(id="c2", name="of-the-user")] if user == "u1" else []

    def delete_application_credential(self, user, credential):
        self.deleted.append((user, credential))


def test_a_credential_whose_secret_is_lost_is_deleted():
    provider = {"urn": PROVIDER, "inputs": {"tenantId": "p1", "userName": "chris-pfmoc", "userDomainId": "default"}}
    stack = StackOf(creating(resource(CREDENTIAL, "chris", name="pfmoc-member-1")), resources=[provider])
    keystone = Keystone()
    recover(stack, lambda _: Thing(identity=keystone))
    assert keystone.deleted == [("u1", "c1")]
    assert stack.imported["resources"] == [provider]


def test_where_something_is_made():
    provider = {"urn": PROVIDER, "inputs": {"tenantId": "p1", "userName": "chris-pfmoc", "userDomainId": "default"}}
    assert where(resource(CREDENTIAL, "chris"), [provider]) == Where(project="p1", user="chris-pfmoc", domain="default")
    assert where(resource(NETWORK, "chris", tenantId="p9"), [provider]).project == "p9"
    assert where(resource(NETWORK, "chris"), []) == Where()


PROJECT = "openstack:identity/project:Project"
USER = "openstack:identity/user:User"
GROUP = "openstack:identity/groupV3:GroupV3"
TAGS = tags("small", "chris")


class KeystoneWith:
    """Has something of the name."""

    def __init__(self, **what) -> None:
        self._found = Thing(id="k1", name="chris", **what)

    def projects(self, **_):
        return [self._found]

    users = groups = projects


OURS = [
    (PROJECT, {"tags": list(TAGS)}, {"tags": [*TAGS, "of-somebody"]}, {"tags": ["managed-by=pfmoc", "pfmoc-site=other"]}),
    (USER, {"defaultProjectId": "p1"}, {"default_project_id": "p1"}, {"default_project_id": None}),
    (GROUP, {"description": "Those with a role"}, {"description": "Those with a role"}, {"description": ""}),
]


@pytest.mark.parametrize(("kind", "inputs", "ours", "theirs"), OURS)
def test_what_has_the_name_and_is_somebody_elses_is_not_taken_over(kind, inputs, ours, theirs):
    for found, expected in ((ours, ["k1"]), (theirs, [])):
        stack = StackOf(creating(resource(kind, "chris", name="chris", domainId="default", **inputs)))
        recover(stack, lambda _, found=found: Thing(identity=KeystoneWith(**found)))
        assert [each["id"] for each in stack.imported["resources"]] == expected
    bare = StackOf(creating(resource(kind, "chris", name="chris", domainId="default")))
    recover(bare, lambda _: Thing(identity=KeystoneWith(**{next(iter(ours)): None})))
    assert bare.imported["resources"] == []


SUBNET = "openstack:networking/subnet:Subnet"
RULE = "openstack:networking/secGroupRule:SecGroupRule"
ACCESS = "openstack:compute/flavorAccess:FlavorAccess"
LONG_AGO, LATER = "2026-11-20T10:00:00.123456789Z", "2026-11-21T10:00:00.123456789Z"


class NeutronAndNova:
    """Has what was replaced where it is still there, and what was made for it."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.network = self.compute = self

    def subnets(self, **_):
        return [Thing(id="old"), Thing(id="elsewhere"), Thing(id="new")]

    def security_group_rules(self, **_):
        some = {"direction": "ingress", "ether_type": "IPv4", "protocol": "tcp", "port_range_min": 443, "port_range_max": 443}
        prefixes = {"old": "10.0.0.0/8", "new": "10.1.0.0/16"}
        return [Thing(id=id_, remote_ip_prefix=cidr, remote_group_id=None, **some) for id_, cidr in prefixes.items()]

    def delete_security_group_rule(self, rule):
        self.taken.append(rule)

    def get_flavor_access(self, flavor):
        return [{"flavor_id": flavor, "tenant_id": project} for project in ("p1", "p2")]

    def flavor_remove_tenant_access(self, flavor, project):
        self.taken.append(f"{flavor} {project}")


def rule(cidr: str) -> dict:
    ports = {"protocol": "tcp", "portRangeMin": 443, "portRangeMax": 443}
    inputs = {"direction": "ingress", "ethertype": "IPv4", "securityGroupId": "g", "remoteIpPrefix": cidr, **ports}
    return resource(RULE, "chris-web-0", **inputs) | {"created": LONG_AGO}


def test_what_takes_the_place_of_a_deleted_one_is_taken_over_there():
    """As the engine leaves a replacement of a kind that has a name: the old one is deleted, and still in the state."""
    made = resource(SUBNET, "chris-default", name="default", networkId="n1", cidr="10.1.0.0/24") | {"created": LONG_AGO}
    old = {**made, "id": "old", "inputs": {**made["inputs"], "cidr": "10.0.0.0/24"}, "pendingReplacement": True}
    before = resource(NETWORK, "chris-default", name="default") | {"id": "n1"}
    other = resource(SUBNET, "other-default", name="default") | {"id": "elsewhere"}
    stack = StackOf(creating(made), resources=[before, old, other])
    (told,) = recover(stack, lambda _: NeutronAndNova())
    assert told == "Subnet chris-default was made by the last run, which was ended; it is taken over"
    assert [each["id"] for each in stack.imported["resources"]] == ["n1", "new", "elsewhere"]
    adopted = stack.imported["resources"][1]
    assert adopted["inputs"]["cidr"] == "10.1.0.0/24"
    assert "pendingReplacement" not in adopted
    assert stack.imported["pending_operations"] == []


@pytest.mark.parametrize("known", [{}, {"id": "new", "created": LATER}], ids=["begun", "made"])
@pytest.mark.parametrize("deleted", [False, True])
def test_what_was_made_beside_what_it_replaces_is_taken_away(deleted, known):
    """As the engine leaves a replacement of a kind without a name; the old one may be marked already.

    Once it is made, its id and its time are set, a moment before it is written: another resource's writing has them already.
    """
    made = {**rule("10.1.0.0/16"), **known}
    old = {**rule("10.0.0.0/8"), "id": "old", **({"delete": True} if deleted else {})}
    cloud = NeutronAndNova()
    stack = StackOf(creating(made), resources=[old])
    (told,) = recover(stack, lambda _: cloud)
    assert told.endswith("beside what it replaces; it is taken away and made again")
    assert cloud.taken == ["new"]
    assert stack.imported["resources"] == [{**old, "delete": False}]


def test_so_is_an_access_to_a_flavor():
    made = resource(ACCESS, "pool", flavorId="f1", tenantId="p2") | {"created": LONG_AGO}
    old = {**made, "id": "f1/p1", "inputs": {"flavorId": "f1", "tenantId": "p1"}}
    cloud = NeutronAndNova()
    recover(StackOf(creating(made), resources=[old]), lambda _: cloud)
    assert cloud.taken == ["f1 p2"]


def test_what_the_engine_knows_to_be_made_is_taken_over_with_its_outputs():
    """The secret of a credential, too: nobody else has heard it."""
    known = {"id": "c1", "created": LATER, "outputs": {"secret": "told once"}}
    made = resource(CREDENTIAL, "chris", name="pfmoc-member-1") | known
    stack = StackOf(creating(made))
    (told,) = recover(stack, lambda _: pytest.fail("no cloud needs to be asked"))
    assert told.endswith("it is taken over")
    (taken,) = stack.imported["resources"]
    assert (taken["id"], taken["outputs"]) == ("c1", {"secret": "told once"})


def test_what_a_later_run_made_is_left_alone():
    """Plain pulumi goes past what is open, and keeps it."""
    newer = {**rule("10.0.0.0/8"), "id": "old", "created": LATER}
    stack = StackOf(creating(rule("10.1.0.0/16")), resources=[newer])
    (told,) = recover(stack, lambda _: pytest.fail("no cloud needs to be asked"))
    assert told.endswith("it is done again")
    assert stack.imported["resources"] == [newer]


def test_what_is_open_twice_is_taken_over_once():
    made = resource(NETWORK, "chris-default", name="default", tenantId="p1")
    stack = StackOf(creating(made), creating(made))
    assert len(recover(stack, lambda _: Thing(network=Neutron()))) == 1
    assert [each["id"] for each in stack.imported["resources"]] == ["n1"]


def test_a_credential_that_the_state_has_stays():
    made = resource(CREDENTIAL, "chris", name="pfmoc-member-1") | {"created": LONG_AGO}
    provider = {"urn": PROVIDER, "inputs": {"tenantId": "p1", "userName": "chris-pfmoc", "userDomainId": "default"}}
    keystone = Keystone()
    old = {**made, "id": "c1", "pendingReplacement": True}
    recover(StackOf(creating(made), resources=[provider, old]), lambda _: Thing(identity=keystone))
    assert keystone.deleted == []


class Beside:
    """A stack in a directory, of which an engine tells one state after the other, and the last one from then on."""

    def __init__(self, directory, *states) -> None:
        self.directory = directory
        (directory / "states").mkdir()
        for number, state in enumerate(states):
            (directory / "states" / str(number)).write_text(json.dumps(state))
        program = directory / "pulumi"
        program.write_text(f"""#!/bin/sh
echo "$5" >> {directory}/asked
[ "$5" = export ] || exit 0
set -- {directory}/states/*
cat "$1"
[ $# = 1 ] || rm "$1"
""")
        program.chmod(0o755)
        place = Place(backend=f"file://{directory}", passphrase=None)
        engine = Engine(Installation(program=program), {})
        self.stack = SiteStack(Site(name="small"), directory / "small.yml", place, engine, lambda _: None)

    def lock(self, **more) -> None:
        """Lock it, as the engine does."""
        locks = self.directory / ".pulumi" / "locks" / "organization" / "pfmoc" / "small"
        locks.mkdir(parents=True)
        told = {"pid": 2**22 + 1, "username": "eve", "hostname": os.uname().nodename, "timestamp": LONG_AGO, **more}
        (locks / "f.json").write_text(json.dumps(told))

    @property
    def asked(self) -> list[str]:
        return (self.directory / "asked").read_text().split()


OPEN = StackOf(creating(resource(NETWORK, "chris-default", name="default", tenantId="p1"))).state
ENDED = StackOf(resources=[resource(NETWORK, "chris-default") | {"id": "n1"}]).state


def test_what_somebody_else_may_be_at_is_not_looked_for(tmp_path):
    """Nor is a credential deleted that another engine has just made."""
    beside = Beside(tmp_path, OPEN)
    beside.lock(hostname="elsewhere")
    with pytest.raises(Locked, match=r"locked by eve@elsewhere .*, since 2026-11-20T10:00:00Z"):
        recover(beside.stack, lambda _: pytest.fail("no cloud needs to be asked"))
    assert "import" not in beside.asked


def test_what_a_dead_engine_left_open_is(tmp_path):
    beside = Beside(tmp_path, OPEN)
    beside.lock()
    assert len(recover(beside.stack, lambda _: Thing(network=Neutron()))) == 1
    assert beside.asked == ["export", "export", "export", "import"]


def test_what_somebody_else_has_ended_meanwhile_is_not_open(tmp_path):
    """The command has read the state before, and remembers it."""
    beside = Beside(tmp_path, OPEN, ENDED)
    assert beside.stack.resources() == []
    assert recover(beside.stack, lambda _: pytest.fail("no cloud needs to be asked")) == []
    assert beside.stack.resources() == ENDED["deployment"]["resources"]
    assert "import" not in beside.asked


def test_a_state_that_somebody_else_has_changed_is_not_overwritten(tmp_path):
    beside = Beside(tmp_path, OPEN, OPEN, ENDED)
    with pytest.raises(OperatorError, match="somebody else has changed the state meanwhile; run it again"):
        recover(beside.stack, lambda _: Thing(network=Neutron()))
    assert "import" not in beside.asked


def test_a_lock_that_cannot_be_read_is_somebodys(tmp_path):
    beside = Beside(tmp_path, OPEN)
    beside.lock(pid="none")
    with pytest.raises(Locked, match="locked by another operator"):
        beside.stack.require_free()
