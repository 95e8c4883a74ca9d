"""What the guards let through, and what they refuse."""

from __future__ import annotations

import pytest
from fakes.engine import step, urn

from infra.guards import Refused, Risk, Use, given_up, refusals, risks
from infra.identity import Identity, differences
from infra.leftovers import leftovers
from infra.plan import Plan
from infra.quantities import amount

PROJECT = "openstack:identity/project:Project"
CONTAINER = "openstack:objectstorage/container:Container"
SERVER = "openstack:compute/instance:Instance"
NOVA = "openstack:compute/quotaSetV2:QuotaSetV2"
ACCOUNT = "openstack:objectstorage/accountV1:AccountV1"
QUOTA = "kubernetes:core/v1:ResourceQuota"
NAMESPACE = "kubernetes:core/v1:Namespace"
CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
MACHINES = "kubernetes:machine.openshift.io/v1beta1:MachineSet"

IN_CONTAINER = {"name": "data", "metadata": {"Pfmoc-Tenant": "chris", "Quota-Bytes": "100"}}
SAME_PROJECT = step("same", PROJECT, "chris", old={}, new={}, id_="p1")


def found(*events, **kwargs):
    return risks(Plan.of(events), **kwargs)


@pytest.mark.parametrize(
    ("event", "resource", "subject", "place"),
    [
        (step("delete", PROJECT, "chris", old={}, id_="p1"), "tenant/chris", "project", "p1"),
        (step("replace", PROJECT, "chris", old={}, new={}, id_="p1"), "tenant/chris", "project", "p1"),
        (step("delete", CONTAINER, "chris-data", old=IN_CONTAINER), "container/chris/data", "container", "p1"),
        (
            step("delete-replaced", SERVER, "gpu-0", old={"metadata": {"pfmoc_pool": "gpu", "pfmoc_tenant": "chris"}}, id_="s"),
            "node-pool/gpu",
            "server",
            "s",
        ),
        (step("delete", NAMESPACE, "chris", old={"metadata": {"name": "chris-ns"}}), "tenant/chris", "namespace", "chris-ns"),
        (step("create", NAMESPACE, "chris", new={"metadata": {"name": "chris-ns"}}), "tenant/chris", "newcomer", "chris-ns"),
        (
            step("create-replacement", NAMESPACE, "chris", old={"metadata": {"name": "a"}}, new={"metadata": {"name": "b"}}),
            "tenant/chris",
            "newcomer",
            "b",
        ),
        (
            step("delete", CLAIM, "pfmoc", old={"metadata": {"name": "pfmoc", "namespace": "ns"}}),
            "volume/ns/pfmoc",
            "claim",
            "ns/pfmoc",
        ),
        (step("delete", MACHINES, "gpu", old={"spec": {"replicas": 3}}), "node-pool/gpu", "machines", "3"),
        (
            step("update", MACHINES, "gpu", old={"spec": {"replicas": 3}}, new={"spec": {"replicas": 1}}),
            "node-pool/gpu",
            "machines",
            "2",
        ),
    ],
)
def test_what_bears_data_is_a_risk(event, resource, subject, place):
    (risk,) = found(SAME_PROJECT, event)
    assert (risk.resource, risk.subject, risk.id, risk.limits) == (resource, subject, place, {})


@pytest.mark.parametrize(
    "event",
    [
        step("create", PROJECT, "chris", new={}),
        step("update", PROJECT, "chris", old={}, new={}),
        step("delete", "openstack:networking/subnet:Subnet", "x", old={}),
        step("delete", NAMESPACE, "kube-system", old={"metadata": {"name": "kube-system"}}),
        step("read-discard", NAMESPACE, "kube-system", old={"metadata": {"name": "kube-system"}}),
        step("update", MACHINES, "gpu", old={"spec": {"replicas": 1}}, new={"spec": {"replicas": 3}}),
        step("update", NOVA, "chris", old={"cores": 10}, new={"cores": 20}),
        step("update", NOVA, "chris", old={"cores": 10}, new={"cores": -1}),
    ],
)
def test_the_rest_is_none(event):
    assert found(event) == []


