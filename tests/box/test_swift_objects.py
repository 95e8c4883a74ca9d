"""The object store with python-swiftclient: large objects, policies, quotas, versions, bulk, static sites."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from harness.box import Box
from harness.tenants import Tenant, administrator, sdk_warnings, tenant
from harness.waiting import until
from swiftclient.exceptions import ClientException

pytestmark = sdk_warnings
MEGABYTE = 1 << 20
SEGMENTS, SEGMENT_BYTES = 10, 100 * MEGABYTE
COMMANDS = Path(sys.executable).parent
ACCOUNT_QUOTA_SECONDS = 60
"""The updater tells the account every 5 s what its containers hold."""


@pytest.fixture(scope="module")
def admin(box: Box) -> Iterator[Any]:
    with administrator(box) as connection:
        yield connection


@pytest.fixture(scope="module")
def alice(box: Box, admin: Any) -> Iterator[Tenant]:
    with tenant(box, admin, "alice") as made:
        yield made


@pytest.fixture(scope="module")
def bob(box: Box, admin: Any) -> Iterator[Tenant]:
    with tenant(box, admin, "bob") as made:
        yield made


def blocks(first: int, count: int) -> Iterator[bytes]:
    """Bytes that are made while they are read, each mebibyte another."""
    for index in range(first, first + count):
        yield hashlib.sha256(str(index).encode()).digest() * (MEGABYTE // 32)


def digest(chunks: Iterator[bytes]) -> str:
    whole = hashlib.sha256()
    for chunk in chunks:
        whole.update(chunk)
    return whole.hexdigest()


def download(alice: Tenant, container: str, name: str) -> tuple[dict[str, str], str]:
    """Headers and digest of an object, which is never held whole."""
    headers, body = alice.swift.get_object(container, name, resp_chunk_size=MEGABYTE)
    return headers, digest(body)


def status_of(alice: Tenant, method: str, path: str, **request: Any) -> int:
    headers = {"X-Auth-Token": alice.token} | request.pop("headers", {})
    return requests.request(method, f"{alice.account}/{path}", headers=headers, timeout=30, **request).status_code


def test_a_gigabyte_goes_up_in_segments_and_comes_down_as_slo_and_as_dlo(alice):
    swift = alice.swift
    per_segment = SEGMENT_BYTES // MEGABYTE
    expected = digest(blocks(0, SEGMENTS * per_segment))
    swift.put_container("segments")
    swift.put_container("large")
    manifest = []
    for index in range(SEGMENTS):
        name = f"volume/{index:03}"
        etag = swift.put_object("segments", name, blocks(index * per_segment, per_segment))
        manifest.append({"path": f"/segments/{name}", "etag": etag, "size_bytes": SEGMENT_BYTES})
    swift.put_object("large", "static", json.dumps(manifest), query_string="multipart-manifest=put")
    swift.put_object("large", "dynamic", b"", headers={"X-Object-Manifest": "segments/volume/"})
    for name in ("static", "dynamic"):
        headers, found = download(alice, "large", name)
        assert int(headers["content-length"]) == SEGMENTS * SEGMENT_BYTES
        assert found == expected, name
    edge = SEGMENT_BYTES - 5
    _, across = swift.get_object("large", "static", headers={"Range": f"bytes={edge}-{edge + 9}"})
    assert len(across) == 10
    swift.delete_object("large", "static", query_string="multipart-manifest=delete")
    assert swift.get_container("segments")[1] == []


def test_a_segment_that_is_not_what_the_manifest_says_is_refused(alice):
    alice.swift.put_container("segments")
    alice.swift.put_object("segments", "one", b"1234")
    manifest = [{"path": "/segments/one", "etag": "0" * 32, "size_bytes": 4}]
    with pytest.raises(ClientException, match="400"):
        alice.swift.put_object("segments", "whole", json.dumps(manifest), query_string="multipart-manifest=put")


def test_a_container_has_one_of_two_policies(alice):
    swift = alice.swift
    policies = {policy["name"]: policy.get("default", False) for policy in swift.get_capabilities()["swift"]["policies"]}
    assert policies == {"standard": True, "archive": False}
    swift.put_container("usual")
    swift.put_container("old", headers={"X-Storage-Policy": "archive"})
    assert swift.head_container("usual")["x-storage-policy"] == "standard"
    assert swift.head_container("old")["x-storage-policy"] == "archive"
    swift.put_object("old", "object", b"kept")
    assert swift.get_object("old", "object")[1] == b"kept"
    with pytest.raises(ClientException, match="400"):
        swift.put_container("none", headers={"X-Storage-Policy": "golden"})
    with pytest.raises(ClientException, match="409"):
        swift.put_container("usual", headers={"X-Storage-Policy": "archive"})


def test_versions_are_kept_listed_and_restored(alice):
    swift = alice.swift
    swift.put_container("versions", headers={"X-Versions-Enabled": "true"})
    for text in (b"one", b"two", b"three"):
        swift.put_object("versions", "object", text)
    swift.delete_object("versions", "object")
    with pytest.raises(ClientException, match="404"):
        swift.head_object("versions", "object")
    listed = swift.get_container("versions", query_string="versions")[1]
    assert len(listed) == 4, "three of content, and the deletion"
    second = listed[2]["version_id"]
    assert swift.get_object("versions", "object", query_string=f"version-id={second}")[1] == b"two"
    swift.put_object("versions", "object", b"", query_string=f"version-id={second}")
    assert swift.get_object("versions", "object")[1] == b"two"


def test_an_archive_is_extracted_and_many_objects_are_deleted_at_once(alice):
    names = [f"scan/{index:02}.dcm" for index in range(20)]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    headers = {"X-Auth-Token": alice.token, "Accept": "application/json"}
    packed.seek(0)
    done = requests.put(f"{alice.account}/bulk?extract-archive=tar.gz", data=packed, headers=headers, timeout=60).json()
    assert done["Response Status"] == "201 Created"
    assert done["Number Files Created"] == len(names)
    assert [entry["name"] for entry in alice.swift.get_container("bulk")[1]] == names
    assert alice.swift.get_object("bulk", names[7])[1] == names[7].encode()
    doomed = "\n".join([*(f"bulk/{name}" for name in names), "bulk/never-was", "bulk"])
    answer = requests.post(
        f"{alice.account}?bulk-delete", data=doomed, headers=headers | {"Content-Type": "text/plain"}, timeout=60
    )
    assert answer.json()["Number Deleted"] == len(names) + 1
    assert answer.json()["Number Not Found"] == 1
    with pytest.raises(ClientException, match="404"):
        alice.swift.head_container("bulk")


def test_a_container_refuses_what_is_over_its_quota(alice):
    limits = {"X-Container-Meta-Quota-Bytes": "1000", "X-Container-Meta-Quota-Count": "2"}
    alice.swift.put_container("small", headers=limits)
    alice.swift.put_object("small", "fits", bytes(1000))
    with pytest.raises(ClientException, match="413"):
        alice.swift.put_object("small", "too-large", bytes(1001))


def test_an_account_refuses_what_is_over_its_quota_which_only_the_operator_sets(admin, bob):
    limit = {"X-Account-Meta-Quota-Bytes": "5000"}
    assert status_of(bob, "POST", "", headers=limit) == 403
    assert admin.session.post(bob.account, headers=limit).status_code == 204
    bob.swift.put_container("any")
    bob.swift.put_object("any", "first", bytes(4000))

    def used() -> bool:
        return int(bob.swift.head_account()["x-account-bytes-used"]) == 4000

    until(used, what="the account to know what it holds", deadline_s=ACCOUNT_QUOTA_SECONDS)
    with pytest.raises(ClientException, match="413"):
        bob.swift.put_object("any", "second", bytes(4000))
    assert admin.session.post(bob.account, headers={"X-Remove-Account-Meta-Quota-Bytes": "x"}).status_code == 204
    bob.swift.put_object("any", "second", bytes(4000))


def test_an_object_expires(alice):
    alice.swift.put_container("brief")
    alice.swift.put_object("brief", "object", b"soon gone", headers={"X-Delete-After": "8"})
    assert alice.swift.head_object("brief", "object")["x-delete-at"]
    until(lambda: status_of(alice, "GET", "brief/object") == 404, what="the object to expire", deadline_s=60)
    until(lambda: not alice.swift.get_container("brief")[1], what="the expirer to take it from the listing", deadline_s=120)


def test_a_public_container_is_a_web_site(alice):
    headers = {"X-Container-Read": ".r:*,.rlistings", "X-Container-Meta-Web-Index": "index.html"}
    alice.swift.put_container("site", headers=headers | {"X-Container-Meta-Web-Listings": "true"})
    alice.swift.put_object("site", "index.html", b"<h1>results</h1>", content_type="text/html")
    alice.swift.put_object("site", "figures/one.html", b"1", content_type="text/html")
    assert requests.get(f"{alice.account}/site/", timeout=30).text == "<h1>results</h1>"
    assert "one.html" in requests.get(f"{alice.account}/site/figures/", timeout=30).text
    assert requests.get(f"{alice.account}/large/", timeout=30).status_code == 401


def test_an_access_list_lets_another_tenant_read_and_no_more(alice, bob):
    alice.swift.put_container("shared", headers={"X-Container-Read": f"{bob.project_id}:*"})
    alice.swift.put_object("shared", "object", b"for bob")
    url, headers = f"{alice.account}/shared/object", {"X-Auth-Token": bob.token}
    assert requests.get(url, headers=headers, timeout=30).content == b"for bob"
    assert requests.put(url, data=b"bob's", headers=headers, timeout=30).status_code == 403
    assert requests.get(url, timeout=30).status_code == 401


def test_an_object_is_copied_and_linked_on_the_server(alice):
    alice.swift.put_container("copies")
    alice.swift.put_object("copies", "from", b"content")
    alice.swift.copy_object("copies", "from", "/copies/to")
    alice.swift.put_object("copies", "link", b"", headers={"X-Symlink-Target": "copies/from"})
    for name in ("to", "link"):
        assert alice.swift.get_object("copies", name)[1] == b"content"


def test_the_swift_command_works(alice, tmp_path):
    def swift(*words: str) -> str:
        done = subprocess.run(
            [COMMANDS / "swift", *words], env=alice.environment, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        return done.stdout

    content = bytes(range(256)) * 4096
    (tmp_path / "scan.bin").write_bytes(content)
    swift("upload", "command", "scan.bin", "--segment-size", "300000", "--use-slo")
    assert swift("list", "command").split() == ["scan.bin"]
    assert f"Content Length: {len(content)}" in swift("stat", "command", "scan.bin")
    swift("download", "command", "scan.bin", "--output", "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == content
    swift("delete", "command")
    assert "command" not in swift("list").split()


def test_the_commands_find_the_cloud_that_env_sh_names(box):
    """As `make box` tells its user to; nothing but what was asked for is said."""

    def said(words: str) -> list[str]:
        script = f". {shlex.quote(str(box.directory / 'env.sh'))} && {words}"
        done = subprocess.run(["sh", "-ec", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
        assert not done.stderr
        return done.stdout.split()

    said("swift post told")
    assert "told" in said("swift list")
    said("swift delete told")
    assert "admin" in said("openstack project list -f value -c Name")
