"""OpenShift's API beyond projects and routes: what programs look for, and what is stored for them."""

from __future__ import annotations

import secrets

import pytest
from harness.openshift import DOMAIN, ROUTE
from harness.waiting import until
from kubernetes.client import ApiException

pytest_plugins = ["harness.openshift_fixtures"]

SECURITY = "security.openshift.io"
CONFIG = "config.openshift.io"


@pytest.fixture(scope="module")
def project(alice):
    with alice.project() as name:
        yield name


def test_all_of_the_api_is_available(admin):
    def unavailable():
        services = admin.custom.list_cluster_custom_object("apiregistration.k8s.io", "v1", "apiservices")["items"]
        return [
            service["metadata"]["name"]
            for service in services
            if not any(c["type"] == "Available" and c["status"] == "True" for c in service["status"]["conditions"])
        ]

    until(lambda: not unavailable(), what="each APIService")


def test_every_resource_of_openshifts_api_can_be_listed(admin):
    for group in ("apps", "build", "image", "route", "template"):
        resources = admin.custom.list_cluster_custom_object(f"{group}.openshift.io", "v1", "")["resources"]
        listed = [entry["name"] for entry in resources if "list" in entry["verbs"] and "/" not in entry["name"]]
        assert listed
        for name in listed:
            assert "items" in admin.custom.list_cluster_custom_object(f"{group}.openshift.io", "v1", name)


def test_a_template_is_processed_and_its_objects_are_made(alice, project):
    template = {
        "apiVersion": "template.openshift.io/v1",
        "kind": "Template",
        "metadata": {"name": "pair"},
        "parameters": [{"name": "NAME", "required": True}, {"name": "SECRET", "generate": "expression", "from": "[a-z0-9]{12}"}],
        "objects": [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "${NAME}"},
                "stringData": {"password": "${SECRET}"},
            },
            {
                "apiVersion": f"{ROUTE}/v1",
                "kind": "Route",
                "metadata": {"name": "${NAME}"},
                "spec": {"to": {"kind": "Service", "name": "${NAME}"}},
            },
        ],
    }
    group = "template.openshift.io"
    kept = alice.custom.create_namespaced_custom_object(group, "v1", project, "templates", template)
    kept["parameters"][0]["value"] = "made"
    kept |= {"apiVersion": f"{group}/v1", "kind": "Template"}
    processed = alice.custom.create_namespaced_custom_object(group, "v1", project, "processedtemplates", kept)
    secret, route = processed["objects"]
    assert len(secret["stringData"]["password"]) == 12
    alice.core.create_namespaced_secret(project, secret)
    made = alice.custom.create_namespaced_custom_object(ROUTE, "v1", project, "routes", route)
    assert made["spec"]["host"] == f"made-{project}.{DOMAIN}"


def test_a_template_without_a_required_parameter_is_refused(alice, project):
    template = {
        "apiVersion": "template.openshift.io/v1",
        "kind": "Template",
        "metadata": {"name": "incomplete"},
        "parameters": [{"name": "NAME", "required": True}],
        "objects": [],
    }
    with pytest.raises(ApiException) as refused:
        alice.custom.create_namespaced_custom_object("template.openshift.io", "v1", project, "processedtemplates", template)
    assert refused.value.status == 422


def test_an_image_stream_keeps_its_tags(alice, bob, project):
    stream = {
        "apiVersion": "image.openshift.io/v1",
        "kind": "ImageStream",
        "metadata": {"name": "plugin"},
        "spec": {"tags": [{"name": "1", "from": {"kind": "DockerImage", "name": "localhost/chris/plugin:1"}}]},
    }
    alice.custom.create_namespaced_custom_object("image.openshift.io", "v1", project, "imagestreams", stream)
    found = alice.custom.get_namespaced_custom_object("image.openshift.io", "v1", project, "imagestreams", "plugin")
    assert found["spec"]["tags"][0]["from"]["name"] == "localhost/chris/plugin:1"
    assert alice.custom.list_namespaced_custom_object("image.openshift.io", "v1", project, "imagestreamtags") is not None
    with pytest.raises(ApiException) as refused:
        bob.custom.get_namespaced_custom_object("image.openshift.io", "v1", project, "imagestreams", "plugin")
    assert refused.value.status == 403


def test_the_security_context_constraints_are_those_of_every_openshift(admin):
    listed = admin.custom.list_cluster_custom_object(SECURITY, "v1", "securitycontextconstraints")["items"]
    found = {item["metadata"]["name"]: item for item in listed}
    assert found.keys() >= {"anyuid", "hostnetwork-v2", "nonroot", "nonroot-v2", "privileged", "restricted", "restricted-v2"}
    restricted = found["restricted-v2"]
    assert restricted["requiredDropCapabilities"] == ["ALL"]
    assert restricted["runAsUser"] == {"type": "MustRunAsRange"}
    assert restricted["priority"] is None
    assert found["privileged"]["allowPrivilegedContainer"] is True
    assert found["anyuid"]["priority"] == 10


def test_the_use_of_constraints_is_granted_by_a_role_binding(admin, alice, project):
    def may(name):
        return alice.may("use", SECURITY, "securitycontextconstraints", name=name, namespace=project)

    assert may("restricted-v2")
    assert not may("anyuid")
    binding = {
        "metadata": {"name": "anyuid"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:openshift:scc:anyuid"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    }
    admin.rbac.create_namespaced_role_binding(project, binding)
    until(lambda: may("anyuid"))
    assert not may("privileged")


def test_a_cluster_resource_quota_is_stored_for_the_administrator(admin, alice):
    name = f"test-{secrets.token_hex(4)}"
    quota = {
        "apiVersion": "quota.openshift.io/v1",
        "kind": "ClusterResourceQuota",
        "metadata": {"name": name},
        "spec": {
            "selector": {"annotations": {"openshift.io/requester": "alice"}, "labels": None},
            "quota": {"hard": {"requests.nvidia.com/gpu": "4"}},
        },
    }
    with pytest.raises(ApiException) as refused:
        alice.custom.create_cluster_custom_object("quota.openshift.io", "v1", "clusterresourcequotas", quota)
    assert refused.value.status == 403
    admin.custom.create_cluster_custom_object("quota.openshift.io", "v1", "clusterresourcequotas", quota)
    try:
        found = admin.custom.get_cluster_custom_object("quota.openshift.io", "v1", "clusterresourcequotas", name)
        assert found["spec"]["quota"]["hard"] == {"requests.nvidia.com/gpu": "4"}
    finally:
        admin.custom.delete_cluster_custom_object("quota.openshift.io", "v1", "clusterresourcequotas", name)


def test_the_cluster_says_what_it_is(admin, box):
    def config(plural, name="cluster"):
        return admin.custom.get_cluster_custom_object(CONFIG, "v1", plural, name)

    version = config("clusterversions", "version")
    assert version["spec"]["clusterID"] == admin.core.read_namespace("kube-system").metadata.uid
    assert version["status"]["desired"]["version"].startswith("4.")
    assert config("ingresses")["spec"]["domain"] == DOMAIN
    assert config("infrastructures")["status"]["apiServerURL"] == f"https://127.0.0.1:{box.port(10)}"
    assert config("networks")["spec"]["serviceNetwork"] == ["10.96.0.0/16"]
