"""Addresses that let anyone who has them do one thing for some time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from harness.box import Box
from harness.tenants import Tenant, administrator, sdk_warnings, tenant
from swiftclient.utils import generate_temp_url

pytestmark = sdk_warnings
KEY = "the-account-s-key"
HOUR_S = 3600


@pytest.fixture(scope="module")
def alice(box: Box) -> Iterator[Tenant]:
    with administrator(box) as admin, tenant(box, admin, "alice") as made:
        made.swift.post_account({"X-Account-Meta-Temp-URL-Key": KEY})
        made.swift.put_container("data")
        made.swift.put_object("data", "in/one", b"first")
        made.swift.put_object("data", "in/two", b"second")
        made.swift.put_object("data", "other", b"not for all")
        yield made


def signed(alice: Tenant, name: str, method: str, **how: Any) -> str:
    """The address of an object, or of all whose names begin so."""
    account = urlsplit(alice.account)
    seconds = how.pop("seconds", HOUR_S)
    path = generate_temp_url(f"{account.path}/data/{name}", seconds, how.pop("key", KEY), method, **how)
    return f"{account.scheme}://{account.netloc}{path}"


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_an_object_can_be_read(alice, digest):
    assert requests.get(signed(alice, "in/one", "GET", digest=digest), timeout=30).content == b"first"


def test_an_object_can_be_written_but_not_read_with_the_same_address(alice):
    url = signed(alice, "out/one", "PUT")
    assert requests.put(url, data=b"result", timeout=30).status_code == 201
    assert alice.swift.get_object("data", "out/one")[1] == b"result"
    assert requests.get(url, timeout=30).status_code == 401
    assert requests.delete(url, timeout=30).status_code == 401


def test_reading_does_not_give_the_right_to_write(alice):
    assert requests.put(signed(alice, "in/one", "GET"), data=b"changed", timeout=30).status_code == 401
    assert alice.swift.get_object("data", "in/one")[1] == b"first"


def test_a_prefix_covers_what_begins_so_and_nothing_else(alice):
    url = signed(alice, "in/", "GET", prefix=True)
    assert requests.get(url.replace("/in/?", "/in/one?"), timeout=30).content == b"first"
    assert requests.get(url.replace("/in/?", "/in/two?"), timeout=30).content == b"second"
    for name in ("other", "in", "in/../other", "out/one"):
        assert requests.get(url.replace("/in/?", f"/{name}?"), timeout=30).status_code == 401, name
    assert requests.get(url.replace("/data/in/?", "/data?"), timeout=30).status_code == 401


def test_a_prefix_can_be_written_below(alice):
    url = signed(alice, "job-7/", "PUT", prefix=True)
    assert requests.put(url.replace("/job-7/?", "/job-7/a/b.txt?"), data=b"b", timeout=30).status_code == 201
    assert requests.put(url.replace("/job-7/?", "/job-8/b.txt?"), data=b"b", timeout=30).status_code == 401
    assert alice.swift.get_object("data", "job-7/a/b.txt")[1] == b"b"


def test_it_ends(alice):
    then = int(time.time()) - 1
    assert requests.get(signed(alice, "in/one", "GET", seconds=then, absolute=True), timeout=30).status_code == 401


def test_the_signature_must_be_right(alice):
    assert requests.get(signed(alice, "in/one", "GET", key="another-key"), timeout=30).status_code == 401
    assert requests.get(signed(alice, "in/one", "GET").replace("in/one", "in/two"), timeout=30).status_code == 401


def test_a_container_s_own_key_opens_that_container_only(alice):
    alice.swift.put_container("apart", headers={"X-Container-Meta-Temp-URL-Key": "apart-s-key"})
    alice.swift.put_object("apart", "object", b"apart")
    url = signed(alice, "in/one", "GET", key="apart-s-key")
    assert requests.get(url, timeout=30).status_code == 401
    path = generate_temp_url(f"{urlsplit(alice.account).path}/apart/object", HOUR_S, "apart-s-key", "GET")
    assert requests.get(f"http://{urlsplit(alice.account).netloc}{path}", timeout=30).content == b"apart"
