"""The commands about tenants, as an operator types them, against a stack without an engine."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from types import SimpleNamespace as Thing

import pytest
import yaml
from fakes.engine import step
from fakes.stacks import StackInMemory

from infra import quarantine, service_user
from infra.adopt import InOpenStack
from infra.commands import adopt, expire, purge, rollout, run, stacks
from infra.commands import quarantine as quarantine_command
from infra.failures import OperatorError
from infra.guards import Use
from infra.keys import derived, labelled
from infra.purge import Cost
from infra.roster import InUse, records
from infra.spec import load
from infra.stack import NoState

DAY = date(2026, 11, 21)
NAMES = ("headroom", "price", "expire", "quarantine", "purge", "adopt")


@pytest.fixture
def site_of(tmp_path, document):
    """Write a site file."""
    file = tmp_path / "small" / "site.yml"
    file.parent.mkdir()

    def write():
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        return str(file)

    return write


class CloudsThatAreFull:
    """There is something in all that goes."""

    def __init__(self, site) -> None:
        pass

    def use(self, risks):
        return [(risk, Use(amounts={"objects": 1, "servers": 1})) for risk in risks]


@pytest.fixture
def stack(site_of, monkeypatch, tmp_path):
    """The stack that the commands open, with an engine that does nothing."""
    made = StackInMemory(load(Path(site_of()))[0])
    made.told = {"tenants": records(made.site, {})}

    @contextmanager
    def opened(wanted, *, create, remember=True):
        made.site = wanted.site
        try:
            if remember:
                quarantine.remember(made)
            yield made
        finally:
            made.intents.take_back()

    for module in (adopt, expire, purge, quarantine_command):
        monkeypatch.setattr(module, "opened", opened)
    monkeypatch.setenv("PFMOC_CACHE", str(tmp_path))
    monkeypatch.setattr(rollout, "settle", lambda _: [])
    monkeypatch.setattr(rollout, "emptied", lambda _, containers: [f"{each.resource} is emptied" for each in containers])
    monkeypatch.setattr(stacks, "Clouds", CloudsThatAreFull)
    for module in (expire, purge, quarantine):
        monkeypatch.setattr(module, "today", lambda: DAY)
    monkeypatch.setattr(quarantine, "in_use", lambda *_: InUse())
    monkeypatch.setattr(purge, "require_same", lambda *_, **__: None)
    monkeypatch.setattr(purge, "cost", lambda *_: Cost(amounts={"objects": 7}, foreign=[]))
    return made


def without_chris(document):
    document["tenants"] = document["tenants"][1:]
    document["node_pools"] = document["node_pools"][1:]
    document["daemon"] = {}


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_the_exit_status_means(name, capsys):
    assert run([name, "--help"]) == 0
    assert "Exit status" in capsys.readouterr().out


def test_price(site_of, capsys):
    assert run(["price", site_of(), "--month", "2026-11", "--tenant", "other"]) == 3
    shown = capsys.readouterr().out
    assert "at least" in shown
    assert "2026-11, 720 hours; rates of NERC as of 2026-11-21" in shown
    assert run(["price", site_of(), "--json"]) == 3
    assert set(json.loads(capsys.readouterr().out)["tenants"]) == {"chris", "other"}


def test_price_of_nobody(site_of, capsys):
    assert run(["price", site_of(), "--tenant", "nobody"]) == 1
    assert capsys.readouterr().err == "error: the site has no tenant 'nobody'; its tenants: chris, other\n"


def test_headroom_of_the_file(site_of, capsys):
    assert run(["headroom", site_of(), "--declared"]) == 0
    assert "Tesla-V100-PCIE-32GB" in capsys.readouterr().out
    assert run(["headroom", site_of(), "--declared", "--json"]) == 0
    assert {row["state"] for row in json.loads(capsys.readouterr().out)["rows"]} == {"fits"}


def test_headroom_when_more_is_granted_than_there_is(site_of, document, capsys):
    document["tenants"][1]["openshift"] = {"quotas": {"limits_cpu": 1000}}
    assert run(["headroom", site_of(), "--declared"]) == 2
    assert "over" in capsys.readouterr().out


def test_headroom_when_the_clouds_are_not_there(site_of, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(["headroom", site_of()]) == 3
    told = capsys.readouterr()
    assert {line.partition(":")[0] for line in told.err.splitlines()} == {"openshift", "openstack"}
    assert "unknown" in told.out


def test_expire_lists_and_quarantines(stack, site_of, document, capsys):
    file = site_of()
    assert run(["expire", file]) == 0
    assert "no tenant is past its term" in capsys.readouterr().out
    document["tenants"][1]["expires_at"] = DAY
    assert run(["expire", site_of(), "--json"]) == 2
    assert [term["tenant"] for term in json.loads(capsys.readouterr().out)["terms"]] == ["other"]
    assert run(["expire", site_of(), "--quarantine", "--yes", "--no-refresh"]) == 0
    assert quarantine.marked(stack)["other"].reason == "expired"
    assert (len(stack.runs), stack.refreshed) == (1, [False])
    assert run(["expire", site_of()]) == 0
    assert "2026-11-21" in capsys.readouterr().out
    assert run(["expire", site_of(), "--quarantine", "--json"]) == 2


def test_a_tenant_whose_credential_ends_with_it_is_quarantined(stack, site_of, document, capsys):
    document["tenants"][0]["expires_at"] = DAY
    document["tenants"][0]["openstack"]["application_credential"] = {"expires_at": DAY}
    assert run(["expire", site_of(), "--quarantine", "--yes"]) == 0
    assert quarantine.marked(stack)["chris"].reason == "expired"
    capsys.readouterr()


def test_quarantine_and_release(stack, site_of, capsys):
    assert run(["quarantine", site_of(), "other", "--yes"]) == 0
    assert "pfmoc:quarantine" in stack.runs[0]
    assert run(["quarantine", site_of()]) == 0
    assert "2026-12-21" in capsys.readouterr().out
    assert run(["quarantine", site_of(), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["quarantined"]
    assert one == {"tenant": "other", "since": "2026-11-21", "reason": "asked", "in_file": True, "until": "2026-12-21"}
    assert run(["quarantine", site_of(), "other", "--release", "--yes", "--no-refresh"]) == 0
    assert stack.refreshed == [True, False]
    assert "pfmoc:quarantine" not in stack.runs[1]
    assert run(["quarantine", site_of(), "other", "--release"]) == 1
    assert "other is not in quarantine; in quarantine: none" in capsys.readouterr().err
    assert run(["quarantine", site_of(), "other", "--json"]) == 2


def test_purge_waits_for_the_grace(stack, site_of, document, capsys):
    assert run(["purge", site_of(), "chris", "--yes"]) == 1
    assert "chris is in the site file; take it out first" in capsys.readouterr().err
    without_chris(document)
    assert run(["purge", site_of(), "chris", "--yes"]) == 2
    assert "its grace ends on 2026-12-21; wait, or give --now" in capsys.readouterr().err
    assert run(["purge", site_of(), "chris", "--now"]) == 1
    assert "nobody is there to be asked; give --yes" in capsys.readouterr().err
    assert stack.runs == []
    assert run(["purge", site_of(), "chris", "--now", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"site": "small", "purged": "chris", "with": "7 objects"}
    assert len(stack.runs) == 2
    assert stack.settings == {}


CONTAINER = "openstack:objectstorage/container:Container"
PROJECT = "openstack:identity/project:Project"


def container(tenant):
    inputs = {"name": "data", "metadata": {"Pfmoc-Tenant": tenant}}
    return [
        step("same", PROJECT, tenant, old={}, new={}, id_=f"id-of-{tenant}"),
        step("delete", CONTAINER, f"{tenant}-data", old=inputs, id_="data"),
    ]


def test_a_purge_lets_nothing_else_go(stack, site_of, document, capsys):
    without_chris(document)
    stack.planned = [*container("chris"), *container("other")]
    assert run(["purge", site_of(), "chris", "--now", "--yes"]) == 2
    said = capsys.readouterr().err
    assert "container/other/data would be deleted with 1 objects" in said
    assert "container/chris/data" not in said
    assert stack.runs == []
    assert stack.settings == {}, "what was meant and not begun is forgotten"
    stack.planned = container("chris")
    assert run(["purge", site_of(), "chris", "--now", "--yes"]) == 0
    told = capsys.readouterr()
    assert "chris-data" in told.out, "the plan is shown"
    assert "container/chris/data is emptied" in told.err
    assert "inventory in" in told.out


def test_a_purge_settles_first_what_a_killed_engine_left_open(stack, site_of, document, capsys):
    without_chris(document)
    kind = "kubernetes:core/v1:ResourceQuota"
    stack.pending = [{"type": "creating", "resource": {"urn": f"urn:pulumi:small::pfmoc::{kind}::other", "type": kind}}]
    stack.on_up = lambda: stack.pending and pytest.fail("it was made twice")
    assert run(["purge", site_of(), "chris", "--now", "--yes"]) == 0
    assert "the last run was ended while creating ResourceQuota other" in capsys.readouterr().err


def test_a_no_changes_nothing(stack, site_of, document, capsys):
    document["tenants"][1]["expires_at"] = DAY
    stack.planned = container("other")
    for words in (["expire", "--quarantine", "--yes"], ["quarantine", "other", "--yes"]):
        assert run([words[0], site_of(), *words[1:]]) == 2, "the guards refuse it"
        assert stack.settings == {}
    stack.planned = [step("update", PROJECT, "other", old={"enabled": True}, new={"enabled": False})]
    for words in (["expire", "--quarantine"], ["quarantine", "other"]):
        assert run([words[0], site_of(), *words[1:]]) == 1, "nobody is there to be asked"
        assert stack.settings == {}
    assert run(["expire", site_of()]) == 2
    assert stack.runs == []
    capsys.readouterr()


def test_purge_leaves_nothing_without_an_owner(stack, site_of, document, monkeypatch, capsys):
    monkeypatch.setattr(purge, "cost", lambda *_: Cost(amounts={"servers": 2}, foreign=["the server own of chris (s)"]))
    without_chris(document)
    assert run(["purge", site_of(), "chris", "--now", "--yes"]) == 2
    assert "it would be left without an owner:\n  the server own of chris (s); delete it first" in capsys.readouterr().err
    assert stack.runs == []


@pytest.fixture
def clouds(monkeypatch):
    """A cluster that has the project of the tenant, and an OpenStack that has not."""
    monkeypatch.setattr(adopt, "in_openstack", lambda *_: None)
    monkeypatch.setattr(adopt, "in_openshift", lambda *_: {"Namespace": frozenset({"chris"})})


def test_adopt_imports_once(stack, site_of, clouds, capsys):
    assert run(["adopt", site_of(), "chris", "--json"]) == 0
    wanted = {"type": "kubernetes:core/v1:Namespace", "name": "chris", "id": "chris"}
    assert json.loads(capsys.readouterr().out)["imports"] == [wanted]
    assert stack.runs == []
    assert run(["adopt", site_of(), "chris", "--yes"]) == 0
    assert json.loads(stack.runs[0]["pfmoc:adopt"]) == {"kubernetes:core/v1:Namespace::chris": "chris"}
    assert stack.settings == {}, "nothing of it stays, whether imported or not"
    stack.held = [{"type": wanted["type"], "urn": "urn:pulumi:small::pfmoc::kubernetes:core/v1:Namespace::chris"}]
    assert run(["adopt", site_of(), "chris"]) == 0
    assert "there is nothing that the state has not" in capsys.readouterr().out
    assert run(["adopt", site_of(), "nobody"]) == 1


@pytest.mark.parametrize("imported", [0, 1, 2])
def test_adopt_goes_on_where_the_engine_was_stopped_in_the_midst(stack, site_of, clouds, monkeypatch, imported, capsys):
    monkeypatch.setattr(adopt, "in_openshift", lambda *_: {"Namespace": {"chris"}, "ResourceQuota": {"chris-project"}})
    kinds = ["kubernetes:core/v1:Namespace", "kubernetes:core/v1:ResourceQuota"]

    def fail():
        stack.held = [{"type": kind, "urn": f"urn:pulumi:small::pfmoc::{kind}::chris"} for kind in kinds[:imported]]
        raise OperatorError("the engine failed")

    stack.on_up = fail
    assert run(["adopt", site_of(), "chris", "--yes"]) == 1
    assert ("pfmoc:adopt" in stack.settings) is (imported == 1)
    assert ("1 of 2 are not imported yet" in capsys.readouterr().err) is (imported == 1)


def test_adopt_lists_where_there_is_no_state(stack, site_of, clouds, monkeypatch, capsys):
    @contextmanager
    def opened(wanted, *, create, remember=True):
        raise NoState("the site small has no state", "make it: python -m infra up small")
        yield

    monkeypatch.setattr(adopt, "opened", opened)
    assert run(["adopt", site_of(), "chris", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["imports"]] == ["chris"]


def test_an_up_goes_on_with_what_is_not_imported_yet_and_changes_the_rest(stack, site_of):
    kind = "kubernetes:core/v1:Namespace"
    stack.settings["pfmoc:adopt"] = json.dumps({f"{kind}::chris": "chris", f"{kind}::other": "other"})
    stack.held = [{"type": kind, "urn": f"urn:pulumi:small::pfmoc::{kind}::chris"}]
    rollout.roll_out(stack)
    assert json.loads(stack.runs[0]["pfmoc:adopt"]) == {f"{kind}::other": "other"}
    assert stack.settings == {}


class Keystone:
    """Has the service user, with a credential of a state that is lost."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []

    def update_user(self, user, *, password):
        self.done.append(("password", user, password))

    def application_credentials(self, _user):
        return [Thing(id="old", name="pfmoc-member-1"), Thing(id="known", name="pfmoc-member-2")]

    def delete_application_credential(self, user, credential):
        self.done.append(("delete", user, credential))


