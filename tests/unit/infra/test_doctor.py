"""What the doctor makes of what it sees."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from keystoneauth1.exceptions import ConnectFailure

from infra import doctor
from infra.commands.doctor import status
from infra.doctor import (
    Check,
    apis_are_there,
    compatible,
    may_make_projects,
    may_see_accounts,
    passphrase,
    plugins,
    policies_agree,
    rights,
    state,
)
from infra.engine import Engine, Installation
from infra.spec import Site
from infra.stack import Place


@pytest.mark.parametrize(("answer", "good"), [(404, True), (400, True), (403, False), (401, False), (500, None)])
def test_the_right_to_make_projects(answer, good):
    check = may_make_projects(answer)
    assert check.good is good
    assert bool(check.fix) is (good is False)


@pytest.mark.parametrize(("answer", "good"), [(204, True), (404, True), (403, False), (503, None)])
def test_the_right_to_see_accounts(answer, good):
    assert may_see_accounts(answer).good is good


@pytest.mark.parametrize(
    ("has", "good"), [("5.5.3", True), ("5.5.3+local.bridge", True), ("5.5.2", False), ("5.6.0-alpha.1", False)]
)
def test_versions(has, good):
    assert compatible("plugin", has, "5.5.3", "there").good is good


def test_plugins_of_the_clouds_that_the_site_has(document, read):
    site, _ = read(document)
    listed = (
        "NAME KIND VERSION SIZE\nkubernetes  resource  4.25.0  167 MB\nopenstack  resource  v1.0.0  46 MB\npython language 3\n"
    )
    found = {check.subject: check.good for check in plugins(listed, site)}
    assert found == {"plugin openstack": False, "plugin kubernetes": True}
    assert [check.says for check in plugins("", site)] == ["not installed"] * 2
    assert list(plugins("", Site(name="bare"))) == []


def test_policies_of_storage(document, read):
    site, _ = read(document)
    assert policies_agree(site, ["standard", "gold", "more"]).good
    check = policies_agree(site, ["standard", "archive"])
    assert check.good is False
    assert check.says == "Swift has standard, archive; not gold"
    assert "[standard, archive]" in check.fix


def test_apis_of_the_cluster(document, read):
    document["queueing"] = {"kueue": True}
    site, _ = read(document)
    found = {check.subject: check.good for check in apis_are_there(site, {"project.openshift.io", "route.openshift.io"})}
    assert found == {"API project.openshift.io": True, "API route.openshift.io": True, "API kueue.x-k8s.io": False}


class SessionOfKeystoneauth:
    """As much of it as the doctor uses: a look at versions never fails, and a request may."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def get_endpoint(self, **_):
        return "http://127.0.0.1:9/"

    def get_endpoint_data(self, **_):
        return None

    def get(self, *_, **__):
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(status_code=self.answer)


@pytest.mark.parametrize(
    ("answer", "good", "says"),
    [
        (200, True, "http://127.0.0.1:9/"),
        (300, True, "http://127.0.0.1:9/"),
        (404, True, "http://127.0.0.1:9/"),
        (503, False, "http://127.0.0.1:9/ answered 503"),
        (
            ConnectFailure("Unable to establish connection to http://127.0.0.1:9/: Connection refused"),
            False,
            "nothing listens at http://127.0.0.1:9/",
        ),
    ],
)
def test_an_endpoint_has_to_answer(answer, good, says):
    config = SimpleNamespace(get_interface=lambda _: None, get_region_name=lambda _: None)
    connection = SimpleNamespace(session=SessionOfKeystoneauth(answer), config=config)
    (check,) = doctor._guarded("load-balancer", lambda: doctor._service("load-balancer", connection))
    assert (check.good, check.says) == (good, says)
    assert bool(check.fix) is not good


