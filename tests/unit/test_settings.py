from pathlib import Path

import pytest

from pfmoc.reference import settings_page
from pfmoc.settings import SettingsError, load

PRODUCTION = {"SECRET_KEY": "k" * 32, "PFCON_USER": "cube", "PFCON_PASSWORD": "12345678", "PFMOC_HOST": "0.0.0.0"}  # noqa: S104 - nothing is bound


def problems(environ):
    with pytest.raises(SettingsError) as wrong:
        load(environ)
    return wrong.value.problems


def test_with_nothing_set_the_daemon_is_embedded():
    settings = load({"PORT": "0", "PATH": "/bin"})
    assert settings.dev
    assert settings.loopback
    assert settings.container_env == "process"
    assert settings.pfcon_user == "pfcon"


def test_production_has_upstreams_defaults():
    settings = load(PRODUCTION)
    assert not settings.dev
    assert (settings.port, settings.container_env, settings.storage_env, settings.job_logs_tail) == (
        5005,
        "docker",
        "zipfile",
        1000,
    )
    assert settings.storebase_mount == Path("/var/local/storeBase")


def test_every_problem_is_told_at_once():
    found = problems(
        {
            "APPLICATION_MODE": "production",
            "PORT": "x",
            "STORAGE_ENV": "tape",
            "CONTAINER_ENV": "swarm",
            "IGNORE_LIMITS": "",
            "CONTAINER_USER": "1000",
            "JOB_LABELS": "a",
            "PFCON_USER": "cube",
            "STOREBASE_MOUNT": "here",
        }
    )
    assert {problem.partition(":")[0] for problem in found} == {
        "PORT",
        "STORAGE_ENV",
        "CONTAINER_ENV",
        "IGNORE_LIMITS",
        "CONTAINER_USER",
        "JOB_LABELS",
        "SECRET_KEY",
        "PFCON_PASSWORD",
        "STOREBASE_MOUNT",
    }


def test_development_credentials_stay_on_loopback():
    (problem,) = problems({"APPLICATION_MODE": "development", "PFMOC_HOST": "0.0.0.0"})  # noqa: S104 - the case itself
    assert "not loopback" in problem


@pytest.mark.parametrize(("innetwork", "storage"), [("true", "zipfile"), ("false", "fslink"), ("no", "filesystem")])
def test_storage_and_network_must_agree(innetwork, storage):
    (problem,) = problems(PRODUCTION | {"PFCON_INNETWORK": innetwork, "STORAGE_ENV": storage})
    assert problem.startswith("STORAGE_ENV:")


@pytest.mark.parametrize("text", ["true", "Yes", "Y", "t", "ON", "1"])
def test_spellings_of_true(text):
    assert load(PRODUCTION | {"IGNORE_LIMITS": text}).ignore_limits


@pytest.mark.parametrize("text", ["", "maybe", "2"])
def test_what_is_no_boolean(text):
    assert problems(PRODUCTION | {"REMOVE_JOBS": text})[0].startswith("REMOVE_JOBS:")


def test_labels():
    assert load(PRODUCTION | {"JOB_LABELS": "a=b=c, d = e ,"}).job_labels == {"a": "b=c", "d": "e"}


@pytest.mark.parametrize(
    ("text", "uid", "gid"), [("1000:", {1000}, {None}), (":5", {None}, {5}), ("7-8:9", {7, 8}, {9}), (":", {None}, {None})]
)
def test_container_user(text, uid, gid):
    user = load(PRODUCTION | {"CONTAINER_USER": text}).container_user
    drawn = [user.draw() for _ in range(40)]
    assert {each for each, _ in drawn} <= uid
    assert {each for _, each in drawn} <= gid


@pytest.mark.parametrize("text", ["1000", "a:b", "9-1:", "1:2:3", "\N{SUPERSCRIPT TWO}:"])
def test_what_is_no_container_user(text):
    assert problems(PRODUCTION | {"CONTAINER_USER": text})[0].startswith("CONTAINER_USER:")


