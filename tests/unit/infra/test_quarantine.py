"""Tenants that leave, come back, are closed and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.engine import urn
from fakes.stacks import StackInMemory

from infra import purge, quarantine
from infra.failures import OperatorError
from infra.guards import Use
from infra.roster import InUse, Mark, lost, read_marks, read_record, records, roster, write_marks
from infra.strays import Stray

DAY = date(2026, 11, 21)


@pytest.fixture
def cloud_use(monkeypatch):
    """What the clouds say is in use, by subject."""
    amounts = {"nova": {"instances": 2.0, "cores": 16.0, "ram": 32768.0}, "neutron": {"port": 4.0}}

    class CloudsThatAreAsked:
        def __init__(self, site) -> None:
            pass

        def use(self, risks):
            found = [(risk, amounts.get(risk.subject, {})) for risk in risks]
            return [(risk, Use(unknown=each) if isinstance(each, str) else Use(amounts=each)) for risk, each in found]

    monkeypatch.setattr(quarantine, "Clouds", CloudsThatAreAsked)
    monkeypatch.setattr(purge, "Clouds", CloudsThatAreAsked)
    monkeypatch.setattr(quarantine, "today", lambda: DAY)
    return amounts


@pytest.fixture
def sites(read, document):
    """The small site, and the same after its tenant `chris` has left it."""
    whole = read(document)[0]
    document["tenants"] = document["tenants"][1:]
    document["node_pools"] = document["node_pools"][1:]
    document["daemon"] = {}
    return whole, read(document)[0]


@pytest.fixture
def stack(sites):
    """A stack that was deployed with all tenants, and is asked for by a file that has lost one."""
    whole, rest = sites
    return StackInMemory(rest, {"tenants": records(whole, {}), "identity": {"projects": {"chris": "chris-id"}}})


def test_a_tenant_that_leaves_the_file_is_quarantined_with_what_it_uses(stack, cloud_use):
    told = quarantine.remember(stack)
    assert told[0].startswith(
        "chris is not in the site file any more: it goes into quarantine and keeps its data; from 2026-12-21"
    )
    mark = quarantine.marked(stack)["chris"]
    assert (mark.since, mark.reason) == (DAY, "removed")
    assert mark.in_use.compute == {"instances": 2, "cores": 16, "ram_mib": 32768}
    assert mark.in_use.network == {"ports": 4}
    assert mark.record.tenant.containers[0].name == "data"
    assert [pool.name for pool in mark.record.node_pools] == ["gpu"]
    assert quarantine.remember(stack) == []
    assert quarantine.quarantined(stack) == {"chris"}


def test_what_is_in_use_is_measured_anew(stack, cloud_use):
    quarantine.remember(stack)
    cloud_use["nova"] = {"instances": 1.0}
    quarantine.remember(stack)
    assert quarantine.marked(stack)["chris"].in_use.compute == {"instances": 1}
    cloud_use["nova"] = "the service does not answer"
    quarantine.remember(stack)
    assert quarantine.marked(stack)["chris"].in_use.compute == {"instances": 1}


def test_the_grace_begins_when_the_tenant_is_closed(stack, cloud_use, monkeypatch):
    quarantine.remember(stack)
    stack.intents.begun()
    monkeypatch.setattr(quarantine, "today", lambda: DAY + timedelta(days=1))
    quarantine.remember(stack)
    assert quarantine.marked(stack)["chris"].since == DAY + timedelta(days=1), "the first up was not done"
    stack.told["tenants"]["chris"]["quarantined_since"] = str(DAY + timedelta(days=1))
    monkeypatch.setattr(quarantine, "today", lambda: DAY + timedelta(days=2))
    quarantine.remember(stack)
    assert quarantine.marked(stack)["chris"].since == DAY + timedelta(days=1)


def test_a_look_marks_nobody(stack, cloud_use):
    stack.settings["pfmoc:other"] = "stays"
    quarantine.remember(stack)
    stack.intents.take_back()
    assert stack.settings == {"pfmoc:other": "stays"}
    stack.settings["pfmoc:quarantine"] = before = write_marks({"other": Mark(since=DAY, reason="asked")})
    quarantine.leave(stack, "other")
    assert quarantine.marked(stack) == {}
    stack.intents.take_back()
    assert stack.settings["pfmoc:quarantine"] == before


def test_what_another_operator_has_marked_meanwhile_stays(stack, cloud_use):
    quarantine.remember(stack)
    theirs = stack.settings["pfmoc:quarantine"] = write_marks({"other": Mark(since=DAY, reason="asked")})
    stack.intents.take_back()
    assert stack.settings["pfmoc:quarantine"] == theirs


def test_it_is_released_when_it_comes_back(stack, sites, cloud_use):
    quarantine.remember(stack)
    stack.site = sites[0]
    assert quarantine.remember(stack) == ["chris is in the site file again: it leaves quarantine"]
    assert stack.settings == {}


def test_nothing_is_marked_when_the_clouds_cannot_tell_what_is_in_use(stack, cloud_use):
    cloud_use["nova"] = "the service does not answer"
    with pytest.raises(OperatorError, match="what chris uses of nova cannot be told: the service does not answer"):
        quarantine.remember(stack)
    assert stack.settings == {}


def test_the_program_goes_on_with_a_tenant_that_has_left(stack, sites, deployed, cloud_use):
    quarantine.remember(stack)
    marks = quarantine.marked(stack)
    found = roster(sites[1], marks)
    before = deployed(sites[0])
    after = deployed(found.site, quarantined=found.closed)
    for kind in ("Project", "Container", "Instance", "Network", "Namespace"):
        assert set(after.of(kind)) == set(before.of(kind))
    assert "quarantined_since" in after.exported["tenants"]["chris"]
    assert "quarantined_since" not in after.exported["tenants"]["other"]
    assert {server.inputs["powerState"] for server in after.of("Instance").values()} == {"shutoff"}
    assert deployed(found.site, quarantined={"chris": marks["chris"].model_copy(update={"emptied": True})}).one(
        "Container", "chris-data"
    )["forceDestroy"]
    assert set(deployed(roster(sites[1], {}, ["chris"]).site).of("Project")) == {"other"}


def test_the_program_refuses_to_lose_a_tenant(sites):
    whole, rest = sites
    assert lost(["chris", "other"], rest, {}) == ["chris"]
    assert lost(["chris", "other"], rest, {"chris": Mark(since=DAY, reason="expired")}) == ["chris"]
    assert lost(["chris", "other"], rest, {}, ["chris"]) == []
    assert lost(["chris", "other"], whole, {}) == []


def test_a_tenant_that_has_left_must_not_stand_in_the_way(stack, sites, read, document, cloud_use):
    quarantine.remember(stack)
    document["tenants"][0]["openstack"] = {"project": "chris"}
    with pytest.raises(OperatorError, match=r"still there \(chris\).*makes the Keystone project 'chris'"):
        roster(read(document)[0], quarantine.marked(stack))


def test_nobody_else_uses_containers_of_one_in_quarantine(read, document):
    document["tenants"][0]["containers"][0] |= {"read": ["other:*"], "write": ["other:eve"]}
    site = read(document)[0]
    found = roster(site, {"chris": Mark(since=DAY, reason="asked")})
    assert (found.site.tenant("chris").containers[0].read, found.site.tenant("chris").containers[0].write) == ((), ())
    assert list(found.closed) == ["chris"]


def test_marks_and_records_are_read_as_they_were_written(sites):
    record = read_record(json.loads(json.dumps(records(sites[0], {})["chris"])))
    assert record.tenant == sites[0].tenant("chris")
    marks = {"chris": Mark(since=DAY, reason="removed", in_use=InUse(compute={"cores": 3}), record=record)}
    assert read_marks(write_marks(marks)) == marks
    with pytest.raises(OperatorError, match=r"pfmoc:quarantine cannot be read: chris\.since"):
        read_marks('{"chris": {"since": "soon", "reason": "asked"}}')
    with pytest.raises(OperatorError, match=r"in a form that is not known here: tenant\.colour"):
        read_record({"tenant": {"name": "a", "pi": "a@b", "colour": "red"}})


def test_asked_for_and_released(stack, sites, cloud_use):
    stack.site = sites[0]
    with pytest.raises(OperatorError, match="the site has no tenant 'nobody'; its tenants: chris, other"):
        quarantine.enter(stack, ["nobody"], "asked")
    quarantine.enter(stack, ["other"], "asked")
    assert quarantine.marked(stack)["other"].reason == "asked"
    with pytest.raises(OperatorError, match="chris is not in quarantine; in quarantine: other"):
        quarantine.leave(stack, "chris")
    quarantine.leave(stack, "other")
    assert quarantine.marked(stack) == {}


def test_terms(read, document):
    document["tenants"][0]["expires_at"] = DAY
    document["tenants"][1]["expires_at"] = DAY + timedelta(days=10)
    site = read(document)[0]
    assert [(term.tenant, term.days) for term in quarantine.terms(site, {}, day=DAY, within=0)] == [("chris", 0)]
    both = quarantine.terms(site, {"chris": Mark(since=DAY, reason="expired")}, day=DAY, within=10)
    assert [term.document() for term in both] == [
        {"tenant": "chris", "pi": "ann", "expires_at": "2026-11-21", "days": 0, "quarantined": "2026-11-21"},
        {"tenant": "other", "pi": "eve@example.org", "expires_at": "2026-12-01", "days": 10, "quarantined": None},
    ]


def workload(spec, **rest):
    return {"metadata": {"name": "a", "namespace": "n"}, "spec": spec, **rest}


KEPT_OFF = {"template": {"spec": {"nodeSelector": {quarantine.STILLED: "true"}}}}


@pytest.mark.parametrize(
    ("way", "item", "after", "before"),
    [
        ("scaled", workload({"replicas": 3}), {"replicas": 0}, {"replicas": 3}),
        ("suspended", workload({"template": {}}), {"suspend": True}, {"suspend": False}),
        ("suspended", workload({"suspend": False, "jobTemplate": {}}), {"suspend": True}, {"suspend": False}),
        (
            "kept off nodes",
            workload({"template": {"spec": {"nodeSelector": {"gpu": "yes"}}}}),
            KEPT_OFF,
            {"template": {"spec": {"nodeSelector": {quarantine.STILLED: None}}}},
        ),
    ],
)
def test_what_runs_is_stopped_and_started_as_it_was(way, item, after, before):
    change = quarantine.stilling(item, way)
    assert change["spec"] == after
    stopped = {"metadata": {**item["metadata"], "annotations": change["metadata"]["annotations"]}, "spec": after}
    assert quarantine.stilling(stopped, way) is None
    assert quarantine.waking(stopped, way)["spec"] == before
    assert quarantine.waking(stopped, way)["metadata"]["labels"] == {quarantine.STILLED: None}


@pytest.mark.parametrize(
    ("way", "item"),
    [
        ("scaled", workload({"replicas": 0})),
        ("suspended", workload({"suspend": True})),
        ("suspended", workload({"template": {}}, status={"completionTime": "2026-11-21T00:00:00Z"})),
        ("scaled", {"metadata": {"ownerReferences": [{"kind": "Deployment"}]}, "spec": {"replicas": 1}}),
        ("scaled", {"metadata": {"ownerReferences": [{"kind": "DeploymentConfig"}]}, "spec": {"replicas": 1}}),
    ],
)
def test_what_does_not_run_is_left_alone(way, item):
    assert quarantine.stilling(item, way) is None


class ClusterOfTwoSites:
    """Has pods in quarantine of two sites, knows no DeploymentConfigs, and remembers what is changed."""

    def __init__(self) -> None:
        self.patched: list[tuple[str, str]] = []

    def __getattr__(self, name) -> Callable[..., Any]:
        if name.startswith("patch_"):
            return lambda item, namespace, *_, **__: self.patched.append((namespace, item))
        if "custom_object" in name:
            return self.unknown
        listed = [
            {"metadata": {"name": "web", "namespace": each, "annotations": {quarantine.STILLED: "2"}}, "spec": {"replicas": 0}}
            for each in ("chris", "other", "of-another-site")
        ]
        return lambda *_, **__: {"items": listed if name == "list_deployment_for_all_namespaces" else []}

    def unknown(self, **_) -> None:
        raise quarantine.kubernetes.client.ApiException(status=404)


class ClusterThatRunsAll(ClusterOfTwoSites):
    """Has one workload of each kind that makes pods, in the tenant's project."""

    def __getattr__(self, name) -> Callable[..., Any]:
        if name.startswith("patch_"):
            return super().__getattr__(name)
        spec = {"replicas": 1, "template": {"spec": {}}}
        return lambda *_, **__: {"items": [workload(spec)] if name.startswith("list_namespaced_") else []}

    def list_namespaced_custom_object(self, **asked) -> dict[str, Any]:
        assert (asked["group"], asked["plural"]) == ("apps.openshift.io", "deploymentconfigs")
        return {"items": [workload({"replicas": 1})]}

    def patch_namespaced_custom_object(self, **asked) -> None:
        self.patched.append((asked["namespace"], asked["body"]["spec"]))


