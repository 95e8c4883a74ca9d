"""Projects of ordinary users: asked for, kept apart, taken away."""

from __future__ import annotations

import json
import secrets
import subprocess

import pytest
from harness.cluster import BUSYBOX
from harness.openshift import DEADLINE_S, PROJECT
from harness.waiting import until
from kubernetes.client import ApiException

pytest_plugins = ["harness.openshift_fixtures"]

RANGE = "openshift.io/sa.scc.uid-range"


@pytest.fixture(scope="module")
def project(alice):
    with alice.project() as name:
        yield name


def annotations(user, project):
    return user.core.read_namespace(project).metadata.annotations


def all_ranges(admin):
    """The range of each namespace, once each has one."""
    ranges = [(namespace.metadata.annotations or {}).get(RANGE) for namespace in admin.core.list_namespace().items]
    return ranges if all(ranges) else None


def test_a_requested_project_is_its_requesters(alice):
    name = f"test-{secrets.token_hex(4)}"
    made = alice.request_project(name, displayName="A project", description="of a test")
    try:
        assert made["metadata"]["annotations"]["openshift.io/display-name"] == "A project"
        assert made["metadata"]["annotations"]["openshift.io/requester"] == "alice"
        binding = alice.rbac.read_namespaced_role_binding("admin", name)
        assert binding.role_ref.name == "admin"
        assert [(subject.kind, subject.name) for subject in binding.subjects] == [("User", "alice")]
        # The list is made from a copy that the API server brings up to date each second, as in OpenShift.
        until(lambda: name in alice.projects(), what="the project in the list")
        until(lambda: alice.may("get", PROJECT, "projects", name=name))
        assert alice.custom.get_cluster_custom_object(PROJECT, "v1", "projects", name)["status"]["phase"] == "Active"
    finally:
        alice.delete_project(name)
    until(lambda: name not in alice.projects(), what="the end of the project", deadline_s=DEADLINE_S)


def test_a_deleted_project_is_gone_with_all_that_it_held(alice, admin):
    with alice.project() as name:
        alice.core.create_namespaced_config_map(name, {"metadata": {"name": "a"}})
        alice.make_route(name, "a")
    admin.wait_until_gone(admin.core.list_namespace, name)
    # The garbage collector's turn, which may have much else to take away.
    until(
        lambda: not admin.rbac.list_cluster_role_binding(field_selector=f"metadata.name=project:{name}:admin").items,
        what="the end of the rights",
        deadline_s=DEADLINE_S,
    )


def test_another_user_sees_and_touches_nothing_of_it(project, bob):
    assert project not in bob.projects()
    attempts = (
        lambda: bob.custom.get_cluster_custom_object(PROJECT, "v1", "projects", project),
        lambda: bob.custom.delete_cluster_custom_object(PROJECT, "v1", "projects", project),
        lambda: bob.core.read_namespace(project),
        lambda: bob.core.list_namespaced_pod(project),
        lambda: bob.core.list_namespaced_secret(project),
        lambda: bob.core.create_namespaced_config_map(project, {"metadata": {"name": "b"}}),
        lambda: bob.make_route(project, "b"),
        bob.core.list_namespace,
        bob.core.list_node,
    )
    for attempt in attempts:
        with pytest.raises(ApiException) as refused:
            attempt()
        assert refused.value.status == 403


@pytest.mark.parametrize(("name", "status"), [("openshift-mine", 403), ("kube-mine", 403), ("default", 403), ("Wrong_Name", 422)])
def test_a_name_that_nobody_may_have_is_refused(alice, name, status):
    with pytest.raises(ApiException) as refused:
        alice.request_project(name)
    # An existing name is told from a forbidden one only to those who may see it.
    assert refused.value.status in (status, 409)


def test_a_name_is_given_once(project, bob):
    with pytest.raises(ApiException) as refused:
        bob.request_project(project)
    assert refused.value.status == 409


def test_a_role_in_the_project_gives_the_rights_on_the_project(project, alice, bob):
    binding = {
        "metadata": {"name": "guest"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    }
    alice.rbac.create_namespaced_role_binding(project, binding)
    until(lambda: bob.may("get", PROJECT, "projects", name=project))
    until(lambda: project in bob.projects())
    assert not bob.may("delete", PROJECT, "projects", name=project)
    assert not bob.may("create", "", "pods", namespace=project)
    alice.rbac.delete_namespaced_role_binding("guest", project)
    until(lambda: not bob.may("get", PROJECT, "projects", name=project))
    until(lambda: project not in bob.projects())


def test_each_namespace_has_user_ids_of_its_own(alice, admin):
    names = [f"test-{secrets.token_hex(4)}" for _ in range(5)]
    for name in names:
        alice.request_project(name)
    try:
        for name in names:
            until(lambda name=name: RANGE in annotations(alice, name))
        marks = annotations(alice, names[0])
        first, length = map(int, marks[RANGE].split("/"))
        assert first >= 1_000_000_000
        assert length == 10_000
        assert marks["openshift.io/sa.scc.supplemental-groups"] == marks[RANGE]
        assert marks["openshift.io/sa.scc.mcs"].startswith("s0:c")
        ranges = until(lambda: all_ranges(admin), what="a range for each", deadline_s=DEADLINE_S)
        assert len(set(ranges)) == len(ranges)
    finally:
        for name in names:
            alice.delete_project(name)


def test_service_accounts_have_the_bindings_that_openshift_gives_them(project, alice):
    def bindings():
        return {binding.metadata.name for binding in alice.rbac.list_namespaced_role_binding(project).items}

    wanted = {"admin", "system:image-pullers", "system:image-builders", "system:deployers"}
    until(lambda: wanted <= bindings())
    alice.rbac.delete_namespaced_role_binding("system:image-pullers", project)
    until(lambda: wanted <= bindings())


def test_a_job_runs_in_the_project_under_a_user_id_of_its_range(project, alice, admin):
    admin.core.patch_namespace(project, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    uid = int(until(lambda: annotations(alice, project).get(RANGE)).split("/")[0]) + 7
    container = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-euc", "id -u"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": uid, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    job = {"metadata": {"name": "whoami"}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}}
    alice.batch.create_namespaced_job(project, job)
    alice.wait(alice.batch.list_namespaced_job, lambda found: found.status.succeeded == 1, project)
    pod = alice.core.list_namespaced_pod(project, label_selector="job-name=whoami").items[0]
    assert alice.core.read_namespaced_pod_log(pod.metadata.name, project).strip() == str(uid)


def test_kubectl_does_for_an_ordinary_user(box, alice):
    name = f"test-{secrets.token_hex(4)}"

    def kubectl(*words, document=None):
        command = [str(box.toolchain / "bin" / "kubectl"), f"--kubeconfig={alice.kubeconfig}", *words]
        stdin = json.dumps(document) if document else None
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout

    request = {"apiVersion": f"{PROJECT}/v1", "kind": "ProjectRequest", "metadata": {"name": name}}
    kubectl("create", "--filename=-", document=request)
    try:
        until(lambda: name in kubectl("get", "projects"), what="the project in the list")
        route = {"apiVersion": "route.openshift.io/v1", "kind": "Route", "metadata": {"name": "web"}}
        kubectl(
            "apply", f"--namespace={name}", "--filename=-", document={**route, "spec": {"to": {"kind": "Service", "name": "web"}}}
        )
        assert f"web-{name}.apps.box.localhost" in kubectl("get", f"--namespace={name}", "routes")
    finally:
        until(lambda: alice.may("delete", PROJECT, "projects", name=name))
        kubectl("delete", "project", name)
