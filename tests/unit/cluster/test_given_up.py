"""What becomes of a connection whose answer is not waited for."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pfmoc.cluster.access import Access
from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import ClusterUnavailable


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate of 127.0.0.1, in one file."""
    key, day = ec.generate_private_key(ec.SECP256R1()), timedelta(days=1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "silent")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - day)
        .not_valid_after(datetime.now(UTC) + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def end_seen(server: socket.socket, certificate: Path) -> bool:
    """Shake hands, and be silent from then on; return whether the other end closes within some seconds all the same."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    plain, _ = server.accept()
    spoken = tls.wrap_socket(plain, server_side=True)
    with socket.socket(fileno=spoken.detach()) as silent:
        silent.settimeout(5)
        try:
            while silent.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
    return True


async def test_a_question_that_is_given_up_is_cut_off_at_once(certificate, listening):
    trust = ssl.create_default_context(cafile=str(certificate))
    access = Access(server=f"https://127.0.0.1:{listening.getsockname()[1]}", namespace="x", tls=trust)
    with ThreadPoolExecutor(1) as thread:
        ended = asyncio.get_running_loop().run_in_executor(thread, end_seen, listening, certificate)
        async with Cluster(access, deadline_s=1) as cluster:
            with pytest.raises(ClusterUnavailable, match="did not answer within 1 s"):
                await cluster.request("GET", "/version")
            assert await ended
