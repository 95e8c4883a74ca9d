"""The cluster runs what people run on one, and says how it went."""

from __future__ import annotations

import subprocess

import pytest
from harness.cluster import Cluster, pod
from harness.images import write_archive
from harness.waiting import until
from kubernetes import client

ENDS = ("Complete", "Failed")


def job(script: str, *, first: str = "true", limits: dict[str, str] | None = None, **spec) -> dict:
    """A Job of one try: an init container, then the main one, with a directory that both see."""
    template = pod(script)["spec"]
    template["volumes"] = [{"name": "work", "emptyDir": {}}]
    (main,) = template["containers"]
    main["volumeMounts"] = [{"name": "work", "mountPath": "/scratch"}]
    template["initContainers"] = [main | {"name": "first", "command": ["/bin/sh", "-euc", first]}]
    main["resources"] = {"limits": limits or {}}
    return {"metadata": {"generateName": "job-"}, "spec": {"backoffLimit": 0, "template": {"spec": template}} | spec}


def run(cluster: Cluster, namespace: str, body: dict) -> tuple[str, client.V1Pod]:
    """Run a Job to its end: the condition that it ended with, with its reason, and its pod."""
    name = cluster.batch.create_namespaced_job(namespace, body).metadata.name
    ended = cluster.wait(
        cluster.batch.list_namespaced_job,
        lambda found: any(
            each.type in ("Complete", "Failed") and each.status == "True" for each in found.status.conditions or []
        ),
        namespace,
        field_selector=f"metadata.name={name}",
    )
    condition = next(each for each in ended.status.conditions if each.type in ENDS)
    (found,) = cluster.core.list_namespaced_pod(namespace, label_selector=f"job-name={name}").items or [None]
    return f"{condition.type} {condition.reason or ''}".strip(), found


def test_the_node_is_ready_and_says_that_it_is_real(cluster):
    (node,) = cluster.core.list_node(label_selector="box.chrisproject.org/node=real").items
    assert {each.type: each.status for each in node.status.conditions}["Ready"] == "True"
    assert node.metadata.labels["kubernetes.io/arch"] == "amd64"
    assert {each.type: each.address for each in node.status.addresses}["InternalIP"] == "10.89.0.1"


def test_a_job_of_three_stages_hands_its_data_on_and_its_logs_are_read(cluster, namespace):
    body = job("tr a-z A-Z < /scratch/text", first="echo fetched; echo three stages > /scratch/text")
    template = body["spec"]["template"]["spec"]
    second = template["initContainers"][0] | {"name": "second", "command": ["/bin/sh", "-euc", "echo and more >> /scratch/text"]}
    template["initContainers"].append(second)
    outcome, found = run(cluster, namespace, body)
    assert outcome.split()[0] == "Complete"

    def log(container: str) -> str:
        return cluster.core.read_namespaced_pod_log(found.metadata.name, namespace, container=container)

    assert (log("first"), log("main")) == ("fetched\n", "THREE STAGES\nAND MORE\n")


def test_a_failing_init_container_fails_the_job_and_its_exit_code_is_kept(cluster, namespace):
    outcome, found = run(cluster, namespace, job("true", first="echo no >&2; exit 7"))
    assert outcome == "Failed BackoffLimitExceeded"
    assert found.status.init_container_statuses[0].state.terminated.exit_code == 7
    assert found.status.container_statuses[0].state.waiting.reason == "PodInitializing"


def test_a_container_beyond_its_memory_is_killed_for_it(cluster, namespace):
    outcome, found = run(cluster, namespace, job("x=a; while :; do x=$x$x; done", limits={"memory": "32Mi"}))
    assert outcome == "Failed BackoffLimitExceeded"
    assert found.status.container_statuses[0].state.terminated.reason == "OOMKilled"