@pytest.fixture
def reached(monkeypatch):
    """Put clusters and clouds where the real ones would be."""

    def reach(cluster: Any, compute: Any) -> None:
        client = SimpleNamespace(sanitize_for_serialization=lambda listed: listed)
        monkeypatch.setattr(quarantine, "kubernetes_client", lambda _: nullcontext(client))
        for api in ("AppsV1Api", "BatchV1Api", "CoreV1Api", "CustomObjectsApi"):
            monkeypatch.setattr(quarantine.kubernetes.client, api, lambda _: cluster)
        monkeypatch.setattr(quarantine, "openstack_connection", lambda _: nullcontext(SimpleNamespace(compute=compute)))

    return reach


def test_only_pods_of_this_site_are_woken(stack, cloud_use, reached):
    cluster = ClusterOfTwoSites()
    reached(cluster, NovaOfTwoSites())
    quarantine.remember(stack)
    assert quarantine.settle(stack) == ["deployment other/web is as before its quarantine"]
    assert cluster.patched == [("other", "web")]


def test_everything_that_makes_pods_is_stilled(stack, cloud_use, reached):
    cluster = ClusterThatRunsAll()
    reached(cluster, NovaOfTwoSites())
    quarantine.remember(stack)
    assert {each.partition(" n/a")[0] for each in quarantine.settle(stack)} == {
        "deployment config",
        "deployment",
        "stateful set",
        "replica set",
        "replication controller",
        "daemon set",
        "cron job",
        "job",
    }
    assert ("n", {"replicas": 0}) in cluster.patched


