"""The programs of the role box_openstack, as far as they need no OpenStack."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

FILES = Path(__file__).resolve().parents[3] / "roles" / "box_openstack" / "files"
sys.path.insert(0, str(FILES))

from box_openstack import disk_image, files, passwords  # noqa: E402
from box_openstack.cloud import LISTENERS, NEEDS, Cloud, SpecificationError  # noqa: E402


def cloud(tmp_path: Path, **other: Any) -> Cloud:
    fields: dict[str, Any] = {
        "state": tmp_path / "state",
        "golden": tmp_path / "golden",
        "lock": "a lock",
        "name": "box",
        "clouds_yaml": tmp_path / "clouds.yaml",
        "host": "127.0.0.1",
        "internal_host": "10.89.0.1",
        "port_base": 27350,
        "region": "RegionOne",
        "services": tuple(NEEDS),
        "storage_policies": ("standard", "archive"),
    }
    return Cloud(**fields | other)


def test_a_cloud_is_written_down_and_read_again(tmp_path):
    one = cloud(tmp_path)
    one.state.mkdir()
    one.record.write_text(one.dump())
    assert Cloud.load(one.state) == one


def test_the_ports_follow_the_base_in_the_order_of_the_interface(tmp_path):
    assert [cloud(tmp_path).port(name) for name in LISTENERS] == list(range(27350, 27360))
    assert cloud(tmp_path).url("swift") == "http://127.0.0.1:27356"


@pytest.mark.parametrize(
    ("services", "message"),
    [
        (("keystone", "octavia"), "there is no service octavia"),
        (("swift",), "swift does not run without keystone"),
        (("keystone", "nova"), "nova does not run without glance, neutron, placement"),
    ],
)
def test_services_that_cannot_run_are_refused(tmp_path, services, message):
    with pytest.raises(SpecificationError, match=message):
        cloud(tmp_path, services=services)


def test_a_policy_under_which_objects_lie_is_not_taken_away(tmp_path):
    before = cloud(tmp_path)
    before.refuse_loss()
    before.state.mkdir()
    before.record.write_text(before.dump())
    assert before.is_recorded()
    cloud(tmp_path, storage_policies=("standard", "archive", "cold")).refuse_loss()
    for policies in (("archive", "standard"), ("standard",)):
        after = cloud(tmp_path, storage_policies=policies)
        assert not after.is_recorded()
        with pytest.raises(SpecificationError, match="objects lie under these"):
            after.refuse_loss()


def test_passwords_are_drawn_once_and_are_nobody_else_s(tmp_path):
    first, again = passwords.ensure(tmp_path), passwords.ensure(tmp_path)
    assert first == again
    assert len(set(first.values())) == len(passwords.NAMES)
    assert (tmp_path / "passwords.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert not set(first.values()) & set(passwords.ensure(tmp_path / "other").values())


def test_fernet_keys_are_made_once(tmp_path):
    assert passwords.ensure_keys(tmp_path)
    keys = {path: path.read_text() for path in tmp_path.glob("keys/*/*")}
    assert len(set(keys.values())) == 4
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in keys)
    assert not passwords.ensure_keys(tmp_path)
    assert keys == {path: path.read_text() for path in keys}


def test_a_file_is_written_only_if_it_says_something_else(tmp_path):
    path = tmp_path / "below" / "file"
    assert files.write(path, "one", mode=0o600)
    assert not files.write(path, "one", mode=0o600)
    assert files.write(path, "two", mode=0o600)
    assert files.write(path, "two", mode=0o644)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_qcow2_image_is_empty_and_as_the_format_wants_it():
    image = disk_image.content("qcow2")
    magic, version, _, _, bits, size, _, entries, first_level, table = struct.unpack(">4sIQIIQIIQQ", image[:56])
    cluster = 1 << bits
    assert (magic, version, size) == (b"QFI\xfb", 2, disk_image.SIZE)
    assert entries * (cluster // 8) * cluster >= size
    assert image[first_level : first_level + 8 * entries] == bytes(8 * entries)
    (block,) = struct.unpack(">Q", image[table : table + 8])
    assert struct.unpack(">5H", image[block : block + 10]) == (1, 1, 1, 1, 0)
    assert len(image) == 4 * cluster


def test_an_image_of_an_unknown_format_is_an_error():
    with pytest.raises(ValueError, match="vmdk"):
        disk_image.content("vmdk")


def test_the_role_and_the_program_know_the_same_services():
    variables = yaml.safe_load((FILES.parent / "vars" / "main.yml").read_text())
    assert {name: set(needed) for name, needed in variables["_box_openstack_needs"].items()} == NEEDS


def test_the_lock_holds_what_is_asked_for_and_names_no_place():
    lock = (FILES / "requirements.lock").read_text()
    for line in (FILES / "requirements.in").read_text().splitlines():
        if line and not line.startswith("#"):
            name = line.replace("<", "=").replace(">", "=").partition("=")[0]
            assert f"\n{name}==" in f"\n{lock}", name
    assert "--hash=sha256:" in lock
    assert "://" not in lock


def install(tmp_path: Path, **other: Any) -> subprocess.CompletedProcess[str]:
    specification = {
        "lock": str(tmp_path / "lock"),
        "directory": str(tmp_path / "environments"),
        "uv": str(tmp_path / "uv"),
        "python": sys.executable,
        "progress": str(tmp_path / "progress"),
        "check": False,
    }
    return subprocess.run(
        [sys.executable, FILES / "install_environment.py"],
        input=json.dumps(specification | other),
        capture_output=True,
        text=True,
        check=False,
    )


def uv(tmp_path: Path, script: str) -> None:
    (tmp_path / "lock").write_text("package==1\n")
    (tmp_path / "uv").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "uv").chmod(0o755)


def test_an_environment_is_made_once_and_named_after_its_content(tmp_path):
    uv(tmp_path, "echo called >> $(dirname $0)/calls")
    first = json.loads(install(tmp_path).stdout)
    assert first["changed"]
    assert first["lock"] == hashlib.sha256(b"package==1\n").hexdigest()[:16]
    assert Path(first["path"]).is_dir()
    assert json.loads(install(tmp_path).stdout) == first | {"changed": False}
    assert (tmp_path / "calls").read_text().count("called") == 2, "once for the environment, once for the packages"
    (tmp_path / "lock").write_text("package==2\n")
    assert json.loads(install(tmp_path).stdout)["path"] != first["path"]


def test_checking_installs_nothing(tmp_path):
    uv(tmp_path, "exit 1")
    assert json.loads(install(tmp_path, check=True).stdout)["changed"]
    assert not (tmp_path / "environments").exists()


def test_an_installation_that_fails_leaves_nothing_that_looks_whole_and_is_cleared_away(tmp_path):
    uv(tmp_path, "echo no such package >&2; exit 1")
    failed = install(tmp_path)
    assert failed.returncode
    assert "no such package" in failed.stderr
    uv(tmp_path, "exit 0")
    made = json.loads(install(tmp_path).stdout)
    assert [path.name for path in (tmp_path / "environments").iterdir() if path.is_dir()] == [Path(made["path"]).name]