def test_old_names():
    settings = load(
        PRODUCTION
        | {"STORAGE_TYPE": "host", "STORE_ENV": "mount", "STOREBASE": "/srv/base", "SECURITYCONTEXT_RUN_AS_USER": "1001"}
    )
    assert settings.volume_type == "host"
    assert settings.storebase_mount == Path("/srv/base")
    assert settings.container_user.uid == "1001"


def test_new_names_win_over_old():
    settings = load(PRODUCTION | {"STORAGE_TYPE": "docker_local_volume", "COMPUTE_VOLUME_TYPE": "host", "STOREBASE": "/s"})
    assert settings.volume_type == "host"


def test_env_file_and_environment(tmp_path):
    file = tmp_path / "pfmoc.env"
    file.write_text("PORT=1234\nPFCON_USER=file\n")
    settings = load(PRODUCTION, env_file=file)
    assert (settings.port, settings.pfcon_user) == (1234, "cube")
    with pytest.raises(SettingsError, match="not a file"):
        load({}, env_file=tmp_path / "absent")


def test_secrets_do_not_show():
    assert "12345678" not in repr(load(PRODUCTION))
    assert "kkkk" not in repr(load(PRODUCTION))


def test_the_reference_page_is_what_the_code_says():
    page = Path(__file__).parents[2] / "docs/reference/settings.md"
    assert page.read_text() == settings_page(), "make it anew: python -m pfmoc settings > docs/reference/settings.md"


# Clusters and object stores

KEYSTONE = {"OS_AUTH_URL": "http://k/v3", "OS_APPLICATION_CREDENTIAL_ID": "i", "OS_APPLICATION_CREDENTIAL_SECRET": "hush"}
PODS = PRODUCTION | KEYSTONE | {"CONTAINER_ENV": "openshift", "PFCON_INNETWORK": "yes", "SWIFT_CONTAINER_NAME": "c"}
S3 = {"S3_ENDPOINT_URL": "http://s", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "hush", "S3_BUCKET_NAME": "b"}


def test_pods_and_swift_which_is_the_default_in_the_network():
    settings = load(PODS)
    assert (settings.storage_env, settings.in_cluster, settings.in_objects) == ("swift", True, True)
    assert (settings.publish_deadline_s, settings.job_deadline_s, settings.job_ttl_s) == (3600, 604_800, 86_400)
    assert (settings.record_days, settings.max_objects, settings.gpu_resource) == (30.0, 1_000_000, "nvidia.com/gpu")
    assert (settings.queue_wait_s, settings.max_gathered) == (86_400, 400_000)
    assert "hush" not in repr(settings)


def test_every_secret_is_kept_out_of_the_log():
    store = {"SWIFT_KEY": "one", "SWIFT_TEMPURL_KEY": "two", "S3_SECRET_KEY": "three", "PFMOC_LEGACY_TOKEN": "four" * 5}
    assert {"one", "two", "three", "four" * 5, "hush", "12345678", "k" * 32} == set(load({**PODS, **store}).secrets)


def test_swift_of_version_1_and_s3():
    version_1 = {"SWIFT_AUTH_URL": "http://s/auth/v1.0", "SWIFT_USERNAME": "chris:chris", "SWIFT_KEY": "hush"}
    settings = load({**{name: value for name, value in PODS.items() if name not in KEYSTONE}, **version_1})
    assert settings.swift_username == "chris:chris"
    assert "hush" not in repr(load({**PODS, **S3, "STORAGE_ENV": "s3"}))


def test_lists_and_tables():
    settings = load(
        {
            **PODS,
            "JOB_NAMESPACE": "chris",
            "NODE_SELECTOR": "a=b, c=d",
            "IMAGE_PULL_SECRETS": "one, two",
            "PFMOC_ARCHITECTURES": "*/power/*=ppc64le,*=amd64",
            "PFMOC_GPU_PRODUCTS": "NVIDIA-A100-SXM4-40GB,Tesla-V100-PCIE-32GB",
        }
    )
    assert settings.node_selector == {"a": "b", "c": "d"}
    assert settings.image_pull_secrets == ("one", "two")
    assert list(settings.architectures) == ["*/power/*", "*"]
    assert settings.gpu_products == ("NVIDIA-A100-SXM4-40GB", "Tesla-V100-PCIE-32GB")


