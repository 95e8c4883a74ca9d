"""Kubeconfigs for users of the cluster, ordinary ones as a rule.

    python -m box_openshift.users --kubeconfig ADMIN --directory DIRECTORY [--group GROUP ...] NAME ...

Each user gets DIRECTORY/NAME.kubeconfig, readable by its owner only, with a client certificate that the cluster has signed. What
is there, and valid for some months yet, is kept. The names of those that were made are printed, as a JSON list.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .cluster import Cluster, ClusterError, Object, Resource

REQUESTS = Resource("certificates.k8s.io", "v1", "certificatesigningrequests")
# Whoever logged in through OpenShift's OAuth server is in this group; it may request projects.
ORDINARY = "system:authenticated:oauth"
RENEWAL = timedelta(days=60)
SIGNING_S = 30.0
PAUSE_S = 0.05


def subject(name: str, groups: Sequence[str]) -> x509.Name:
    """The subject by which the API server knows a user and the groups."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in sorted({ORDINARY, *groups})]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def kept(path: Path, wanted: x509.Name, admin: Object, now: datetime) -> bool:
    """True if there is a kubeconfig for this cluster with a certificate that says this, for long enough yet."""
    try:
        document = json.loads(path.read_text())
        certificate = x509.load_pem_x509_certificate(base64.b64decode(document["users"][0]["user"]["client-certificate-data"]))
        same = document["clusters"] == _clusters(admin)
    except (OSError, ValueError, LookupError):
        return False
    return same and certificate.subject == wanted and certificate.not_valid_after_utc - now > RENEWAL


def sign(cluster: Cluster, name: str, wanted: x509.Name) -> tuple[bytes, bytes]:
    """A new key and the certificate that the cluster signs for it.

    :raises ClusterError: it does not
    """
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(wanted).sign(key, hashes.SHA256())
    request = cluster.create(
        REQUESTS,
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": f"{name}-{secrets.token_hex(4)}"},
            "spec": {
                "request": base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode(),
                "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
            },
        },
    )
    which = request["metadata"]["name"]
    condition = {"type": "Approved", "status": "True", "reason": "Box", "message": "asked for by the administrator"}
    approved = {**request, "status": {"conditions": [condition]}}
    try:
        cluster.request("PUT", REQUESTS.path(name=which, sub="approval"), approved)
        deadline = time.monotonic() + SIGNING_S
        while not (certificate := cluster.get(REQUESTS, which)["status"].get("certificate")):
            if time.monotonic() > deadline:
                raise ClusterError(
                    0, "Timeout", f"no certificate for {name} within {SIGNING_S:g} s; does the controller manager run?"
                )
            time.sleep(PAUSE_S)
    finally:
        cluster.delete(REQUESTS, which)
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()), base64.b64decode(certificate)


def write(path: Path, admin: Object, name: str, key: bytes, certificate: bytes) -> None:
    """Write a kubeconfig, never seen half-written or by others."""
    user = {"client-certificate-data": base64.b64encode(certificate).decode(), "client-key-data": base64.b64encode(key).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": _clusters(admin),
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": "box", "user": name}}],
        "current-context": name,
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as sink:
        json.dump(document, sink, indent=2)
    draft.replace(path)


def _clusters(admin: Object) -> list[Object]:
    """The cluster of an administrator's kubeconfig, for another's."""
    return [{"name": "box", "cluster": admin["clusters"][0]["cluster"]}]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="of an administrator; one cluster, its authority inside")
    parser.add_argument("--directory", type=Path, required=True, help="where the kubeconfigs go")
    parser.add_argument("--group", action="append", default=[], help="a group that the users are in, beside the one of all users")
    parser.add_argument("--check", action="store_true", help="only tell what would be made")
    arguments = parser.parse_args()
    made = []
    try:
        admin = yaml.safe_load(arguments.kubeconfig.read_text()) if arguments.kubeconfig.exists() or not arguments.check else {}
        for name in arguments.names:
            path = arguments.directory / f"{name}.kubeconfig"
            wanted = subject(name, arguments.group)
            if admin and kept(path, wanted, admin, datetime.now(UTC)):
                continue
            made.append(name)
            if not arguments.check:
                write(path, admin, name, *sign(Cluster(arguments.kubeconfig), name, wanted))
    except (ClusterError, OSError) as error:
        sys.exit(f"No kubeconfig for a user: {error}")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
