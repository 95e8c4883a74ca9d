"""Where a cluster is and who we are there: the pod's service account, or a kubeconfig."""

from __future__ import annotations

import base64
import importlib
import json
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfmoc.settings import SettingsError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's own credentials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """What it takes to speak to an API server."""

    server: str
    """URL without a slash at its end."""
    namespace: str
    """The pod's own, or the one that the kubeconfig's context names."""
    tls: ssl.SSLContext | None = field(repr=False)
    """None for plain HTTP, as to ``kubectl proxy``."""
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    """Read anew now and then, for Kubernetes renews it each hour. Goes before ``token``."""


def access(kubeconfig: Path | None, *, environ: Mapping[str, str] | None = None) -> Access:
    """How to reach the cluster: by this kubeconfig, else as the pod that this is.

    :param environ: for tests
    :raises SettingsError: the file cannot be read or used, or this is not a pod
    """
    if kubeconfig is not None:
        try:
            return _from_kubeconfig(kubeconfig)
        except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
            raise SettingsError([f"KUBECONFIG: {kubeconfig} cannot be used: {type(error).__name__}: {error}"]) from error
    return _in_cluster(os.environ if environ is None else environ, SERVICE_ACCOUNT)


def _in_cluster(environ: Mapping[str, str], directory: Path) -> Access:
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    token_file = directory / "token"
    if not host or not token_file.is_file():
        raise SettingsError(
            ["KUBECONFIG: is required where this daemon does not run in a pod with a service account's token mounted"]
        )
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=(directory / "namespace").read_text().strip(),
        tls=ssl.create_default_context(cafile=str(directory / "ca.crt")),
        token_file=token_file,
    )


def _from_kubeconfig(path: Path) -> Access:
    config = _document(path.read_text())
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"]).get("user") or {}
    if "exec" in user or "auth-provider" in user:
        raise ValueError("it runs a program to log in; a daemon needs one with a token, a token file or a certificate")
    server = str(cluster["server"]).rstrip("/")
    return Access(
        server=server,
        namespace=context.get("namespace") or "default",
        tls=_tls(cluster, user, beside=path.parent) if server.startswith("https://") else None,
        token=user.get("token", ""),
        token_file=path.parent / user["tokenFile"] if "tokenFile" in user else None,
    )


def _document(text: str) -> Any:
    """Read YAML. What is JSON needs no further library, and many kubeconfigs that programs write are."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError:
        raise ValueError("it is YAML and PyYAML is not there; `kubectl config view --raw -o json` makes one in JSON") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {error}") from error


def _named(entries: Any, name: str) -> Any:
    return next(entry for entry in entries if entry["name"] == name)


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], *, beside: Path) -> ssl.SSLContext:
    authority = _material(cluster, "certificate-authority", beside=beside)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        raise ValueError("insecure-skip-tls-verify is not supported; give it the certificate authority")
    certificate, key = _material(user, "client-certificate", beside=beside), _material(user, "client-key", beside=beside)
    if certificate and key:
        # The ssl module takes these from files only.
        with tempfile.TemporaryDirectory(prefix="pfmoc-") as directory:
            pem = Path(directory) / "client.pem"
            pem.touch(mode=0o600)
            pem.write_bytes(certificate + b"\n" + key)
            context.load_cert_chain(pem)
    return context


def _material(entry: Mapping[str, Any], name: str, *, beside: Path) -> bytes | None:
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"], validate=True)
    return (beside / entry[name]).read_bytes() if name in entry else None