def test_what_a_template_passes_on_empty_is_not_set():
    settings = load(
        {**PODS, "JOB_NAMESPACE": "", "PFMOC_JOB_QUEUE": "", "SWIFT_AUTH_URL": "", "KUBECONFIG": "", "OS_INTERFACE": ""}
    )
    assert (settings.job_namespace, settings.job_queue, settings.swift_auth_url, settings.kubeconfig) == (None,) * 4
    assert settings.os_interface == "public"


def test_variables_of_other_tools_do_not_end_the_embedded_mode():
    assert load({"KUBECONFIG": "/root/.kube/config", "OS_AUTH_URL": "http://k/v3", "PORT": "0"}).container_env == "process"


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"OS_APPLICATION_CREDENTIAL_SECRET": ""}, "OS_APPLICATION_CREDENTIAL_SECRET: is required"),
        (dict.fromkeys(KEYSTONE, ""), "OS_AUTH_URL: is required when STORAGE_ENV is swift"),
        ({**dict.fromkeys(KEYSTONE, ""), "SWIFT_USERNAME": "u", "SWIFT_KEY": "k"}, "SWIFT_AUTH_URL: is required"),
        ({"SWIFT_CONTAINER_NAME": ""}, "SWIFT_CONTAINER_NAME: is required"),
        ({"SWIFT_CONTAINER_NAME": "a/b"}, "SWIFT_CONTAINER_NAME: "),
        ({"OS_AUTH_TYPE": "password"}, "OS_AUTH_TYPE: "),
        ({"OS_AUTH_URL": "k/v3"}, "OS_AUTH_URL: "),
        ({**S3, "STORAGE_ENV": "s3", "S3_BUCKET_NAME": ""}, "S3_BUCKET_NAME: is required"),
        ({"COMPUTE_VOLUME_TYPE": "kubernetes_pvc"}, "VOLUME_NAME: is required"),
        ({"STORAGE_ENV": "fslink"}, "VOLUME_NAME: is required"),
        ({"STORAGE_ENV": "zipfile", "PFCON_INNETWORK": "no"}, "VOLUME_NAME: is required"),
        ({"CONTAINER_USER": "1000:"}, "CONTAINER_USER: must be unset"),
        ({"COMPUTE_VOLUME_TYPE": "host"}, "COMPUTE_VOLUME_TYPE: must be kubernetes_pvc"),
        ({"PFMOC_DIALECTS": "pfcon6,pman", "PFMOC_LEGACY_TOKEN": "t" * 20}, "PFMOC_DIALECTS: pman is served from a file system"),
        ({"JOB_NAMESPACE": "No Name"}, "JOB_NAMESPACE: "),
        ({"KUBECONFIG": "here"}, "KUBECONFIG: must be an absolute path"),
        ({"PFMOC_ARCHITECTURES": "x=power pc"}, "PFMOC_ARCHITECTURES: 'power pc', for x, is no architecture"),
        ({"PFMOC_RECORD_DAYS": "0"}, "PFMOC_RECORD_DAYS: "),
        ({"PFMOC_GPU_RESOURCE": "gpu"}, "PFMOC_GPU_RESOURCE: "),
    ],
)
def test_what_pods_and_stores_need(changes, first):
    found = problems({**PODS, **changes})
    assert found[0].startswith(first), found
    assert len(found) == 1


@pytest.mark.parametrize(
    ("changes", "travels"),
    [
        ({}, True),
        ({"VOLUME_NAME": "claim"}, True),
        ({"COMPUTE_VOLUME_TYPE": "kubernetes_pvc", "VOLUME_NAME": "claim"}, False),
        ({"CONTAINER_ENV": "docker"}, False),
        ({"CONTAINER_ENV": "process"}, False),
    ],
)
def test_data_in_a_store_travel_with_pods_or_are_staged_here(changes, travels):
    settings = load({**PODS, **changes})
    assert (settings.travels, settings.staged) == (travels, not travels)


def test_a_claim_is_nothing_that_docker_has():
    (problem,) = problems(PRODUCTION | {"COMPUTE_VOLUME_TYPE": "kubernetes_pvc"})
    assert problem == "COMPUTE_VOLUME_TYPE: kubernetes_pvc is nothing that docker has"
