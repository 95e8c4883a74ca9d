"""Certificates of the box's cluster: made once, kept, and renewed before anything ends."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[3] / "roles/box_kubernetes/files"
sys.path.insert(0, str(PROGRAMS))

import pki  # noqa: E402 - it lies beside the program that uses it

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SERVER = pki.Request(name="server", authority="ca", common_name="kube-apiserver", names=["localhost", "127.0.0.1"])
CLIENT = pki.Request(name="admin", authority="ca", common_name="admin", organization="system:masters")


def make(path: Path, *requests: pki.Request, now: dt.datetime = NOW, dry: bool = False) -> list[str]:
    directory = pki.Directory(path, now=now, dry=dry)
    directory.authority("ca")
    directory.key_pair("accounts")
    for request in requests:
        directory.certificate(request)
    return directory.written


def read(path: Path, name: str) -> pki.x509.Certificate:
    return pki.x509.load_pem_x509_certificate((path / f"{name}.crt").read_bytes())


def test_they_are_made_once_and_only_their_owner_reads_them(tmp_path):
    assert make(tmp_path, SERVER, CLIENT) == ["ca", "accounts", "server", "admin"]
    contents = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert make(tmp_path, SERVER, CLIENT) == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_a_certificate_says_who_it_is_for(tmp_path):
    make(tmp_path, SERVER, CLIENT)
    assert read(tmp_path, "admin").subject.rfc4514_string() == "CN=admin,O=system:masters"
    names = read(tmp_path, "server").extensions.get_extension_for_class(pki.x509.SubjectAlternativeName).value
    assert names.get_values_for_type(pki.x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(pki.x509.IPAddress)] == ["127.0.0.1"]


def test_python_trusts_them(tmp_path):
    make(tmp_path, SERVER, now=dt.datetime.now(dt.UTC))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    here = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    client = here.wrap_bio(outgoing, incoming, server_hostname="127.0.0.1")
    server = there.wrap_bio(incoming, outgoing, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("days", "renewed"),
    [(300, []), (306, ["server"]), (3650 - 424, ["ca", "server"]), (4000, ["ca", "server"])],
)
def test_they_are_renewed_before_they_end_and_the_authority_before_what_it_signed(tmp_path, days, renewed):
    make(tmp_path, SERVER)
    later = NOW + dt.timedelta(days=days)
    assert make(tmp_path, SERVER, now=later) == renewed
    assert read(tmp_path, "server").not_valid_after_utc <= read(tmp_path, "ca").not_valid_after_utc


@pytest.mark.parametrize(
    "change",
    [{"names": ["localhost", "10.0.0.1"]}, {"common_name": "other"}, {"organization": "system:nodes"}],
    ids=lambda change: next(iter(change)),
)
def test_one_that_shall_say_something_else_is_made_anew(tmp_path, change):
    make(tmp_path, SERVER)
    asked = {name: getattr(SERVER, name) for name in ("name", "authority", "common_name", "organization", "names")}
    assert make(tmp_path, pki.Request(**asked | change)) == ["server"]


@pytest.mark.parametrize("file", ["server.crt", "server.key", "ca.key", "ca.crt"])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nhalf"], ids=["empty", "half"])
def test_a_damaged_one_is_made_anew_with_all_that_hangs_on_it(tmp_path, file, content):
    make(tmp_path, SERVER)
    (tmp_path / file).write_bytes(content)
    assert make(tmp_path, SERVER) == (["ca", "server"] if file.startswith("ca") else ["server"])
    assert make(tmp_path, SERVER) == []


def test_a_trial_writes_nothing_and_names_what_it_would_write(tmp_path):
    place = tmp_path / "pki"
    assert make(place, SERVER, dry=True) == ["ca", "accounts", "server"]
    assert not place.exists()


def configure(specification: dict[str, object], *arguments: str) -> list[str]:
    command = [sys.executable, PROGRAMS / "configure.py", *arguments]
    done = subprocess.run(command, input=json.dumps(specification), capture_output=True, text=True, check=True)
    changed = json.loads(done.stdout)["changed"]
    assert isinstance(changed, list)
    return changed


def test_configure_writes_what_differs_and_tells_it(tmp_path):
    kubeconfig, file = tmp_path / "kubeconfig", tmp_path / "some/file"
    specification = {
        "pki": str(tmp_path / "pki"),
        "authorities": ["ca"],
        "key_pairs": [],
        "certificates": [{"name": "admin", "authority": "ca", "common_name": "admin"}],
        "kubeconfigs": [
            {
                "path": str(kubeconfig),
                "name": "box",
                "server": "https://127.0.0.1:1",
                "authority": "ca",
                "certificate": "admin",
            }
        ],
        "files": [{"path": str(file), "content": "text\n", "mode": "0644"}],
    }
    everything = [f"{tmp_path}/pki/ca", f"{tmp_path}/pki/admin", str(file), str(kubeconfig)]
    assert configure(specification, "--check") == everything
    assert not list(tmp_path.iterdir())
    assert configure(specification) == everything
    assert configure(specification) == []
    assert (kubeconfig.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o600, 0o644)
    file.chmod(0o666)
    assert configure(specification, "--check") == [str(file)]
    assert configure(specification) == [str(file)]
