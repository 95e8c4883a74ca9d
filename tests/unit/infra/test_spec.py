"""The site file: what is refused, and how it is told."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

import infra.__main__ as command
from infra.spec import SiteError, load, parse
from infra.spec.document import reference, schema

ROOT = Path(__file__).resolve().parents[3]
SITES = sorted(path.parent.name for path in (ROOT / "inventories").glob("*/site.yml"))


@pytest.mark.parametrize("name", SITES)
def test_the_sites_of_this_repository_are_sane(name):
    site, warnings = load(ROOT / "inventories" / name / "site.yml")
    assert site.name == name
    assert [problem.text() for problem in warnings] == []


def test_the_documents_are_in_step():
    assert (ROOT / "docs" / "reference" / "site.schema.json").read_text() == schema(), "python -m infra schema > it"
    assert (ROOT / "docs" / "reference" / "site.md").read_text() == reference(), "python -m infra reference > it"


def test_every_field_says_what_it_means():
    for name, definition in json.loads(schema())["$defs"].items():
        for field, described in definition["properties"].items():
            assert described.get("description", "").endswith((".", ")")), f"{name}.{field}"


def test_the_site_file_needs_nothing_but_pydantic_and_yaml():
    # `make up` reads it before anything of Pulumi is installed.
    known = {*sys.stdlib_module_names, "pydantic", "pydantic_core", "yaml"}
    infra = ROOT / "infra"
    light = ("infra", "infra.sites")
    for file in [infra / "__init__.py", infra / "__main__.py", infra / "sites.py", *(infra / "spec").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in known or name in light or name.startswith("infra.spec"), f"{file}: {name}"


def test_a_sane_site(read, document):
    site, warnings = read(document)
    assert site.tenant("chris").containers[0].name == "data"
    assert [problem.text() for problem in warnings] == []


def test_nothing_but_a_name_is_required(read):
    assert read({"name": "small"})[0].daemon.port == 5005


def set_at(document, path, value):
    *steps, last = path
    for step in steps:
        document = document[step]
    document[last] = value


TENANT = ("tenants", 0)
OPENSTACK = (*TENANT, "openstack")
CONTAINER = (*TENANT, "containers", 0)
POOL = ("node_pools", 0)
QUOTAS = (*TENANT, "openshift", "quotas")

WRONG = [
    # The fields themselves.
    (("name",), "Big Site", "name: 'Big Site' cannot be a name in Kubernetes"),
    (("clods",), {}, "clods: is not known here; did you mean clouds?"),
    ((*TENANT, "user"), [], "tenants[chris].user: is not known here; did you mean users?"),
    (("clouds", "openshift"), {}, "clouds.openshift.context: is required; set it: Context of the kubeconfig"),
    (("daemon", "port"), 70000, "daemon.port: 70000: should be less than or equal to 65535"),
    (("daemon", "compute"), "cloud", "daemon.compute: 'cloud': should be 'auto', 'podman', 'process' or 'kubernetes'"),
    ((*CONTAINER, "quota_bytes"), "much", "'much' is not an amount of bytes; write a whole number"),
    ((*CONTAINER, "name"), "a/b", "'a/b' has a '/', which ends a container's name in Swift"),
    ((*CONTAINER, "name"), "x" * 257, "the name takes 257 bytes, and Swift takes 256"),
    ((*CONTAINER, "read"), [".x:*"], "tenants[chris].containers[data].read[0]: '.x:*' is not an element of a Swift ACL"),
    ((*CONTAINER, "read"), ["a:b:c"], "'a:b:c' is not an element of a Swift ACL"),
    ((*CONTAINER, "write"), [".r:*"], "'.r:*' is for reading only"),
    ((*OPENSTACK, "networks"), [{"cidr": "10.0.0.1/24"}], "'10.0.0.1/24' is not a network: 10.0.0.1/24 has host bits set"),
    ((*OPENSTACK, "application_credential"), {}, "a credential must end, and once; set either expires_at or valid_days"),
    ((*OPENSTACK, "quotas"), {"compute": {"cores": -2}}, "quotas.compute.cores: -2: should be greater than or equal to -1"),
    ((*TENANT, "openshift", "scc"), [{"name": "privileged", "service_accounts": ["a"]}], "privileged pods own the node"),
    ((*TENANT, "labels"), {"bad key": "x"}, "'bad key' cannot be the key of a Kubernetes label"),
    ((*POOL, "arch"), "arm64", "node_pools[gpu].arch: 'arm64': should be 'amd64' or 'ppc64le'"),
    ((*POOL, "source"), "existing", "node_pools[gpu]: a pool with source existing needs nodes"),
    ((*POOL, "nodes"), ["a"], "node_pools[gpu]: nodes mean nothing to a pool with source nova"),
    # Names that become one.
    (("tenants", 1, "name"), "chris", "makes the tenant 'chris', and so does another of this name"),
    (
        ("tenants", 1, "openstack"),
        {"project": "Chris"},
        "tenants[other].openstack.project: makes the Keystone project 'chris', and so does tenants[chris]",
    ),
    (("tenants", 1, "openstack"), {"project": "x" * 60}, "of 67 characters, and 64 is the most; shorten the project's name"),
    (("tenants", 1, "openshift"), {"project": "chris"}, "makes the OpenShift project 'chris'"),
    (("tenants", 1, "users"), [{"name": "ANN", "source": "local"}], "makes the Keystone user 'ann'"),
    ((*TENANT, "containers"), [{"name": "data"}, {"name": "data"}], "makes the container 'data', and so does another"),
    (("node_pools", 1, "nodes"), ["a", "a"], "size is 1, and 2 nodes are named"),
    # References.
    ((*TENANT, "pi"), "zoe", "tenants[chris].pi: 'zoe' is none of its users: ann, bob; name a user, or an e-mail address"),
    ((*TENANT, "priority"), "soon", "'soon' is none of queueing.priority_classes: there is none"),
    ((*CONTAINER, "read"), ["nobody:*"], "'nobody' is no tenant with a project on OpenStack: chris, other"),
    ((*CONTAINER, "read"), ["other:ann"], "'ann' is no user of other: eve"),
    ((*CONTAINER, "storage_policy"), "tin", "the Swift cluster has no policy 'tin'; choose one of gold, standard"),
    ((*POOL, "tenant"), "nobody", "node_pools[gpu].tenant: 'nobody' is no tenant"),
    (("daemon", "tenant"), "nobody", "daemon.tenant: 'nobody' is no tenant: chris, other"),
    (("daemon", "container"), "none", "'none' is no container of the tenant 'chris': data"),
    (("daemon", "image"), None, "daemon.image: is required for compute kubernetes"),
    (
        ("daemon",),
        {
            "tenant": "chris",
            "compute": "kubernetes",
            "image": "pfmoc:1",
            "replicas": 2,
            "storage": "fslink",
            "volume_gib": 1,
            "volume_access": "ReadWriteOnce",
        },
        "daemon.replicas: 2 pods cannot share a volume that is ReadWriteOnce; have one, or a volume that is ReadWriteMany",
    ),
    ((*TENANT, "containers"), [], "daemon.container: is not set, and the tenant 'chris' has no containers"),
    (("daemon", "storage"), "s3", "daemon.storage: Pulumi makes no keys of S3"),
    (OPENSTACK, {}, "application_credential: is not set, and the daemon signs in to Swift with it"),
    # Clouds.
    (("clouds", "openstack"), None, "tenants[chris].openstack: the site has no OpenStack"),
    (("clouds", "openshift"), None, "tenants[other].openshift: the site has no OpenShift"),
    (("clouds", "openstack", "services"), ["compute"], "tenants[chris].containers: the cloud has no object store"),
    # Addresses.
    (
        (*OPENSTACK, "networks"),
        [{"name": "a", "cidr": "10.0.0.0/16"}, {"name": "b", "cidr": "10.0.8.0/24"}],
        "networks[b].cidr: 10.0.8.0/24 overlaps 10.0.0.0/16 of the network 'a'",
    ),
    (
        ("clouds", "openstack", "reserved_cidrs"),
        ["192.168.0.0/16"],
        "tenants[chris].openstack.networks[default].cidr: 192.168.0.0/24 overlaps 192.168.0.0/16",
    ),
    (
        (*OPENSTACK, "security_groups"),
        [{"name": "web", "rules": [{"protocol": "tcp", "ports": [1, 1024]}]}],
        "security_groups[web].rules[0]: opens SSH to the whole world",
    ),
    (
        (*OPENSTACK, "security_groups"),
        [{"name": "web", "rules": [{"group": "db"}]}],
        "rules[0].group: 'db' is none of its security groups: web",
    ),
    # Pools and quotas.
    ((*POOL, "gpu", "product"), "Radeon", "node_pools[gpu].gpu.product: 'Radeon' is no GPU that this table knows"),
    ((*POOL, "gpu", "driver"), "590", "node_pools[gpu].gpu.driver: the driver R590 has dropped Volta; use R580"),
    ((*POOL, "gpu", "cuda"), "13.0", "node_pools[gpu].gpu.cuda: 13.0 is promised"),
    ((*POOL, "size"), 11, "quotas.compute.instances: is 10, and its node pools (gpu) need 11"),
    ((*QUOTAS, "gpus"), {"Tesla-V100-PCIE-32GB": 3}, "3 are granted, and all pools together have 2"),
    ((*QUOTAS, "gpus"), {"NVIDIA-L4": 1}, "no node pool has NVIDIA-L4; GPUs of the pools: Tesla-V100-PCIE-32GB"),
    # Queueing.
    (
        ("queueing",),
        {"kueue": True, "borrowing": [{"borrower": "chris", "lender": "chris", "amount": {"cpu": 1}}]},
        "queueing.borrowing[0]: 'chris' borrows from itself",
    ),
    (
        ("queueing",),
        {"kueue": True, "borrowing": [{"borrower": "chris", "lender": "ann", "amount": {"cpu": 1}}]},
        "queueing.borrowing[0].lender: 'ann' is no tenant",
    ),
    (
        ("queueing",),
        {"kueue": True, "borrowing": [{"borrower": "chris", "lender": "other", "amount": {"cpu": 99}}]},
        "borrowing[0].amount.cpu: 99 may be borrowed, and 'other' has 4 itself",
    ),
    (
        ("queueing",),
        {"borrowing": [{"borrower": "chris", "lender": "other", "amount": {"cpu": 1}}]},
        "borrowing needs Kueue, and kueue is false",
    ),
    (
        ("queueing",),
        {"priority_classes": [{"name": "system-x", "value": 1}]},
        "names that begin with system- are Kubernetes' own",
    ),
    # Terms.
    (
        (*OPENSTACK, "application_credential"),
        {"expires_at": "2028-01-01"},
        "application_credential.expires_at: 2028-01-01 is more than a year ahead; set 2027-11-21 or sooner",
    ),
    ((*OPENSTACK, "application_credential"), {"valid_days": 367}, "should be less than or equal to 366"),
]


OTHER = ("tenants", 1)
SAME_TO_THE_ENGINE = [
    # Kind, what is set, and where the second of them stands. Tenants are `chris` and `chris-dev`.
    (
        "Container",
        {(*TENANT, "containers"): [{"name": "dev-data"}], (*OTHER, "containers"): [{"name": "data"}]},
        "containers[data]",
    ),
    (
        "Network",
        {(*OPENSTACK, "networks"): [{"name": "dev-lan"}], (*OTHER, "openstack"): {"networks": [{"name": "lan"}]}},
        "openstack.networks[lan]",
    ),
    (
        "SecGroup",
        {(*OPENSTACK, "security_groups"): [{"name": "dev-web"}], (*OTHER, "openstack"): {"security_groups": [{"name": "web"}]}},
        "openstack.security_groups[web]",
    ),
    (
        "User",
        {(*TENANT, "users", 1): {"name": "dev-eve", "source": "local"}, (*OTHER, "users", 0, "source"): "local"},
        "users[eve]",
    ),
    ("GroupV3", {(*TENANT, "users", 1, "openstack_roles"): ["dev-member"]}, ""),
    ("RoleAssignment", {(*TENANT, "users", 1, "openstack_roles"): ["dev-member"]}, ""),
    ("UserMembershipV3", {(*TENANT, "users", 1): {"name": "eve", "openstack_roles": ["dev-member"]}}, "users[eve]"),
    (
        "RoleBinding",
        {
            (*TENANT, "openshift"): {"role_bindings": [{"role": "dev-robot", "users": ["zoe"]}]},
            (*OTHER, "openshift"): {"role_bindings": [{"role": "robot", "users": ["zoe"]}]},
        },
        "openshift.role_bindings",
    ),
    (
        "Secret",
        {
            (*TENANT, "openshift", "image_pull_secrets"): [{"name": "dev-quay", "config_key": "a"}],
            (*OTHER, "openshift"): {"image_pull_secrets": [{"name": "quay", "config_key": "a"}]},
        },
        "openshift.image_pull_secrets[quay]",
    ),
]


@pytest.mark.parametrize(("kind", "changes", "place"), SAME_TO_THE_ENGINE, ids=[each[0] for each in SAME_TO_THE_ENGINE])
def test_two_names_that_are_one_to_the_engine_are_told(problems, document, kind, changes, place):
    set_at(document, (*OTHER, "name"), "chris-dev")
    assert problems(document) == []
    for path, value in changes.items():
        set_at(document, path, value)
    where = "tenants[chris-dev]" + (f".{place}" if place else "")
    (line,) = [line for line in problems(document) if f"is the {kind} 'chris-dev-" in line]
    assert line.startswith(f"error: {where}: ")
    assert "and so is tenants[chris]" in line
    assert line.endswith("; rename one of them")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (
            (*TENANT, "users", 1),
            {"name": "service", "source": "local"},
            "tenants[chris].users[service]: is the User 'chris-service' to the engine, and so is tenants[chris].openstack:",
        ),
        (
            (*TENANT, "users", 1, "openstack_roles"),
            ["service-member"],
            "is the RoleAssignment 'chris-service-member' to the engine, and so is tenants[chris].openstack.service_roles",
        ),
        (
            ("node_pools",),
            [
                {"name": "a", "source": "existing", "size": 1, "nodes": ["b-c"]},
                {"name": "a-b", "source": "existing", "size": 1, "nodes": ["c"]},
            ],
            "node_pools[a-b].nodes: is the NodePatch 'a-b-c' to the engine, and so is node_pools[a].nodes",
        ),
    ],
)
def test_within_a_tenant_and_among_pools_too(problems, document, path, value, expected):
    set_at(document, path, value)
    assert any(expected in line for line in problems(document)), problems(document)


@pytest.mark.parametrize(("path", "value", "expected"), WRONG, ids=[expected[:60] for *_, expected in WRONG])
def test_what_is_wrong_is_told(problems, document, path, value, expected):
    set_at(document, path, value)
    found = problems(document)
    assert any(expected in line and line.startswith("error: ") for line in found), "\n".join(found)


WARNED = [
    ((*TENANT, "expires_at"), "2026-01-01", "tenants[chris].expires_at: the tenant's term ended on 2026-01-01"),
    ((*OPENSTACK, "application_credential"), {"expires_at": "2026-11-21"}, "the credential ended on 2026-11-21"),
    ((*QUOTAS, "limits_cpu"), 81, "limits_cpu: 81 are granted, and all pools together have 80"),
    (("tenants", 1, "openshift"), {"quotas": {"gpus": {"Tesla-V100-PCIE-32GB": 1}}}, "granted 3 Tesla-V100-PCIE-32GB"),
    (("node_pools", 0, "labels"), {"rack": "r1"}, "node_pools[gpu].labels: nobody sets them on servers of Nova"),
    (("node_pools", 0, "taints"), [{"key": "own"}], "node_pools[gpu].taints: nobody sets them on servers of Nova"),
    (("daemon", "job_limits", "gpus"), 3, "daemon.job_limits.gpus: the largest job and the daemon itself need 3 GPUs"),
]


@pytest.mark.parametrize(("path", "value", "expected"), WARNED, ids=[expected[:60] for *_, expected in WARNED])
def test_what_is_doubtful_is_told_and_stops_nothing(read, document, path, value, expected):
    set_at(document, path, value)
    _, warnings = read(document)
    assert any(expected in warning.text() for warning in warnings), [warning.text() for warning in warnings]


def test_who_shares_through_others_is_told(read, document):
    document["tenants"].append({"name": "third", "pi": "x@example.org", "openshift": {}})
    document["tenants"].append({"name": "fourth", "pi": "x@example.org", "openshift": {}})
    amount = {"cpu": 1}
    document["queueing"] = {
        "kueue": True,
        "borrowing": [
            {"borrower": "chris", "lender": "other", "amount": amount},
            {"borrower": "third", "lender": "other", "amount": amount},
            {"borrower": "third", "lender": "fourth", "amount": amount},
        ],
    }
    _, warnings = read(document)
    assert [warning.cause for warning in warnings] == [
        "'chris' can borrow from 'fourth' too: Kueue shares within a cohort, and others join the two"
    ]


TEXT = """
name: small
clouds: {openstack: {cloud: c}}
tenants:
  - name: chris
    pi: ann
    usrs: []
    openstack:
      quotas: {compute: {cores: few}}
    containers:
      - name: data
        read: ["nobody:*"]