def test_rights_are_those_that_the_site_needs(document, read):
    plain = {(resource, verb) for _, resource, verb in rights(Site(name="bare"))}
    assert {("namespaces", "create"), ("roles", "create")} <= plain
    more = {("nodes", "patch"), ("machinesets", "create"), ("routes", "create"), ("persistentvolumeclaims", "create")}
    queues = {(kind, "create") for kind in ("clusterqueues", "localqueues", "resourceflavors", "workloadpriorityclasses")}
    assert not plain & (more | queues)
    document["queueing"] = {"kueue": True}
    document["daemon"] |= {"storage": "filesystem", "volume_gib": 10}
    document["node_pools"].append({"name": "set", "source": "machineset", "size": 1, "flavor": "m1", "image": "rhcos"})
    site, _ = read(document)
    assert more | queues <= {(resource, verb) for _, resource, verb in rights(site)}


@pytest.mark.parametrize(("mode", "good"), [(0o600, True), (0o640, False)])
def test_the_passphrase_is_its_owners(tmp_path, mode, good):
    file = tmp_path / "passphrase"
    file.touch(mode=mode)
    file.chmod(mode)
    assert passphrase(Place(backend="file:///none", passphrase=file), Site(name="small")).good is good


def test_no_passphrase_is_bad_only_with_a_state(tmp_path):
    place = Place(backend=f"file://{tmp_path}", passphrase=tmp_path / "passphrase")
    assert passphrase(place, Site(name="small")).good
    stacks = tmp_path / ".pulumi" / "stacks" / "pfmoc"
    stacks.mkdir(parents=True)
    (stacks / "small.json").touch()
    assert passphrase(place, Site(name="small")).good is False


@pytest.mark.parametrize(
    ("text", "good", "says", "fix"),
    [
        ("""echo '[{"name": "small", "current": false}]'""", True, "there", ""),
        ("echo '[]'", True, "not made yet", "python -m infra up small"),
        (
            "echo 'error: AccessDenied: Access Denied' >&2; exit 255",
            False,
            "AccessDenied: Access Denied",
            "check $PULUMI_BACKEND",
        ),
    ],
)
def test_of_a_state_that_is_kept_elsewhere_the_engine_tells(tmp_path, text, good, says, fix):
    program = tmp_path / "pulumi"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    place = Place(backend="s3://bucket", passphrase=None)
    check = state(place, Site(name="small"), Engine(Installation(program=program), place.environment))
    assert (check.good, check.says) == (good, f"s3://bucket: {says}")
    assert check.fix.startswith(fix)
    assert bool(check.fix) is bool(fix)


def test_a_state_in_a_directory_is_seen_without_an_engine(tmp_path):
    nothing = Engine(Installation(program=tmp_path / "none"), {})
    check = state(Place(backend=f"file://{tmp_path}", passphrase=None), Site(name="small"), nothing)
    assert (check.good, check.says) == (True, f"file://{tmp_path}: not made yet")


def test_without_an_engine_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PFMOC_CACHE", str(tmp_path))
    (check,) = doctor.examine(Site(name="bare"), {"PATH": "/nowhere"})
    assert check.good is False
    assert "no Pulumi engine" in check.says
    assert json.dumps(check.document())


def test_a_cloud_that_is_not_named_anywhere_is_a_sentence(tmp_path, monkeypatch, document, read):
    monkeypatch.setenv("PFMOC_CACHE", str(tmp_path))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    Path(tmp_path / "clouds.yaml").write_text("clouds: {}\n")
    Path(tmp_path / "kubeconfig").write_text("apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    site, _ = read(document)
    says = {check.subject: check.says for check in doctor.examine(site, {"PATH": "/nowhere"})}
    assert says["OpenStack"] == "clouds.openstack.cloud: clouds.yaml has no entry 'small'"
    assert says["OpenShift"].startswith("clouds.openshift.context: ")
    assert "kubeconfig" in says["OpenShift"]


@pytest.mark.parametrize(("goods", "code"), [([True, True], 0), ([True, None], 3), ([None, False], 1), ([], 0)])
def test_the_status_that_checks_amount_to(goods, code):
    assert status([Check(subject="s", good=good, says="") for good in goods]) == code
