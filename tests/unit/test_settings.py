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