def test_a_replacement_is_one_risk():
    events = [step(op, PROJECT, "chris", old={}, new={}, id_="p1") for op in ("create-replacement", "replace", "delete-replaced")]
    assert len(found(*events)) == 1


def test_a_project_that_is_renamed_may_take_over_another_and_lose_its_own():
    old, new = {"metadata": {"name": "chris-ns"}}, {"metadata": {"name": "theirs"}}
    events = [step(op, NAMESPACE, "chris", old=old, new=new) for op in ("create-replacement", "replace", "delete-replaced")]
    assert [(risk.subject, risk.id) for risk in found(*events)] == [("newcomer", "theirs"), ("namespace", "chris-ns")]


IN_POOL = {"imageName": "linux", "metadata": {"pfmoc_pool": "gpu", "pfmoc_tenant": "chris"}}


def rebuilt(has, *, wanted="linux", fields=("imageName",), name="gpu-0"):
    """A server whose image has another name in Glance than the site file says."""
    return step(
        "update", SERVER, name, old=IN_POOL, outputs={**IN_POOL, "imageName": has}, new={"imageName": wanted}, fields=fields
    )


@pytest.mark.parametrize("fields", [("imageName",), ("powerState", "imageName", "imageId"), ()])
def test_a_server_that_gets_another_image_is_a_risk(fields):
    (risk,) = found(rebuilt("linux-old", fields=fields))
    assert (risk.resource, risk.subject, risk.images) == ("node-pool/gpu", "server", ("linux-old", "linux"))
    assert found(rebuilt("linux-old", fields=fields), allowed=["node-pool/gpu"]) == []
    assert found(rebuilt("linux", fields=("powerState",))) == []


@pytest.mark.parametrize(
    ("has", "wanted", "way_out"),
    [
        ("linux-old", "linux", "their image is called linux-old now; to leave them as they are, set the pool's image to that"),
        ("linux", "linux-new", "their image is called linux now; to leave them as they are, set the pool's image to that"),
        (
            "Image not found",
            "linux",
            "Glance no longer has the image that they were made from; --no-refresh leaves them as they are",
        ),
    ],
)
def test_servers_are_not_rebuilt_and_the_way_out_is_told(has, wanted, way_out):
    servers = Use(amounts={"servers": 1})
    dangers = found(*(rebuilt(has, wanted=wanted, name=f"gpu-{index}") for index in range(2)))
    (refusal,) = refusals((risk, servers) for risk in dangers)
    assert refusal.why == f"would have 2 servers rebuilt from {wanted}, and what is on their disks lost: {way_out}"


def test_servers_that_go_are_counted_apart_from_those_that_are_rebuilt():
    servers = Use(amounts={"servers": 1})
    dangers = found(rebuilt("linux-old"), step("delete", SERVER, "gpu-1", old=IN_POOL))
    told = [refusal.why for refusal in refusals((risk, servers) for risk in dangers)]
    assert [why.partition(",")[0] for why in told] == [
        "would have 1 servers rebuilt from linux",
        "would be deleted with 1 servers",
    ]


@pytest.mark.parametrize(
    ("event", "subject", "limits"),
    [
        (step("create", ACCOUNT, "chris", new={"metadata": {"Quota-Bytes": "5"}}), "account", {"bytes": (None, 5)}),
        (step("create", NOVA, "chris", new={"cores": 4, "instances": -1, "projectId": "p1"}), "nova", {"cores": (None, 4)}),
    ],
)
def test_a_first_quota_of_a_project_that_is_there_is_a_risk(event, subject, limits):
    (risk,) = found(SAME_PROJECT, event)
    assert (risk.resource, risk.subject, risk.id, risk.limits) == ("tenant/chris", subject, "p1", limits)
    assert found(SAME_PROJECT, event, quarantined=frozenset({"chris"})) == []
    assert found(step("create", PROJECT, "chris", new={}), event) == [], "in a new project there is nothing"


