"""Signatures: against published examples, against Swift's own client, and against what must not be the same."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote

from hypothesis import assume, given
from hypothesis import strategies as st
from swiftclient.utils import generate_temp_url

from pfmoc.objects import tempurl
from pfmoc.objects.sigv4 import Signer, quoted

ACCOUNT = "http://127.0.0.1:8080/v1/AUTH_abc"
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def test_amazon_s_own_example_of_a_signed_address():
    signer = Signer(access_key="AKIAIOSFODNN7EXAMPLE", secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    query = signer.sign(
        "GET",
        "https://examplebucket.s3.amazonaws.com/test.txt",
        at=datetime(2013, 5, 24, tzinfo=UTC),
        lifetime_s=86400,
    )
    assert query.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@given(name=NAMES, prefix=st.booleans(), method=st.sampled_from(["GET", "PUT", "HEAD"]))
def test_a_temporary_url_is_that_of_swift_s_own_client(name, prefix, method):
    assume(name.strip("/"))
    ours = tempurl.sign(key="key", method=method, container=f"{ACCOUNT}/data", name=name, expires=2_000_000_000, prefix=prefix)
    theirs = generate_temp_url(
        f"/v1/AUTH_abc/data/{name}", 2_000_000_000, "key", method, absolute=True, prefix=prefix, digest="sha256"
    )
    words, expected = parse_qs(ours), parse_qs(theirs.rpartition("?")[2] if "?temp_url_sig" in theirs else "")
    assert words["temp_url_sig"] == [theirs.rpartition("temp_url_sig=")[2].partition("&")[0]]
    assert words["temp_url_expires"] == ["2000000000"]
    assert words.get("temp_url_prefix") == ([name] if prefix else None)
    assert expected is not None


def test_the_path_is_signed_unquoted():
    signed = tempurl.sign(key="k", method="GET", container=f"{ACCOUNT}/d%20a%C3%BC", name="x y", expires=1)
    text = "GET\n1\n/v1/AUTH_abc/d aü/x y"
    assert parse_qs(signed)["temp_url_sig"] == [hmac.new(b"k", text.encode(), hashlib.sha256).hexdigest()]


@given(one=NAMES, other=NAMES)
def test_rights_to_different_things_differ(one, other):
    assume(one != other)
    how = {"key": "k", "method": "GET", "container": f"{ACCOUNT}/data", "expires": 1}
    assert tempurl.sign(name=one, **how) != tempurl.sign(name=other, **how)
    assert tempurl.sign(name=one, **how) != tempurl.sign(name=one, prefix=True, **how)


def test_a_derived_key_is_the_same_for_all_replicas_and_another_for_each_container():
    assert tempurl.derive("s", "a") == tempurl.derive("s", "a")
    assert len({tempurl.derive("s", "a"), tempurl.derive("s", "b"), tempurl.derive("t", "a")}) == 3
    assert "secret" not in tempurl.derive("secret", "secret")


@given(name=NAMES)
def test_a_quoted_name_is_the_name(name):
    assert unquote(quoted(name)) == name
    assert not set(quoted(name)) & set(" ?#&=+\n")


def test_a_signer_shows_no_secret():
    assert "hidden" not in repr(Signer(access_key="a", secret_key="hidden"))