class NovaOfTwoSites:
    """Has servers of two sites, and knows no tags in what it is asked: it lists all.

    :param servers: id, project, status
    """

    def __init__(self, *servers: tuple[str, str, str]) -> None:
        self.there = [
            SimpleNamespace(id=own, name=f"name-{own}", project_id=project, status=status, task_state=None, tags=[])
            for own, project, status in servers
        ]

    def servers(self, *, all_projects, project_id="", status="", tags="") -> list[Any]:
        assert all_projects
        assert project_id or tags
        return [each for each in self.there if project_id in ("", each.project_id) and status in ("", each.status)]

    def add_tag_to_server(self, server, tag) -> None:
        assert server.status == "ACTIVE", "what is shut off before it is marked would never be started again"
        server.tags.append(tag)

    def remove_tag_from_server(self, server, tag) -> None:
        assert server.status in ("ACTIVE", "SHUTOFF"), "Nova answers 409"
        server.tags.remove(tag)

    def stop_server(self, server) -> None:
        server.status = "SHUTOFF"

    def start_server(self, server) -> None:
        assert server.status == "SHUTOFF"
        server.status = "ACTIVE"

    def running(self) -> list[str]:
        return [each.id for each in self.there if each.status == "ACTIVE"]


def test_servers_of_a_closed_project_are_shut_off_and_only_these_are_started_again(stack, sites, cloud_use, reached):
    nova = NovaOfTwoSites(
        ("theirs", "chris-id", "ACTIVE"),
        ("off", "chris-id", "SHUTOFF"),
        ("pools", "chris-id", "ACTIVE"),
        ("others", "other-id", "ACTIVE"),
        ("others-off", "other-id", "SHUTOFF"),
    )
    for own, project, status in (("far", "far-id", "SHUTOFF"), ("shelved", "other-id", "SHELVED_OFFLOADED")):
        marked = {"status": status, "task_state": None, "tags": [quarantine.STOPPED]}
        nova.there.append(SimpleNamespace(id=own, name=own, project_id=project, **marked))
    stack.told["identity"]["projects"]["other"] = "other-id"
    stack.held = [{"type": "openstack:compute/instance:Instance", "urn": "::pools", "id": "pools"}]
    reached(ClusterOfTwoSites(), nova)
    quarantine.remember(stack)
    assert "server name-theirs (theirs) is shut off" in quarantine.settle(stack)
    assert nova.running() == ["pools", "others"]
    assert not [each for each in quarantine.settle(stack) if each.startswith("server")], "it is so already"
    stack.site = sites[0]
    quarantine.remember(stack)
    assert "server name-theirs (theirs) is as before its quarantine" in quarantine.settle(stack)
    assert nova.running() == ["theirs", "pools", "others"]
    assert [each.id for each in nova.there if each.tags] == ["far", "shelved"]


