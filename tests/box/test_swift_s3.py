"""Swift's S3 side, with EC2 credentials from Keystone and requests signed as Amazon describes (Signature Version 4)."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

import pytest
import requests
from harness.box import Box
from harness.tenants import Tenant, administrator, sdk_warnings, tenant

pytestmark = sdk_warnings
LOCATION = "us-east-1"
PART_BYTES = 5 << 20
"""The least that S3 takes as a part that is not the last."""


@dataclass(frozen=True, kw_only=True)
class S3:
    """A signing client."""

    url: str
    access: str
    secret: str

    def request(self, method: str, path: str, *, query: dict[str, str] | None = None, body: bytes = b"") -> requests.Response:
        now = dt.datetime.now(dt.UTC)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        words = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in sorted((query or {}).items()))
        signed = {
            "host": urlsplit(self.url).netloc,
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": stamp,
        }
        names = ";".join(signed)
        headers = "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = "\n".join([method, quote(path), words, headers, names, signed["x-amz-content-sha256"]])
        scope = f"{day}/{LOCATION}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        address = f"{self.url}{quote(path)}{'?' if words else ''}{words}"
        return requests.request(method, address, data=body, headers=signed, timeout=60)


@pytest.fixture(scope="module")
def alice(box: Box) -> Iterator[Tenant]:
    with administrator(box) as admin, tenant(box, admin, "alice") as made:
        yield made


@pytest.fixture(scope="module")
def s3(box: Box, alice: Tenant) -> S3:
    answer = alice.cloud.session.post(
        f"/users/{alice.user_id}/credentials/OS-EC2",
        endpoint_filter={"service_type": "identity", "version": (3, 0)},
        json={"tenant_id": alice.project_id},
    )
    made: dict[str, Any] = answer.json()["credential"]
    return S3(url=f"http://127.0.0.1:{box.port(6)}", access=made["access"], secret=made["secret"])


def texts(answer: requests.Response, tag: str) -> list[str]:
    return [found.text or "" for found in ET.fromstring(answer.content).iter() if found.tag.endswith("}" + tag)]  # noqa: S314


def test_a_bucket_is_a_container(alice, s3):
    assert s3.request("PUT", "/bucket").status_code == 200
    assert s3.request("PUT", "/bucket/key one", body=b"content").status_code == 200
    assert s3.request("GET", "/bucket/key one").content == b"content"
    assert alice.swift.get_object("bucket", "key one")[1] == b"content"
    assert texts(s3.request("GET", "/bucket", query={"list-type": "2"}), "Key") == ["key one"]
    assert "bucket" in texts(s3.request("GET", "/"), "Name")
    assert s3.request("DELETE", "/bucket/key one").status_code == 204


def test_an_object_in_parts(s3):
    s3.request("PUT", "/parts")
    upload = texts(s3.request("POST", "/parts/large", query={"uploads": ""}), "UploadId")[0]
    etags = []
    for number in (1, 2):
        part = bytes([number]) * PART_BYTES
        done = s3.request("PUT", "/parts/large", query={"partNumber": str(number), "uploadId": upload}, body=part)
        etags.append(done.headers["ETag"])
    listed = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1))
    whole = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    done = s3.request("POST", "/parts/large", query={"uploadId": upload}, body=whole)
    assert done.status_code == 200, done.text
    assert s3.request("GET", "/parts/large").content == b"\1" * PART_BYTES + b"\2" * PART_BYTES


def test_a_wrong_secret_is_refused(s3):
    thief = S3(url=s3.url, access=s3.access, secret="guessed")
    assert thief.request("GET", "/").status_code == 403
    assert texts(thief.request("GET", "/"), "Code") in (["SignatureDoesNotMatch"], [])