def test_a_service_user_that_was_there_gets_the_password_that_the_program_knows(stack, site_of, clouds, monkeypatch, capsys):
    keystone = Keystone()
    monkeypatch.setattr(adopt, "in_openstack", lambda *_: InOpenStack(project="p", region="R", users={"chris-pfmoc": "s"}))
    made_own = partial(service_user.made_own, connect=lambda _: Thing(identity=keystone))
    monkeypatch.setattr(service_user, "made_own", made_own)
    credential = {"type": service_user.CREDENTIAL, "urn": f"urn:pulumi:small::pfmoc::{service_user.CREDENTIAL}::x", "id": "known"}
    stack.held = [credential]
    stack.on_up = lambda: keystone.done or pytest.fail("the engine would not sign in")
    stack.planned = [step("import", PROJECT, "chris", new={})]
    assert run(["adopt", site_of(), "chris"]) == 1
    assert keystone.done == [], "nobody has agreed to it"
    assert run(["adopt", site_of(), "chris", "--yes"]) == 0
    password = derived(stack.seed(), labelled("service-user", "chris"))
    assert keystone.done == [("password", "s", password), ("delete", "s", "old")]
    told = capsys.readouterr().err
    assert "deleted its application credential pfmoc-member-1" in told
    assert password not in told