def test_a_server_that_nova_still_shuts_off_is_started_when_it_has():
    nova = NovaOfTwoSites(("theirs", "chris-id", "ACTIVE"))
    (theirs,) = nova.there
    theirs.tags, theirs.task_state = [quarantine.STOPPED], "powering-off"
    started = []

    def shut_off(server, *, status, wait):
        server.status, server.task_state = status, None
        return server

    nova.wait_for_server, nova.start_server = shut_off, started.append
    assert list(quarantine.Servers(nova, set()).wake(["chris-id"])) == ["server name-theirs (theirs)"]
    assert (started, theirs.tags) == ([theirs], [])


def test_projects_that_are_closed(stack, sites, cloud_use):
    quarantine.remember(stack)
    assert quarantine.closed_namespaces(stack.site, quarantine.marked(stack)) == ["chris"]


def test_who_may_be_deleted_and_when(stack, sites, cloud_use):
    with pytest.raises(OperatorError, match="chris is not in quarantine; tenants that may be purged: none"):
        purge.permitted(stack, "chris", day=DAY, now=False)
    quarantine.remember(stack)
    with pytest.raises(OperatorError, match="its grace ends on 2026-12-21; wait, or give --now") as refused:
        purge.permitted(stack, "chris", day=DAY + timedelta(days=29), now=False)
    assert refused.value.code == 2
    mark = purge.permitted(stack, "chris", day=DAY + timedelta(days=30), now=False)
    assert purge.permitted(stack, "chris", day=DAY, now=True) == mark
    with pytest.raises(OperatorError, match="other is in the site file; take it out first"):
        purge.permitted(stack, "other", day=DAY, now=True)


