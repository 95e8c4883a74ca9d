"""What no site may have: the rules as plain functions, and over all that the sites of this repository make."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pulumi
import pytest
from pulumi_policy import ResourceValidationPolicy, Secret
from pulumi_policy.deserialize import deserialize_properties

from infra.policy import rules
from infra.policy.pack import PlaintextPolicy, policies
from infra.policy.plaintext import SECRET_MARK, SIGNATURE, exposed, in_state, raw
from infra.spec import load

ROOT = Path(__file__).resolve().parents[3]
SITES = sorted(path.parent.name for path in (ROOT / "inventories").glob("*/site.yml"))
NOW = datetime(2026, 11, 21, tzinfo=UTC)
RULE = "openstack:networking/secGroupRule:SecGroupRule"
PROJECT = "openstack:identity/project:Project"
CREDENTIAL = "openstack:identity/applicationCredential:ApplicationCredential"
NAMESPACE = "kubernetes:core/v1:Namespace"
ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"
BINDING = "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding"
SECRET = "kubernetes:core/v1:Secret"
INSTANCE = "openstack:compute/instance:Instance"
TAGS = ["managed-by=pfmoc", "pfmoc-site=s", "pfmoc-tenant=t"]
LABELS = {"app.kubernetes.io/managed-by": "pfmoc", "chrisproject.org/tenant": "t"}


class Unknown(dict):
    """Inputs of a preview: what is not known yet must not be read."""

    def __getitem__(self, key) -> object:
        value = super().__getitem__(key)
        if value is ...:
            raise LookupError(key)
        return value

    def get(self, key, default=None):
        return self[key] if key in list(self) else default

    def __contains__(self, key) -> bool:
        self[key]
        return True


def ssh(**inputs):
    return list(rules.world_open_ssh(RULE, Unknown({"direction": "ingress", "protocol": "tcp", **inputs})))


@pytest.mark.parametrize(
    "inputs",
    [
        {"portRangeMin": 22.0, "portRangeMax": 22.0, "remoteIpPrefix": "0.0.0.0/0"},
        {"portRangeMin": 1, "portRangeMax": 1024, "remoteIpPrefix": "::/0"},
        {"portRangeMin": 22, "portRangeMax": 22},
        {"remoteIpPrefix": "0.0.0.0/0"},
        {"protocol": None, "remoteIpPrefix": "0.0.0.0/0"},
        {"protocol": "6", "remoteIpPrefix": "198.51.100.7/0"},
    ],
)
def test_ssh_from_the_whole_world_is_refused(inputs):
    assert "opens SSH to the whole world" in ssh(**inputs)[0]


@pytest.mark.parametrize(
    "inputs",
    [
        {"portRangeMin": 22, "portRangeMax": 22, "remoteIpPrefix": "198.51.100.0/24"},
        {"portRangeMin": 443, "portRangeMax": 443, "remoteIpPrefix": "0.0.0.0/0"},
        {"portRangeMin": 22, "portRangeMax": 22, "remoteGroupId": ...},
        {"direction": "egress"},
        {"protocol": "icmp", "remoteIpPrefix": "0.0.0.0/0"},
    ],
)
def test_other_rules_pass(inputs):
    assert ssh(**inputs) == []


@pytest.mark.parametrize(
    ("kind", "inputs", "missing"),
    [
        (PROJECT, {}, "no tag managed-by, pfmoc-site, pfmoc-tenant"),
        (PROJECT, {"tags": TAGS[:2]}, "no tag pfmoc-tenant"),
        (PROJECT, {"tags": TAGS}, None),
        (INSTANCE, {"metadata": {"arch": "amd64"}}, "no metadata pfmoc_tenant"),
        (INSTANCE, {"metadata": {"pfmoc_tenant": ...}}, None),
        (NAMESPACE, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "pfmoc"}}}, "no label chrisproject.org/tenant"),
        (NAMESPACE, {"metadata": {"labels": LABELS}}, None),
        (
            SECRET,
            {"metadata": {"namespace": ..., "labels": {}}},
            "no label app.kubernetes.io/managed-by, chrisproject.org/tenant",
        ),
        ("kubernetes:scheduling.k8s.io/v1:PriorityClass", {"metadata": {"labels": LABELS}}, None),
        ("kubernetes:core/v1:NodePatch", {"metadata": {"name": "node-1"}}, None),
        ("openstack:compute/flavor:Flavor", {}, None),
    ],
)
def test_everything_tells_whose_it_is(kind, inputs, missing):
    found = list(
        rules.owner(kind, Unknown({key: Unknown(value) if isinstance(value, dict) else value for key, value in inputs.items()}))
    )
    assert [missing is not None and missing in message for message in found] == [True] * (missing is not None)


def use(**rule):
    return {
        "rules": [
            {
                "apiGroups": ["security.openshift.io"],
                "resources": ["securitycontextconstraints"],
                "resourceNames": ["privileged"],
                "verbs": ["use"],
                **rule,
            }
        ]
    }


PRIVILEGED_POD = {"spec": {"containers": [{"name": "a", "securityContext": {"privileged": True}}]}}


@pytest.mark.parametrize(
    ("kind", "inputs", "bad"),
    [
        (ROLE, use(), True),
        (ROLE, use(resourceNames=None), True),
        (ROLE, use(apiGroups=["*"], resources=["*"], verbs=["*"], resourceNames=[]), True),
        (ROLE, use(resourceNames=["nonroot-v2"]), False),
        (ROLE, use(verbs=["get"]), False),
        (BINDING, {"roleRef": {"kind": "ClusterRole", "name": "system:openshift:scc:privileged"}}, True),
        (BINDING, {"roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}}, True),
        (BINDING, {"roleRef": {"kind": "ClusterRole", "name": "edit"}}, False),
        ("kubernetes:security.openshift.io/v1:SecurityContextConstraints", {"allowPrivilegedContainer": True}, True),
        (NAMESPACE, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}, True),
        (NAMESPACE, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}, False),
        ("kubernetes:core/v1:Pod", PRIVILEGED_POD, True),
        ("kubernetes:apps/v1:Deployment", {"spec": {"template": PRIVILEGED_POD}}, True),
        ("kubernetes:batch/v1:CronJob", {"spec": {"jobTemplate": {"spec": {"template": PRIVILEGED_POD}}}}, True),
        ("kubernetes:batch/v1:Job", {"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}}, False),
    ],
)
def test_nothing_is_privileged(kind, inputs, bad):
    found = [*rules.privileged_grant(kind, inputs), *rules.privileged_pod(kind, inputs)]
    assert bool(found) is bad


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        (CREDENTIAL, {}, "never ends"),
        (CREDENTIAL, {"expiresAt": "2027-11-23T00:00:00Z"}, "more than a year ahead"),
        (CREDENTIAL, {"expiresAt": "2027-11-21T00:00:00Z"}, None),
        (CREDENTIAL, {"expiresAt": "2027-01-01T00:00:00Z", "unrestricted": True}, "may make further credentials"),
        ("openstack:identity/ec2CredentialV3:Ec2CredentialV3", {}, "never ends"),
        (SECRET, {"type": "kubernetes.io/service-account-token"}, "never ends"),
        (SECRET, {"type": "Opaque"}, None),
    ],
)
def test_credentials_end_within_a_year(kind, inputs, message):
    found = list(rules.credential_term(kind, inputs, now=NOW))
    assert [message is not None and message in each for each in found] == [True] * (message is not None)


def test_every_project_has_its_quotas():
    resources = [
        (PROJECT, "a"),
        (PROJECT, "b"),
        ("openstack:compute/quotaSetV2:QuotaSetV2", "a"),
        ("openstack:networking/network:Network", "a-default"),
        (NAMESPACE, "a"),
        (NAMESPACE, "b"),
        ("kubernetes:core/v1:ResourceQuota", "b"),
    ]
    assert list(rules.without_quota(resources)) == [
        ("a", "the OpenShift project has no ResourceQuota"),
        ("b", "the OpenStack project has no compute quota"),
        ("a", "the OpenStack project has no network quota"),
        ("b", "the OpenStack project has no network quota"),
    ]
    assert list(rules.without_quota([(PROJECT, "a")])) == []


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("x", {"password": "a"}, ["password"]),
        ("x", {"password": Secret("a")}, []),
        ("x", {"password": {SIGNATURE: SECRET_MARK, "ciphertext": "v1:..."}}, []),
        ("x", {"password": "", "adminPass": "a"}, ["adminPass"]),
        ("x", {"applicationCredentialSecret": "b"}, ["applicationCredentialSecret"]),
        ("x", {"metadata": {"Temp-Url-Key": "", "Temp-Url-Key-2": "b", "Quota-Bytes": "5"}}, ["metadata.Temp-Url-Key-2"]),
        ("x", {"env": [{"PFCON_PASSWORD": "a"}]}, ["env.0.PFCON_PASSWORD"]),
        ("x", {"kubeconfig": "users:\n- user: {client-key-data: abc}"}, ["kubeconfig"]),
        ("x", {"key": "-----BEGIN RSA PRIVATE KEY-----\n"}, ["key"]),
        ("x", {"key": "ssh-ed25519 AAAA", "secretName": "pull", "imagePullSecrets": [{"name": "pull"}]}, []),
        ("x", {"__internal": {"password": "a"}}, []),
        (SECRET, {"stringData": {"host": "a"}, "metadata": {"name": "b"}}, ["stringData.host"]),
    ],
)  # fmt: skip
def test_secrets_that_are_not_marked_are_found(kind, value, found):
    assert list(exposed(kind, value)) == found


def test_the_state_is_searched_too():
    mark = {SIGNATURE: SECRET_MARK, "ciphertext": "v1:..."}
    deployment = {
        "resources": [
            {"urn": "urn:a", "type": "openstack:identity/user:User", "inputs": {"password": mark}, "outputs": {"password": "a"}},
            {"urn": "urn:b", "type": "pulumi:pulumi:Stack", "outputs": {"secrets": mark}},
        ]
    }
    assert list(in_state(deployment)) == [("urn:a", "outputs.password")]
    assert list(in_state({})) == []


def test_the_sdk_shows_marks_to_a_remediation_only():
    arguments = SimpleNamespace(
        resource_type="openstack:identity/user:User",
        urn="urn:a",
        props={"password": "plain", "name": "ann"},
        opts=SimpleNamespace(ignore_changes=[]),
    )
    policy, told = PlaintextPolicy(), []
    policy.remediate(arguments)
    policy.validate(arguments, lambda message, _: told.append(message))
    policy.validate(arguments, lambda message, _: told.append(message))
    assert [message.partition(";")[0] for message in told] == ["password would be in the state in the clear"]


def test_what_is_taken_over_is_looked_at_by_the_next_run():
    taken = SimpleNamespace(
        resource_type=PROJECT, urn="urn:a", props={"password": "a"}, opts=SimpleNamespace(ignore_changes=["*"])
    )
    for policy in policies():
        if isinstance(policy, ResourceValidationPolicy):
            policy.remediate(taken)
            policy.validate(taken, lambda message, _: pytest.fail(message))


def test_marks_are_seen_at_every_level():
    mark = {SIGNATURE: SECRET_MARK, "value": "a"}
    sent = {"metadata": {"Temp-Url-Key": mark, "Temp-Url-Key-2": "b"}, "env": [{"PASSWORD": mark}, {"TOKEN": "c"}]}
    assert list(exposed("x", raw(deserialize_properties(sent, True)))) == ["metadata.Temp-Url-Key-2", "env.1.TOKEN"]


def test_the_pack_has_a_policy_for_each_rule():
    assert [policy.name for policy in policies()] == [
        "no-world-open-ssh",
        "owner",
        "quota",
        "no-privileged-scc",
        "no-privileged-pod",
        "credential-term",
        "no-plaintext-secret",
    ]


@pytest.mark.parametrize("name", SITES)
def test_what_the_sites_of_this_repository_make_breaks_no_rule(deployed, name):
    pulumi.runtime.set_all_config({"pfmoc:pluginsRegistry": json.dumps({"auths": {}})})
    site, _ = load(ROOT / "inventories" / name / "site.yml")
    made = deployed(site).made
    checks = (rules.world_open_ssh, rules.owner, rules.privileged_grant, rules.privileged_pod)
    broken = [
        f"{each.type} {each.name}: {message}" for each in made for check in checks for message in check(each.type, each.inputs)
    ]
    broken += [message for each in made for message in rules.credential_term(each.type, each.inputs, now=NOW)]
    broken += [message for _, message in rules.without_quota((each.type, each.name) for each in made)]
    marked = [
        (each, {key: Secret(value) if key in each.secret else value for key, value in each.inputs.items()}) for each in made
    ]
    broken += [f"{each.type} {each.name}: {path}" for each, inputs in marked for path in exposed(each.type, inputs)]
    assert broken == [], "\n".join(broken)
