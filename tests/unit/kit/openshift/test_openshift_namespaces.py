"""User ids, finalizers and rights of namespaces."""

from __future__ import annotations

import pytest
from box_openshift.project_finalizer import ProjectFinalizer
from box_openshift.project_rights import subjects
from box_openshift.uid_ranges import UID_RANGE, UidRanges, block_of, categories, marks


class Recorder:
    """A cluster that keeps what it is asked for."""

    def __init__(self) -> None:
        self.asked = []

    def patch(self, _resource, name, body):
        self.asked.append((name, body))

    def request(self, method, path, body=None):
        self.asked.append((method, path, body))


class Objects:
    """An informer that has seen these, and sees no more."""

    def __init__(self, *things) -> None:
        self.listeners = []
        self.things = {thing["metadata"]["name"]: thing for thing in things}

    def get(self, key):
        return self.things.get(key)

    def all(self):
        return list(self.things.values())


def namespace(name, *, uids="", finalizers=(), deleted=False):
    metadata = {"name": name, "annotations": {UID_RANGE: uids} if uids else None}
    return {"metadata": metadata | ({"deletionTimestamp": "now"} if deleted else {}), "spec": {"finalizers": list(finalizers)}}


@pytest.mark.parametrize(
    ("number", "label"), [(0, "s0:c1,c0"), (1, "s0:c2,c0"), (2, "s0:c2,c1"), (3, "s0:c3,c0"), (330, "s0:c26,c5")]
)
def test_labels_are_pairs_of_different_categories(number, label):
    assert categories(number) == label


def test_no_two_blocks_share_a_label():
    assert len({marks(block)["openshift.io/sa.scc.mcs"] for block in range(5000)}) == 5000


@pytest.mark.parametrize("block", [0, 1, 99_999])
def test_a_block_is_found_again_in_its_marks(block):
    assert block_of({"metadata": {"annotations": marks(block)}}) == block


@pytest.mark.parametrize("uids", ["", "1000000001/10000", "999990000/10000", "1000000000/5000", "nonsense"])
def test_a_range_that_is_not_ours_is_no_block(uids):
    assert block_of({"metadata": {"annotations": {UID_RANGE: uids}}}) is None


def test_the_first_free_block_is_given_out_once():
    cluster = Recorder()
    taken = (namespace("a", uids="1000000000/10000"), namespace("c", uids="1000020000/10000"))
    ranges = UidRanges(cluster, Objects(*taken, namespace("b"), namespace("d")))
    for name in "abcd":
        ranges.reconcile(name)
    # The informer shows neither yet.
    given = {name: body["metadata"]["annotations"][UID_RANGE] for name, body in cluster.asked}
    assert given == {"b": "1000010000/10000", "d": "1000030000/10000"}


def test_only_a_namespace_that_is_being_deleted_is_finalized_and_others_finalizers_stay():
    cluster = Recorder()
    both = ("openshift.io/origin", "kubernetes")
    finalizer = ProjectFinalizer(cluster, Objects(namespace("a", finalizers=both), namespace("b", finalizers=both, deleted=True)))
    finalizer.reconcile("a")
    finalizer.reconcile("b")
    finalizer.reconcile("gone")
    ((method, path, body),) = cluster.asked
    assert (method, path) == ("PUT", "/api/v1/namespaces/b/finalize")
    assert body["spec"]["finalizers"] == ["kubernetes"]


def binding(role, *who, kind="ClusterRole"):
    return {"metadata": {"namespace": "p"}, "roleRef": {"kind": kind, "name": role}, "subjects": list(who)}


def test_those_with_a_role_are_found_each_once():
    user, account = {"kind": "User", "name": "alice"}, {"kind": "ServiceAccount", "name": "robot"}
    bindings = [
        binding("admin", user, account),
        binding("admin", user),
        binding("view", {"kind": "Group", "name": "staff"}),
        binding("admin", {"kind": "User", "name": "mallory"}, kind="Role"),
        binding("system:image-puller", {"kind": "User", "name": "puller"}),
        {**binding("admin"), "subjects": None},
    ]
    group = {"apiGroup": "rbac.authorization.k8s.io"}
    assert subjects(bindings, "admin") == [{**group, **user}, {**account, "namespace": "p"}]
    assert subjects(bindings, "viewer") == [{**group, "kind": "Group", "name": "staff"}]