def test_what_is_new_is_not_asked_for_its_use():
    hard = {"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": {"pods": "3"}}}
    assert found(SAME_PROJECT, step("create", QUOTA, "chris", new=hard)) == []
    assert found(SAME_PROJECT, step("create", CONTAINER, "chris-data", new=IN_CONTAINER)) == []
    assert found(SAME_PROJECT, step("create", NOVA, "chris", new={"cores": -1})) == []


@pytest.mark.parametrize(
    ("event", "limits"),
    [
        (step("update", NOVA, "chris", old={"cores": 40, "ram": 5}, new={"cores": 4, "ram": 5}), {"cores": (40, 4)}),
        (step("update", NOVA, "chris", old={"cores": -1}, new={"cores": 4}), {"cores": (None, 4)}),
        # The cloud's value counts, not the one that was last applied.
        (step("update", NOVA, "chris", old={"cores": 4}, outputs={"cores": 40}, new={"cores": 4}), {"cores": (40, 4)}),
        (
            step("update", ACCOUNT, "chris", old={"metadata": {}}, new={"metadata": {"Quota-Bytes": "10"}}),
            {"bytes": (None, 10)},
        ),
        (
            step("update", CONTAINER, "chris-data", old=IN_CONTAINER, new={**IN_CONTAINER, "metadata": {"Quota-Bytes": "10"}}),
            {"bytes": (100, 10)},
        ),
        (
            step(
                "update",
                QUOTA,
                "chris",
                old={"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": {"limits.memory": "16Gi", "pods": "3"}}},
                new={"spec": {"hard": {"limits.memory": "8Gi", "pods": "3"}}},
            ),
            {"limits.memory": (16 * 2**30, 8 * 2**30)},
        ),
    ],
)
def test_a_quota_that_shrinks_is_a_risk(event, limits):
    (risk,) = found(SAME_PROJECT, event)
    assert risk.limits == limits


@pytest.mark.parametrize("pattern", ["container/chris/data", "tenant/chris", "container/*", "tenant/*"])
def test_what_is_named_is_allowed(pattern):
    event = step("delete", CONTAINER, "chris-data", old=IN_CONTAINER)
    assert found(SAME_PROJECT, event, allowed=[pattern]) == []
    assert found(SAME_PROJECT, event, allowed=["container/other/data", "tenant/chr"])


@pytest.mark.parametrize("inputs", [IN_CONTAINER, {"name": "data"}])
def test_containers_that_are_given_up_by_name(inputs):
    plan = Plan.of([SAME_PROJECT, *(step(op, CONTAINER, "chris-data", old=inputs) for op in ("delete-replaced", "replace"))])
    (risk,) = given_up(plan, ["container/chris/data"])
    assert (risk.tenant, risk.container, risk.id) == ("chris", "data", "p1")
    assert given_up(plan, ["tenant/chris"]) == [risk]
    assert given_up(plan, ["container/chris/more", "tenant/other"]) == []
    assert given_up(Plan.of([SAME_PROJECT]), ["*"]) == []


def test_quotas_of_a_tenant_in_quarantine_may_shrink():
    event = step("update", NOVA, "chris", old={"cores": 40}, new={"cores": 0})
    assert found(event, quarantined=frozenset({"chris"})) == []
    assert found(event, quarantined=frozenset({"other"}))
    assert found(step("delete", PROJECT, "chris", old={}, id_="p"), quarantined=frozenset({"chris"}))


def of(**more) -> Risk:
    return Risk(**{"resource": "tenant/chris", "tenant": "chris", "subject": "project", "id": "p", **more})


def test_what_is_empty_may_go():
    assert refusals([(of(), Use(amounts={"servers": 0, "volumes": 0}))]) == []