def test_what_a_purge_costs(stack, cloud_use, monkeypatch):
    quarantine.remember(stack)
    mark = quarantine.marked(stack)["chris"]
    cloud_use["project"] = {"servers": 3, "volumes": 1, "objects": 12}
    cloud_use["namespace"] = {"persistent volume claims": 0}
    theirs = Stray(tenant="chris", kind="server", id="s", name="own", data=True)
    others = [Stray(tenant="other", kind="volume", id="v", data=True), Stray(tenant="chris", kind="network", id="n")]
    monkeypatch.setattr(purge, "strays", lambda *_: [theirs, *others])
    held = purge.cost(stack, "chris", mark)
    assert held.sentence() == "3 servers, 1 volumes, 12 objects"
    assert held.foreign == ["the server own of chris (s)"]
    cloud_use["project"] = "no answer"
    with pytest.raises(OperatorError, match="what chris holds cannot be told: no answer"):
        purge.cost(stack, "chris", mark)


def test_a_purge_empties_and_then_deletes(stack, cloud_use):
    quarantine.remember(stack)
    purge.delete(stack, "chris", stack.up)
    first, second = stack.runs
    assert read_marks(first["pfmoc:quarantine"])["chris"].emptied
    assert json.loads(second["pfmoc:purge"]) == ["chris"]
    assert "pfmoc:quarantine" not in second
    assert stack.settings == {}


def test_a_purge_that_was_cut_off_is_gone_on_with(stack, cloud_use):
    quarantine.remember(stack)

    def fail():
        if len(stack.runs) == 2:
            raise OperatorError("the engine was killed")

    stack.on_up = fail
    with pytest.raises(OperatorError, match="killed"):
        purge.delete(stack, "chris", stack.up)
    assert purge.going_on(stack, "chris")
    assert quarantine.remember(stack) == []
    assert purge.going_on(stack, "chris")
    purge.delete(stack, "chris", stack.up)
    assert stack.settings == {}


@pytest.mark.parametrize("kind", ["pfmoc:infra:Tenant", "pfmoc:infra:OpenShiftProject"])
def test_a_purge_whose_second_run_fails_is_gone_on_with(stack, sites, cloud_use, kind):
    """An engine that is not killed writes the new outputs, in which the tenant is no more, though it could not delete all."""
    quarantine.remember(stack)

    def fail():
        if len(stack.runs) == 2:
            stack.told["tenants"] = records(sites[1], {})
            stack.held = [{"type": kind, "urn": urn(kind, "chris")}]
            raise OperatorError("Neutron refuses it")

    stack.on_up = fail
    with pytest.raises(OperatorError, match="Neutron"):
        purge.delete(stack, "chris", stack.up)
    assert quarantine.remember(stack) == []
    assert purge.going_on(stack, "chris")
    purge.delete(stack, "chris", stack.up)
    assert stack.settings == {}


def test_a_purge_that_was_done_and_not_written_down_costs_nobody_else(stack, sites, cloud_use):
    stack.settings["pfmoc:purge"] = '["chris"]'
    stack.told["tenants"] = records(sites[1], {})
    quarantine.remember(stack)
    assert json.loads(stack.settings["pfmoc:purge"]) == []