daemon:
  port: 0
  port: 1
"""


def test_everything_is_told_at_once_with_its_line():
    with pytest.raises(SiteError) as caught:
        parse(TEXT, file="site.yml", name="small")
    assert [problem.text("site.yml").partition(";")[0] for problem in caught.value.problems] == [
        "site.yml:7: error: tenants[chris].usrs: is not known here",
        "site.yml:9: error: tenants[chris].openstack.quotas.compute.cores: 'few': should be a valid integer, unable to parse"
        " string as an integer",
        "site.yml:12: error: tenants[chris].containers[data].read[0]: 'nobody' is no tenant with a project on OpenStack: chris",
        "site.yml:15: error: daemon.port: stands here twice, first in line 14",
    ]


def test_what_rests_on_a_bad_value_is_not_told(problems, document):
    # The user that `pi` names is there, only misspelt in another place.
    document["tenants"][0]["users"][0]["source"] = "nowhere"
    assert [line.partition(":")[2] for line in problems(document)] == [
        " tenants[chris].users[ann].source: 'nowhere': should be 'existing', 'federated' or 'local';"
        " `existing`: Keystone has the user"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [", "is not YAML"),
        ("- a", "is not a mapping"),
        ("", "name: is required"),
        ("name: other", "'other' is not the name of the directory, 'small'"),
    ],
)
def test_what_is_no_site_file(text, expected):
    with pytest.raises(SiteError) as caught:
        parse(text, name="small")
    assert expected in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(SiteError, match="cannot be read: No such file"):
        load(tmp_path / "site.yml")


def test_the_command_tells_people(tmp_path, capsys):
    file = tmp_path / "small.yml"
    file.write_text("name: small\n")
    assert command.main(["validate", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: the site small is sane\n"
    file.write_text("name: small\nx: 1\n")
    assert command.main(["validate", str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"{file}:2: error: x: is not known here")


def test_the_command_tells_programs(tmp_path, capsys):
    file = tmp_path / "small.yml"
    file.write_text("name: small\ndaemon: {port: -1}\n")
    assert command.main(["validate", "--json", str(file)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is False
    assert document["problems"] == [
        {
            "severity": "error",
            "path": "daemon.port",
            "line": 2,
            "cause": "-1: should be greater than or equal to 1",
            "fix": "Port to listen on",
        }
    ]


def test_a_site_is_found_by_its_name():
    assert command.site_file("moc") == ROOT / "inventories" / "moc" / "site.yml"
