"""Certificates of a cluster: authorities that are kept, and what they sign, renewed before it ends.

A certificate is made anew when its end is near, when its authority is another one, or when it says something else than what
is asked for. Keys are of the curve P-256 and readable by their owner only.
"""
# ruff: noqa: INP001 - it lies beside the program that uses it

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = dt.timedelta(days=3650)
LIFE = dt.timedelta(days=365)
# How long before its end a certificate is renewed. An authority's end ends all that it signed.
RENEWAL = dt.timedelta(days=60)
AUTHORITY_RENEWAL = LIFE + RENEWAL
# Clocks differ.
SLACK = dt.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A certificate that is wanted.

    :param name: of its files, ``<name>.crt`` and ``<name>.key``
    :param authority: name of the authority that signs it
    :param common_name: user name in the eyes of the API server
    :param organization: group in the eyes of the API server; empty for none
    :param names: host names and addresses that it serves; without any it is a client's only
    """

    name: str
    authority: str
    common_name: str
    organization: str = ""
    names: Sequence[str] = ()

    @property
    def subject(self) -> x509.Name:
        """The subject."""
        parts = [(NameOID.ORGANIZATION_NAME, self.organization)] if self.organization else []
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in [*parts, (NameOID.COMMON_NAME, self.common_name)]])

    @property
    def alternatives(self) -> set[x509.GeneralName]:
        """The names, as a certificate has them."""
        return {_general_name(name) for name in self.names}


class Directory:
    """A directory of certificates and keys.

    :param path: made if need be
    :param now: the time, in UTC
    :param dry: write nothing, only tell what would be written
    """

    def __init__(self, path: Path, *, now: dt.datetime, dry: bool = False) -> None:
        self._path = path
        self._now = now
        self._dry = dry
        self.written: list[str] = []
        if not dry:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def authority(self, name: str) -> None:
        """Ensure that the authority ``name`` is there."""
        certificate = self._read(name)
        if certificate is not None and certificate.not_valid_after_utc - self._now > AUTHORITY_RENEWAL:
            return
        if self._write_only(name):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _key_usage(signs_certificates=True)
        builder = (
            self._builder(subject, subject, key.public_key(), AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        self._store(name, key, builder.sign(key, hashes.SHA256()))

    def certificate(self, request: Request) -> None:
        """Ensure that what ``request`` asks for is there, signed and not about to end."""
        authority = self._read(request.authority)
        if authority is not None and self._good(request, authority):
            return
        if self._write_only(request.name):
            return
        if authority is None:
            raise ValueError(f"{request.name}: there is no authority {request.authority}")
        signer = serialization.load_pem_private_key((self._path / f"{request.authority}.key").read_bytes(), password=None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101 - we wrote it
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if request.names else [])]
        builder = (
            self._builder(request.subject, authority.subject, key.public_key(), LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if request.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, request.names))), critical=False)
        self._store(request.name, key, builder.sign(signer, hashes.SHA256()))

    def key_pair(self, name: str) -> None:
        """Ensure that the key pair ``name`` is there: ``<name>.key`` and ``<name>.pub``. It is never renewed."""
        if (self._path / f"{name}.pub").exists() or self._write_only(name):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        write(self._path / f"{name}.key", _pem(key))
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        write(self._path / f"{name}.pub", public)

    def _good(self, request: Request, authority: x509.Certificate) -> bool:
        certificate = self._read(request.name)
        if certificate is None or certificate.not_valid_after_utc - self._now < RENEWAL:
            return False
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            return False
        try:
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            found = x509.SubjectAlternativeName([])
        return certificate.subject == request.subject and set(found) == request.alternatives

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: dt.timedelta
    ) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(self._now - SLACK).not_valid_after(self._now + life)

    def _read(self, name: str) -> x509.Certificate | None:
        """The certificate, if it and its key are there and whole."""
        try:
            certificate = x509.load_pem_x509_certificate((self._path / f"{name}.crt").read_bytes())
            key = serialization.load_pem_private_key((self._path / f"{name}.key").read_bytes(), password=None)
        except (OSError, ValueError):
            return None
        return certificate if key.public_key() == certificate.public_key() else None

    def _write_only(self, name: str) -> bool:
        """Note that ``name`` is written; True if that is all that is to be done."""
        self.written.append(name)
        return self._dry

    def _store(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        write(self._path / f"{name}.key", _pem(key))
        write(self._path / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file, which is never seen half-written or by others."""
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as sink:
        os.fchmod(descriptor, mode)
        sink.write(content)
    draft.replace(path)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
