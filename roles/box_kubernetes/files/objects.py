#!/usr/bin/env python3
"""Make a cluster hold some objects, and wait until it says that they work.

    objects.py [--check] < SPECIFICATION > RESULT

Both are JSON. The specification has

- ``kubeconfig``: with certificates inside
- ``objects``: manifests, applied on the server in the order given
- ``awaited``: each ``apiVersion``, ``kind``, ``name`` and, if it has one, ``namespace`` of an object that must exist, and of a
  ``condition`` that must be ``True``; or a ``path`` of the API that must answer, such as a Service's proxy
- ``timeout_s``: how long that may take, all together

and the result lists under ``changed`` what was made or altered, or with ``--check`` would be. An object that is the same
afterwards is no change, whoever else writes to it. With ``--check`` a cluster that does not answer has nothing yet.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

MANAGER = "box"
ANSWER_S = 30.0
PAUSE_S = 0.2

Json = dict[str, Any]


class ApiError(Exception):
    """The API server refused; the text is for people."""


class NotYetError(Exception):
    """What is awaited has not come; the text is for people."""


class Cluster:
    """The API server of a kubeconfig.

    :param kubeconfig: its path; YAML that is JSON, as ``configure.py`` writes it
    """

    def __init__(self, kubeconfig: Path) -> None:
        document: Json = json.loads(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self._address = urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as file:
            # The library takes a certificate from a file only. This one is its owner's alone, and gone at once.
            file.write(b"".join(base64.b64decode(user[key]) for key in ("client-certificate-data", "client-key-data")))
            file.flush()
            self._tls.load_cert_chain(file.name)

    def answers(self, path: str) -> bool:
        """True if a GET is answered with anything but an error."""
        connection = http.client.HTTPSConnection(self._address, timeout=ANSWER_S, context=self._tls)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < http.HTTPStatus.BAD_REQUEST
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def get(self, path: str) -> Json | None:
        """The object at ``path``, or None.

        :raises ApiError: it cannot be told
        """
        return self._ask("GET", path)

    def apply(self, manifest: Json, *, dry: bool) -> bool:
        """Apply an object and tell whether that changes anything.

        :raises ApiError: it is refused
        """
        path = self.path(manifest["apiVersion"], manifest["kind"], manifest["metadata"])
        before = self.get(path)
        query = f"?fieldManager={MANAGER}&force=true{'&dryRun=All' if dry else ''}"
        after = self._ask("PATCH", path + query, json.dumps(manifest), "application/apply-patch+yaml")
        return before is None or after is None or _essence(before) != _essence(after)

    def path(self, version: str, kind: str, metadata: Mapping[str, str]) -> str:
        """Where an object is found.

        :raises ApiError: the API has no such kind
        """
        prefix = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        plural, namespaced = self._kinds(prefix).get(kind, ("", False))
        if not plural:
            raise ApiError(f"the API has no {kind} in {version}")
        place = f"/namespaces/{quote(metadata.get('namespace', 'default'))}" if namespaced else ""
        return f"{prefix}{place}/{plural}/{quote(metadata['name'])}"

    @cache  # noqa: B019 - one cluster, one run
    def _kinds(self, prefix: str) -> dict[str, tuple[str, bool]]:
        listed = self.get(prefix) or {"resources": []}
        # "pods/log" is a part of a resource.
        return {entry["kind"]: (entry["name"], entry["namespaced"]) for entry in listed["resources"] if "/" not in entry["name"]}

    def _ask(self, method: str, path: str, body: str | None = None, kind: str = "application/json") -> Json | None:
        connection = http.client.HTTPSConnection(self._address, timeout=ANSWER_S, context=self._tls)
        try:
            connection.request(method, path, body, {"Accept": "application/json", "Content-Type": kind})
            answer = connection.getresponse()
            document: Json = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        if answer.status == http.HTTPStatus.NOT_FOUND and method == "GET":
            return None
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(f"{method} {path}: {answer.status} {document.get('message', answer.reason)}")
        return document


def _essence(document: Json) -> Json:
    """An object without what every write changes, and without what others say of its state."""
    noise = {"managedFields", "resourceVersion", "generation"}
    metadata = {key: value for key, value in document["metadata"].items() if key not in noise}
    return {key: value for key, value in document.items() if key != "status"} | {"metadata": metadata}


def missing(cluster: Cluster, awaited: Json) -> str:
    """Why an object is not as awaited; empty if it is."""
    if "path" in awaited:
        return "" if cluster.answers(awaited["path"]) else f"{awaited['path']} does not answer"
    words = f"{awaited['kind']} {awaited['name']}"
    try:
        found = cluster.get(cluster.path(awaited["apiVersion"], awaited["kind"], awaited))
    except ApiError as error:
        return f"{words}: {error}"
    if found is None:
        return f"{words} is not there"
    wanted = awaited.get("condition")
    if not wanted:
        return ""
    condition: Json = next((each for each in found.get("status", {}).get("conditions", []) if each["type"] == wanted), {})
    if condition.get("status") == "True":
        return ""
    return f"{words} is not {wanted}: {condition.get('message') or condition.get('reason') or 'nothing is said of it'}"


def wait(cluster: Cluster, awaited: Sequence[Json], deadline: float) -> None:
    """Return when all is as awaited.

    :raises NotYetError: it is not, by the deadline
    """
    for each in awaited:
        while why := missing(cluster, each):
            if time.monotonic() > deadline:
                raise NotYetError(why)
            time.sleep(PAUSE_S)


def main() -> None:
    """Run the command line."""
    check = "--check" in sys.argv[1:]
    specification: Json = json.load(sys.stdin)
    names = [f"{manifest['kind']} {manifest['metadata']['name']}" for manifest in specification["objects"]]
    try:
        cluster = Cluster(Path(specification["kubeconfig"]))
        applied = [cluster.apply(manifest, dry=check) for manifest in specification["objects"]]
        if not check:
            wait(cluster, specification["awaited"], time.monotonic() + specification["timeout_s"])
    except (ApiError, OSError, ValueError) as error:
        if not check:
            sys.exit(f"The cluster does not take its objects: {error}")
        applied = [True] * len(names)
    except NotYetError as error:
        sys.exit(f"Not after {specification['timeout_s']} s: {error}")
    print(json.dumps({"changed": [name for name, changed in zip(names, applied, strict=True) if changed]}))


if __name__ == "__main__":
    main()
