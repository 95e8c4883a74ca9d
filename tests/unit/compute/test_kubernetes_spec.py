"""The Job of a run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from harness.kube_lab import SECRETS, run, settings_for
from hypothesis import given
from hypothesis import strategies as st

from pfmoc.compute.base import Limits
from pfmoc.compute.kubernetes_secrets import owned_by, secret_of
from pfmoc.compute.kubernetes_site import UID, gpus_of, site_of, user_of
from pfmoc.compute.kubernetes_spec import User, job_spec
from pfmoc.data import Mounts, Tickets
from pfmoc.errors import ComputeRefused, InvalidRequest
from pfmoc.settings import SettingsError

CONFIG = Path("/nowhere")


def described(run_, *, user: User | None = None, **settings: str) -> dict[str, Any]:
    return job_spec(run_, site_of(settings_for(CONFIG, "x", **settings)), secret="job-1", user=user or User(uid=7))


def pod_of(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["spec"]["template"]["spec"]
    return found


def test_a_pod_passes_pod_security_restricted():
    pod = pod_of(described(run("job"), SHM_SIZE="64"))
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 7}
    assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert (
            set(container["resources"]["limits"])
            == set(container["resources"]["requests"])
            == {"cpu", "memory", "ephemeral-storage"}
        )
    assert {kind for volume in pod["volumes"] for kind in volume} == {"name", "emptyDir", "secret"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & pod.keys()


def test_data_and_tickets_are_where_they_belong():
    pod = pod_of(described(run("job")))
    pull, publish, plugin = (*pod["initContainers"], *pod["containers"])
    assert [each["name"] for each in (pull, publish, plugin)] == ["pull", "publish", "plugin"]
    mounts = {
        each["name"]: {(mount["name"], mount["mountPath"], mount.get("readOnly", False)) for mount in each["volumeMounts"]}
        for each in (pull, publish, plugin)
    }
    assert mounts == {
        "pull": {("incoming", "/share/incoming", False), ("ticket-pull", "/run/pfmoc/ticket", True)},
        "publish": {("outgoing", "/share/outgoing", True), ("ticket-publish", "/run/pfmoc/ticket", True)},
        "plugin": {("incoming", "/share/incoming", True), ("outgoing", "/share/outgoing", False)},
    }
    items = {volume["name"]: volume["secret"]["items"] for volume in pod["volumes"] if "secret" in volume}
    assert items == {
        "ticket-pull": [{"key": "pull.json", "path": "pull.json"}],
        "ticket-publish": [{"key": "publish.json", "path": "publish.json"}],
    }
    assert (publish["restartPolicy"], "restartPolicy" in pull) == ("Always", False)
    assert publish["startupProbe"]["exec"]["command"] == ["test", "-s", "/dev/termination-log"]
    assert pod["terminationGracePeriodSeconds"] == 3600
    assert plugin["terminationMessagePolicy"] == "FallbackToLogsOnError"


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
        st.text(st.characters(exclude_categories=["Cs"])),
        max_size=4,
    )
)
def test_no_value_of_the_environment_is_in_the_job(env):
    marked = {name: f"s3cret {value}" for name, value in env.items()}
    each = run("job", env=marked)
    assert "s3cret" not in json.dumps(described(each), ensure_ascii=False)
    assert "s3cret" not in repr(each)
    entries = pod_of(described(each))["containers"][0]["env"]
    secret = secret_of(each)
    assert [entry["name"] for entry in entries] == list(marked)
    assert {entry["valueFrom"]["secretKeyRef"]["key"] for entry in entries} <= secret["data"].keys()


def test_secrets_are_in_the_secret_alone():
    each = run("job")
    secret = secret_of(each)
    assert secret["data"].keys() == {"pull.json", "publish.json", "env.0"}
    text = json.dumps(described(each)) + repr(each)
    assert not [word for word in SECRETS if word in text]
    assert secret_of(each)["metadata"]["name"] != secret["metadata"]["name"]
    assert owned_by({"metadata": {"name": "job", "uid": "u"}})["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_no_secret_of_the_site_is_in_what_is_made_for_a_job():
    hidden = {
        "SECRET_KEY": "hidden: signs tokens, and is long enough",
        "OS_APPLICATION_CREDENTIAL_SECRET": "hidden: opens Swift",
        "SWIFT_TEMPURL_KEY": "hidden: signs addresses",
        "PFCON_PASSWORD": "hidden: logs in",
        "PFCON_USER": "cube",
    }
    each = run("job")
    text = json.dumps(described(each, **hidden)) + json.dumps(secret_of(each))
    packed = [base64.b64decode(value).decode() for value in secret_of(each)["data"].values()]
    assert SECRETS[0] in packed
    assert "hidden" not in text + "".join(packed)


def test_the_command_line_is_taken_as_it_is():
    argv = ["run", "$(HOME)", "$$x", "a b", "$"]
    spec = described(run("job", argv=argv))
    assert pod_of(spec)["containers"][0]["command"] == ["run", "$$(HOME)", "$$$$x", "a b", "$$"]
    assert spec["metadata"]["annotations"]["pfmoc.chrisproject.org/cmd"] == "run $(HOME) $$x a b $"


def test_a_job_says_what_it_is():
    spec = described(run("job", jid="A.Job", priority="high", queue="lab"), JOB_LABELS="team=x,app.kubernetes.io/managed-by=me")
    labels = spec["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "lab"
    assert (labels["team"], labels["app.kubernetes.io/managed-by"], labels["chrisproject.org/job-type"]) == (
        "x",
        "pfmoc",
        "plugin",
    )
    assert spec["metadata"]["annotations"] == {
        "pfmoc.chrisproject.org/jid": "A.Job",
        "pfmoc.chrisproject.org/digest": "d",
        "pfmoc.chrisproject.org/record": '{"jid": "jid-job"}',
        "pfmoc.chrisproject.org/image": "localhost/busybox:1",
        "pfmoc.chrisproject.org/cmd": "sh -c true sh /share/incoming /share/outgoing",
        "pfmoc.chrisproject.org/secret": "job-1",
    }
    assert pod_of(spec)["priorityClassName"] == "high"
    assert spec["spec"]["template"]["metadata"]["labels"].keys() == labels.keys() - {"kueue.x-k8s.io/queue-name"}


def test_a_record_that_is_too_long_is_left_out():
    notes = described(run("job", record="x" * 200_000, argv=["y" * 200_000]))["metadata"]["annotations"]
    assert "pfmoc.chrisproject.org/record" not in notes
    assert sum(map(len, notes.values())) < 100_000


def test_disruptions_are_not_counted_and_errors_end_the_job():
    spec = described(run("job", limits=Limits(cpu_millicores=1, memory_mib=8, number_of_workers=3)))["spec"]
    rules = spec["podFailurePolicy"]["rules"]
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert [(rule["action"], rule["onExitCodes"]["containerName"]) for rule in rules[1:]] == [
        ("FailJob", "plugin"),
        ("FailJob", "pull"),
    ]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 3, "Indexed")


def terms(pod: dict[str, Any]) -> list[list[tuple[str, str, list[str]]]]:
    node = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [
        [(each["key"], each["operator"], each.get("values", [])) for each in term["matchExpressions"]]
        for term in node["nodeSelectorTerms"]
    ]


def test_a_gpu_comes_with_its_toleration_and_its_product():
    gpu = Limits(cpu_millicores=1, memory_mib=8, gpus=2)
    pod = pod_of(described(run("job", limits=gpu), PFMOC_GPU_PRODUCTS="A100,V100"))
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert terms(pod) == [[("nvidia.com/gpu.product", "In", ["A100", "V100"])]]
    assert [(each["key"], each["value"], each["effect"]) for each in pod["tolerations"]] == [
        ("nvidia.com/gpu.product", "A100", "NoSchedule"),
        ("nvidia.com/gpu.product", "V100", "NoSchedule"),
    ]
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    chosen = Limits(cpu_millicores=1, memory_mib=8, gpus=1, gpu_product="V100")
    one = pod_of(described(run("job", limits=chosen), PFMOC_GPU_PRODUCTS="A100,V100"))
    assert terms(one) == [[("nvidia.com/gpu.product", "In", ["V100"])]]
    assert [each["value"] for each in one["tolerations"]] == ["V100"]
    plain = pod_of(described(run("job"), PFMOC_GPU_PRODUCTS="A100"))
    assert (plain["tolerations"], "affinity" in plain) == ([], False)
    unlabelled = pod_of(described(run("job", limits=gpu), PFMOC_GPUS="4"))
    assert unlabelled["tolerations"] == [{"key": "nvidia.com/gpu.product", "operator": "Exists", "effect": "NoSchedule"}]
    assert gpus_of(settings_for(CONFIG, "x")) == 0


@pytest.mark.parametrize(("arch", "image"), [("ppc64le", "any:1"), (None, "lab/power/tool:1")])
def test_another_architecture_is_asked_of_nodes_that_have_or_emulate_it(arch, image):
    pod = pod_of(described(run("job", arch=arch, image=image), PFMOC_ARCHITECTURES="*/power/*=ppc64le", NODE_SELECTOR="a=b"))
    assert terms(pod) == [
        [("kubernetes.io/arch", "In", ["ppc64le"])],
        [("box.chrisproject.org/emulates-ppc64le", "Exists", [])],
    ]
    assert pod["tolerations"] == [{"key": "kubernetes.io/arch", "operator": "Equal", "value": "ppc64le", "effect": "NoSchedule"}]
    assert pod["nodeSelector"] == {"a": "b"}


@pytest.mark.parametrize("arch", ["", "x86 64", "AMD64", "a" * 99, "$(X)"])
def test_what_is_no_architecture_is_refused(arch):
    with pytest.raises(InvalidRequest, match=r"^arch: "):
        described(run("job", arch=arch))


SHARED = {"STORAGE_ENV": "fslink", "VOLUME_NAME": "claim", "STOREBASE_MOUNT": "/base"}


def test_on_a_shared_volume_there_are_no_movers():
    each = run("job", data=Mounts(incoming=Path("/base/key-x/incoming"), outgoing=Path("/base/home/out")))
    spec = described(each, **SHARED)
    pod = pod_of(spec)
    assert "initContainers" not in pod
    assert [(mount["subPath"], mount.get("readOnly")) for mount in pod["containers"][0]["volumeMounts"]] == [
        ("key-x/incoming", True),
        ("home/out", None),
    ]
    assert pod["volumes"] == [{"name": "storebase", "persistentVolumeClaim": {"claimName": "claim"}}]
    assert len(spec["spec"]["podFailurePolicy"]["rules"]) == 2
    assert secret_of(each)["data"].keys() == {"env.0"}


@pytest.mark.parametrize("path", ["/base", "/elsewhere/x", "/bases/x"])
def test_what_lies_outside_of_the_volume_is_refused(path):
    with pytest.raises(ComputeRefused, match="storeBase"):
        described(run("job", data=Mounts(incoming=Path(path), outgoing=Path("/base/out"))), **SHARED)


def test_a_shared_volume_must_be_named():
    with pytest.raises(SettingsError, match="VOLUME_NAME"):
        site_of(settings_for(CONFIG, "x", STORAGE_ENV="fslink"))


RANGE = {"openshift.io/sa.scc.uid-range": "1000650000/10000", "openshift.io/sa.scc.supplemental-groups": "1000650000/10000"}
PROJECT = {"metadata": {"annotations": RANGE}}


@pytest.mark.parametrize(
    ("env", "own", "namespace", "user"),
    [
        ("kubernetes", "", None, User(uid=UID, gid=0, fs_group=UID)),
        ("kubernetes", "", {"metadata": {}}, User(uid=UID, gid=0, fs_group=UID)),
        ("kubernetes", "", PROJECT, User(uid=1_000_650_000, fs_group=1_000_650_000)),
        ("kubernetes", "12:34", PROJECT, User(uid=12, gid=34, fs_group=34)),
        ("openshift", "", PROJECT, User(uid=1_000_650_000, fs_group=1_000_650_000)),
        ("openshift", "", None, User()),
    ],
)
def test_whom_a_pod_runs_as(env, own, namespace, user):
    settings = settings_for(CONFIG, "x", CONTAINER_ENV=env, **({"CONTAINER_USER": own} if own else {}))
    assert user_of(settings, namespace) == user
    if env == "openshift":
        assert user_of(settings, namespace, own=8).uid == (user.uid or 8)


def test_tickets_are_not_shown():
    assert "secret" not in repr(Tickets(pull="secret", publish="secret"))