def test_a_job_beyond_its_deadline_is_ended(cluster, namespace):
    outcome, found = run(cluster, namespace, job("sleep 600", activeDeadlineSeconds=3))
    assert outcome == "Failed DeadlineExceeded"
    if found:
        cluster.wait_until_gone(cluster.core.list_namespaced_pod, found.metadata.name, namespace)


def test_a_command_runs_in_a_container_that_runs(box, cluster, namespace):
    name = cluster.core.create_namespaced_pod(namespace, pod("sleep 600")).metadata.name
    cluster.wait(
        cluster.core.list_namespaced_pod,
        lambda found: found.status.phase == "Running",
        namespace,
        field_selector=f"metadata.name={name}",
    )
    kubectl = [box.toolchain / "bin/kubectl", f"--kubeconfig={box.kubeconfig}", f"--namespace={namespace}"]
    command = ["/bin/sh", "-c", "id -u; cat; echo to stderr >&2; exit 3"]
    done = subprocess.run(
        [*kubectl, "exec", "--stdin", name, "--", *command], input="in and out\n", capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("1000650000\nin and out\n", 3)
    assert done.stderr.startswith("to stderr\n")


def test_pod_security_refuses_what_the_namespace_does_not_allow(cluster, namespace):
    body = pod("true")
    body["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with pytest.raises(client.ApiException, match="violates PodSecurity") as refused:
        cluster.core.create_namespaced_pod(namespace, body)
    assert refused.value.status == 403


def test_a_privileged_pod_runs_where_that_is_allowed(cluster):
    with cluster.namespace(security="privileged") as namespace:
        body = pod("mkdir /mnt; mount -t tmpfs none /mnt; echo mounted")
        body["spec"]["securityContext"] = {}
        body["spec"]["containers"][0]["securityContext"] = {"privileged": True}
        assert cluster.run(namespace, body).log == "mounted\n"


def test_who_has_no_role_is_refused(cluster, namespace):
    """RBAC: a fresh service account may look at itself and at nothing else."""
    account = cluster.core.create_namespaced_service_account(namespace, {"metadata": {"name": "nobody"}}).metadata.name
    request = {"spec": {"expirationSeconds": 600}}
    token = cluster.core.create_namespaced_service_account_token(account, namespace, request).status.token
    configuration = client.Configuration()
    configuration.host, configuration.ssl_ca_cert = cluster.api.configuration.host, cluster.api.configuration.ssl_ca_cert
    configuration.api_key = {"authorization": f"Bearer {token}"}
    with client.ApiClient(configuration) as theirs:
        who = client.AuthenticationV1Api(theirs).create_self_subject_review({}).status.user_info.username
        assert who == f"system:serviceaccount:{namespace}:nobody"
        with pytest.raises(client.ApiException, match="Forbidden"):
            client.CoreV1Api(theirs).list_namespaced_secret(namespace)
        theirs.rest_client.pool_manager.clear()


def test_a_namespace_takes_all_that_is_in_it_away(cluster):
    with cluster.namespace() as namespace:
        cluster.core.create_namespaced_config_map(namespace, {"metadata": {"name": "some"}, "data": {"key": "value"}})
        cluster.core.create_namespaced_pod(namespace, pod("sleep 600"))
    until(
        lambda: namespace not in {each.metadata.name for each in cluster.core.list_namespace().items},
        what="the end of the namespace",
        deadline_s=180,
    )


def test_an_image_comes_from_an_archive_once(box, cluster, namespace, tmp_path):
    """`make box-image`: what `podman save` writes, by digest."""
    archive = tmp_path / "image.tar"
    write_archive(archive, "localhost/test/archive:1", {"bin/sh": box.toolchain / "bin/busybox"})
    first = box.make("box-image", f"F={archive}")
    assert "1 changed" in first.stdout, first.stdout + first.stderr
    assert "already there" in box.make("box-image", f"F={archive}").stdout
    assert cluster.run(namespace, pod("echo here", image="localhost/test/archive:1")).log == "here\n"