def test_what_is_not_is_refused_with_the_numbers():
    (refusal,) = refusals([(of(), Use(amounts={"servers": 2, "volumes": 0, "objects": 1200000}))])
    assert refusal.why == "would be deleted with 2 servers, 1200000 objects"
    text = str(Refused([refusal]))
    assert "tenant/chris would be deleted with 2 servers" in text
    assert text.endswith("give --allow tenant/chris")


def test_a_quota_above_its_use_may_shrink():
    risk = of(subject="nova", limits={"cores": (40, 8), "ram": (100, 50)})
    assert refusals([(risk, Use(amounts={"cores": 8, "ram": 50}))]) == []
    (refusal,) = refusals([(risk, Use(amounts={"cores": 12, "ram": 50}))])
    assert refusal.why == "has quotas that would shrink below their use: cores from 40 to 8, and 12 are in use"


def test_a_project_of_somebody_else_is_not_taken_over():
    newcomer = of(subject="newcomer", id="chris-ns")
    assert refusals([(newcomer, Use(amounts={"projects of others": 0}))]) == []
    (refusal,) = refusals([(newcomer, Use(amounts={"projects of others": 1}))])
    assert refusal.why.startswith("would take over the OpenShift project chris-ns, which is there already")


@pytest.mark.parametrize("more", [{}, {"limits": {"cores": (None, 8.0)}}, {"subject": "newcomer"}])
def test_what_cannot_be_told_is_refused(more):
    (refusal,) = refusals([(of(**more), Use(unknown="nothing listens"))])
    assert refusal.why.endswith("cannot be told: nothing listens")


RECORDED = Identity(projects={"p1": "default", "p2": "default"}, cluster="c1")


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (Identity(projects={"p1": "default", "p2": "default"}, cluster="c1"), []),
        # One of them was deleted by hand.
        (Identity(projects={"p1": "default", "p2": None}, cluster="c1"), []),
        (Identity(projects={"p1": None, "p2": None}, cluster="c1"), ["Keystone knows none of the 2 projects"]),
        (Identity(projects={"p1": "other", "p2": "default"}, cluster="c1"), ["the project p1 is in the domain other"]),
        (Identity(projects={"p1": "default", "p2": "default"}, cluster="c2"), ["the cluster is c2"]),
    ],
)
def test_other_clouds_are_told_from_the_states(present, expected):
    told = differences(RECORDED, present)
    assert len(told) == len(expected)
    assert all(sentence.startswith(begin) for sentence, begin in zip(told, expected, strict=True))


def test_the_identity_is_read_from_the_state():
    state = [
        {"urn": urn(PROJECT, "chris"), "type": PROJECT, "id": "p1", "outputs": {"domainId": "default"}},
        {"urn": urn(NAMESPACE, "chris"), "type": NAMESPACE, "outputs": {"metadata": {"name": "chris", "uid": "u1"}}},
        {"urn": urn(NAMESPACE, "kube-system"), "type": NAMESPACE, "outputs": {"metadata": {"name": "kube-system", "uid": "c1"}}},
        {"urn": urn(NOVA, "chris"), "type": NOVA},
    ]
    assert Identity.recorded(state) == Identity(projects={"p1": "default"}, cluster="c1")
    assert differences(Identity.recorded([]), Identity()) == []


def test_what_stays_is_told(tmp_path):
    (tmp_path / "there").touch()
    state = [
        {"type": PROJECT, "id": "p1"},
        {"type": "openstack:networking/network:Network", "id": "n"},
    ]
    told = leftovers(state, files=[tmp_path / "there", tmp_path / "gone"], after=2)
    assert [sentence.split()[0] for sentence in told] == ["2", "Swift's", "Neutron's", str(tmp_path / "there")]
    assert leftovers([], files=[], after=0) == []


@pytest.mark.parametrize(("text", "number"), [("500m", 0.5), ("16Gi", 16 * 2**30), ("2", 2), ("1e3", 1000), ("4k", 4000), (7, 7)])
def test_quantities(text, number):
    assert amount(text) == number


def test_what_is_no_quantity():
    with pytest.raises(ValueError, match="is not a quantity"):
        amount("many")
