"""The daemon's objects in a cluster, and the Template."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "roles" / "pfmoc" / "files"))

from pfmoc_cluster import rollout, template  # noqa: E402 - where it lies is said above
from pfmoc_cluster.manifests import all_objects  # noqa: E402
from pfmoc_cluster.rollout import RolloutError  # noqa: E402
from pfmoc_cluster.specification import Specification  # noqa: E402

from pfmoc.settings import load  # noqa: E402 - the same

SPEC = Specification(
    namespace="chris",
    image="localhost/chris/pfmoc@sha256:1",
    replicas=2,
    settings={"STORAGE_ENV": "swift", "PFCON_INNETWORK": "true"},
    architectures=["amd64"],
    router_labels={"kubernetes.io/metadata.name": "openshift-ingress"},
)


def objects(spec=SPEC, **more):
    return {each["kind"]: each for each in all_objects(spec, **more)}


@pytest.fixture
def pod():
    return objects()["Deployment"]["spec"]["template"]["spec"]


def test_what_pulumi_makes_is_not_made_here():
    made = set(objects())
    assert made == {"ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment"}
    pulumi = (ROOT / "infra" / "daemon.py").read_text()
    assert not [kind for kind in made if re.search(rf"[.]{kind}[(]", pulumi)]


def test_pods_pass_the_standard_restricted_and_leave_the_user_id_to_the_project(pod):
    (container,) = pod["containers"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume["name"]: set(volume) for volume in pod["volumes"]} == {"tmp": {"name", "emptyDir"}}
    assert container["resources"]["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}


def test_pods_have_the_volume_that_they_share_with_jobs():
    spec = dataclasses.replace(SPEC, settings={"STORAGE_ENV": "fslink"}, claim="pfmoc")
    made = objects(spec)
    pod = made["Deployment"]["spec"]["template"]["spec"]
    assert pod["volumes"][1:] == [{"name": "storebase", "persistentVolumeClaim": {"claimName": "pfmoc"}}]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"][1:]
    told = made["ConfigMap"]["data"]
    assert (mount["name"], mount["mountPath"]) == ("storebase", told["STOREBASE_MOUNT"])
    assert told["VOLUME_NAME"] == "pfmoc"
    moved = objects(dataclasses.replace(spec, settings={"STOREBASE_MOUNT": "/data"}))["Deployment"]["spec"]["template"]["spec"]
    assert moved["containers"][0]["volumeMounts"][1]["mountPath"] == "/data"
    assert "VOLUME_NAME" not in objects()["ConfigMap"]["data"]


def test_the_daemon_starts_with_what_it_is_told_of_its_volume():
    told = dataclasses.replace(SPEC, settings={"STORAGE_ENV": "fslink", "PFCON_INNETWORK": "true"}, claim="pfmoc").all_settings
    secret = {"PFCON_USER": "chris", "PFCON_PASSWORD": "x", "SECRET_KEY": "y"}
    settings = load({**told, **secret, "CONTAINER_ENV": "kubernetes"})
    assert (settings.volume_name, str(settings.storebase_mount)) == ("pfmoc", told["STOREBASE_MOUNT"])
    assert settings.volume_type == "kubernetes_pvc"


@pytest.mark.parametrize(
    ("access", "replicas", "strategy"), [("ReadWriteMany", 2, "RollingUpdate"), ("ReadWriteOnce", 1, "Recreate")]
)
def test_a_volume_of_one_node_has_one_pod_that_makes_way_for_the_next(access, replicas, strategy):
    made = objects(dataclasses.replace(SPEC, claim="pfmoc", claim_access=access))
    update = made["Deployment"]["spec"]
    assert (update["replicas"], update["strategy"]["type"]) == (replicas, strategy)
    assert ("rollingUpdate" in update["strategy"]) is (strategy == "RollingUpdate")
    assert made["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1, "the only pod may go, or no node could be drained"


def test_an_old_pod_goes_when_a_new_one_serves_and_says_so_first(pod):
    update = objects()["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxUnavailable": 0, "maxSurge": 1}
    (container,) = pod["containers"]
    settle = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert settle + 30 < pod["terminationGracePeriodSeconds"]
    assert {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }


def test_no_secret_is_in_any_object_and_the_sites_own_word_is_the_last(pod):
    (container,) = pod["containers"]
    assert "env" not in container
    sources = [next(iter(source)) for source in container["envFrom"]]
    assert sources == ["secretRef", "secretRef", "configMapRef"]


def test_settings_have_a_name_by_their_content_and_the_jobs_mover_is_the_daemons_image():
    config = objects()["ConfigMap"]
    other = objects(dataclasses.replace(SPEC, settings={"STORAGE_ENV": "s3"}))["ConfigMap"]
    assert config["immutable"]
    assert config["metadata"]["name"] != other["metadata"]["name"]
    assert config["data"]["PFMOC_MOVER_IMAGE"] == SPEC.image


def test_other_secrets_make_other_pods():
    def template_of(versions):
        return objects(secrets=versions)["Deployment"]["spec"]["template"]

    assert template_of("pfmoc-settings:1") != template_of("pfmoc-settings:2")


def test_only_the_router_may_connect():
    policy = objects()["NetworkPolicy"]["spec"]
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-ingress"}}}]
    assert policy["podSelector"]["matchLabels"] == objects()["Deployment"]["spec"]["selector"]["matchLabels"]


def test_the_template_has_all_that_it_takes_and_every_parameter_is_used():
    text = template.template_text()
    document = yaml.safe_load(text)
    kinds = [each["kind"] for each in document["objects"]]
    assert set(kinds) == {*objects(), "ServiceAccount", "Role", "RoleBinding", "Secret", "Route"}
    body = yaml.safe_dump(document["objects"])
    named = {parameter["name"] for parameter in document["parameters"]}
    assert set(re.findall(r"[$][{]{1,2}(\w+)[}]{1,2}", body)) == named
    assert "*id" not in text
    assert "namespace:" not in body


def test_the_template_grants_what_pulumi_grants():
    daemon = pytest.importorskip("infra.daemon")
    granted = [{"apiGroups": rule.api_groups, "resources": rule.resources, "verbs": rule.verbs} for rule in daemon._rules()]
    assert granted == template.RULES


def test_the_template_in_the_docs_is_the_one_that_is_made():
    assert (ROOT / "docs" / "reference" / "pfmoc-template.yml").read_text() == template.template_text(), (
        "write it anew: PYTHONPATH=roles/pfmoc/files python -m pfmoc_cluster template > docs/reference/pfmoc-template.yml"
    )


class Remembers:
    """An API server that has a Deployment and the ReplicaSets of its revisions."""

    namespace = "chris"

    def __init__(self, **images: str) -> None:
        self.images = images
        self.given: list[dict] = []

    def get(self, _version, _kind, _name):
        return {"metadata": {"uid": "u"}}

    def find(self, _version, _kind, **_):
        return [
            {
                "metadata": {"ownerReferences": [{"uid": "u"}], "annotations": {rollout.REVISION: number.removeprefix("r")}},
                "spec": {
                    "template": {
                        "metadata": {"labels": {"app": "x", rollout.HASH: "h"}},
                        "spec": {"containers": [{"image": image}]},
                    }
                },
            }
            for number, image in self.images.items()
        ]

    def replace_template(self, _name, given):
        self.given.append(given)


@pytest.mark.parametrize(("to", "image"), [("", "b"), ("1", "a"), ("sha256:aa", "x@sha256:aa")])
def test_back_is_the_one_before_or_the_one_that_is_named(to, image):
    images = {"r1": "a", "r2": "b", "r3": "c"} if image != "x@sha256:aa" else {"r1": image, "r2": "b", "r3": "c"}
    api = Remembers(**images)
    assert rollout.back(api, to=to).image == image
    (given,) = api.given
    assert given["metadata"]["labels"] == {"app": "x"}


def test_where_nothing_was_before_there_is_nothing_to_go_back_to():
    with pytest.raises(RolloutError, match="no earlier revision"):
        rollout.back(Remembers(r1="a"))
    with pytest.raises(RolloutError, match=r"no revision 7 of the daemon to go back to; there are: 1 [(]a[)]"):
        rollout.back(Remembers(r1="a", r2="b"), to="7")


class Numbers:
    """An API server whose controller numbers a Deployment's latest state only when it is asked again."""

    namespace = "chris"

    def __init__(self, *seen: tuple[int, int], generation: int = 1) -> None:
        self.generation = generation
        self.seen = list(seen)

    def get(self, _version, _kind, _name):
        if not self.seen:
            return None
        observed, revision = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
        metadata = {"generation": self.generation, "annotations": {rollout.REVISION: str(revision)}}
        return {"metadata": metadata, "status": {"observedGeneration": observed}}


def test_an_upgrade_that_replaced_nothing_finds_the_revision_that_it_found_before():
    assert rollout.newest(Numbers((4, 3), generation=4), timeout_s=9) == 3


def test_a_state_that_has_no_number_yet_is_waited_for(monkeypatch):
    monkeypatch.setattr(rollout, "PAUSE_S", 0)
    assert rollout.newest(Numbers((4, 3), (5, 4), generation=5), timeout_s=9) == 4
    with pytest.raises(RolloutError, match="has not looked"):
        rollout.newest(Numbers((4, 3), generation=5), timeout_s=0)


def test_where_there_is_no_daemon_no_revision_is_the_newest():
    assert rollout.newest(Numbers(), timeout_s=9) == 0
