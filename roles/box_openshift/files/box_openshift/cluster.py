"""One API server, spoken to in JSON.

Not the package ``kubernetes``: its models take a second to import, at each run of the role, and are not used here. Standard
library and PyYAML only, so that the interpreter that runs Ansible will do.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import yaml

Object = dict[str, Any]

READ_TIMEOUT_S = 60.0
# The server ends a watch after this time; a connection that is dead without saying so is found a little later.
WATCH_S = 240
# How long a server may say that it is busy, and how long to wait at once before asking again.
BUSY_S = 30.0
LONGEST_PAUSE_S = 0.5
MERGE_PATCH = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class ClusterError(Exception):
    """The API server refused, or could not be reached. The text is for people.

    :param status: the HTTP status; 0 if there was no answer
    :param reason: Kubernetes' word for it, such as ``AlreadyExists``
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFoundError(ClusterError):
    """There is no such object."""


class ConflictError(ClusterError):
    """The object exists already, or has changed in between."""


class ExpiredError(ClusterError):
    """The resource version is too old to watch from."""


_ERRORS = {404: NotFoundError, 409: ConflictError, 410: ExpiredError}


@dataclass(frozen=True)
class Resource:
    """A kind of object, as its URLs name it.

    :param group: its API group; empty for the core
    :param version: its version
    :param plural: such as ``routes``
    """

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """The URL path of a collection, an object or a subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [part for part in (self.plural, quote(name, safe=":"), sub) if part]
        return "/".join(parts)


class Cluster:
    """An API server and an identity there. Safe to use from several threads, each of which has a connection of its own.

    :param kubeconfig: its current context says where the server is and who we are, by client certificate
    """

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        context = _named(document, "context", document["current-context"])
        cluster = _named(document, "cluster", context["cluster"])
        user = _named(document, "user", context["user"])
        self._address = urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(cadata=_pem(cluster, "certificate-authority", kubeconfig).decode())
        with tempfile.NamedTemporaryFile() as pair:
            # The library takes a certificate from a file only. This one is its owner's alone, and gone at once.
            pair.write(_pem(user, "client-certificate", kubeconfig) + b"\n" + _pem(user, "client-key", kubeconfig))
            pair.flush()
            self._tls.load_cert_chain(pair.name)
        self._own = threading.local()

    def _connection(self, timeout_s: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address, timeout=timeout_s, context=self._tls)

    def _send(self, method: str, path: str, body: Object | None, content_type: str) -> bytes:
        """Send a request over the thread's own connection; again while the server is busy."""
        patience = time.monotonic() + BUSY_S
        while True:
            kept: http.client.HTTPSConnection | None = getattr(self._own, "connection", None)
            connection = self._own.connection = kept or self._connection(READ_TIMEOUT_S)
            try:
                answer = _ask(connection, method, path, body, content_type)
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._own.connection = None
                # The server may have closed one that was idle for long.
                if kept is None or isinstance(error, TimeoutError):
                    raise ClusterError(0, "Unreachable", f"{method} {path}: {error}") from error
                continue
            if answer.status < 400:
                return content
            if answer.status != 429 or time.monotonic() > patience:
                raise _error(answer.status, content, f"{method} {path}")
            # So says a server that is busy, and one that has just learnt of a kind of object.
            time.sleep(min(float(answer.headers.get("Retry-After", "1")), LONGEST_PAUSE_S))

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Send a request, return the answer.

        :raises ClusterError: and its subclasses
        """
        content = self._send(method, path + (f"?{urlencode(query)}" if query else ""), body, content_type)
        document = json.loads(content)
        return document if isinstance(document, dict) else {}

    def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """Read one object."""
        return self.request("GET", resource.path(namespace, name))

    def list(self, resource: Resource, namespace: str = "") -> tuple[list[Object], str]:
        """Read all objects, and the resource version from which to watch for changes."""
        answer = self.request("GET", resource.path(namespace))
        return answer.get("items") or [], answer["metadata"]["resourceVersion"]

    def create(self, resource: Resource, body: Object, namespace: str = "") -> Object:
        """Create an object.

        :raises ConflictError: if it exists
        """
        return self.request("POST", resource.path(namespace), body)

    def patch(self, resource: Resource, name: str, body: Object, namespace: str = "", sub: str = "") -> Object:
        """Change what the body names (JSON merge patch)."""
        return self.request("PATCH", resource.path(namespace, name, sub), body, content_type=MERGE_PATCH)

    def apply(self, path: str, body: Object, manager: str, *, dry_run: bool = False) -> Object:
        """Create or change an object so that it has what the body says (server-side apply)."""
        query = {"fieldManager": manager, "force": "true", **({"dryRun": "All"} if dry_run else {})}
        return self.request("PATCH", path, body, query=query, content_type=APPLY)

    def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Delete an object, if it is there."""
        try:
            self.request("DELETE", resource.path(namespace, name), {"propagationPolicy": "Background"})
        except NotFoundError:
            return

    def watch(self, resource: Resource, version: str) -> Iterator[tuple[str, Object]]:
        """Yield the kind of each change and the object, from a resource version on, for some minutes.

        :raises ExpiredError: the version is too old; list again
        """
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S)}
        connection = self._connection(WATCH_S + READ_TIMEOUT_S)
        try:
            answer = _ask(connection, "GET", f"{resource.path()}?{urlencode(query)}", None, "application/json")
            if answer.status >= 400:
                raise _error(answer.status, answer.read(), f"watch {resource.plural}")
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _error(event["object"].get("code", 0), line, f"watch {resource.plural}")
                yield event["type"], event["object"]
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ClusterError(0, "Unreachable", f"watch {resource.plural}: {error}") from error
        finally:
            connection.close()


def _ask(
    connection: http.client.HTTPSConnection, method: str, path: str, body: Object | None, content_type: str
) -> http.client.HTTPResponse:
    headers = {"Accept": "application/json", "Content-Type": content_type}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    return connection.getresponse()


def _named(document: Object, kind: str, name: str) -> Object:
    """The cluster, user or context of a name in a kubeconfig."""
    return next(entry[kind] for entry in document[f"{kind}s"] if entry["name"] == name)


def _pem(entry: Object, key: str, kubeconfig: Path) -> bytes:
    """A certificate or key of a kubeconfig, which holds it or names its file."""
    if f"{key}-data" in entry:
        return base64.b64decode(str(entry[f"{key}-data"]))
    return (kubeconfig.parent / str(entry[key])).read_bytes()


def _error(status: int, body: bytes, what: str) -> ClusterError:
    """What the server says, as an exception."""
    try:
        document = json.loads(body)
        document = document.get("object", document)
        reason, message = str(document.get("reason", "")), str(document.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", body.decode(errors="replace").strip()
    return _ERRORS.get(status, ClusterError)(status, reason, f"{what}: {status} {message}")
