"""The API server, spoken to in JSON, with whatever credentials a kubeconfig has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import kubernetes
import urllib3

Object = dict[str, Any]

MANAGER = "pfmoc-ansible"
TIMEOUT_S = 30
PLURALS = {
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "Event": "events",
    "NetworkPolicy": "networkpolicies",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "ReplicaSet": "replicasets",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Route": "routes",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
}


class ApiError(Exception):
    """The API server refused, or could not be reached; the text is for people.

    :param status: the HTTP status; 0 if there was no answer
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One project of a cluster.

    :param kubeconfig: the file; None for what ``kubectl`` would take
    :param context: its context; None for the current one
    :param namespace: the project
    """

    def __init__(self, kubeconfig: Path | None, context: str | None, namespace: str) -> None:
        try:
            file = str(kubeconfig) if kubeconfig else None
            self._client: Any = kubernetes.config.new_client_from_config(config_file=file, context=context)  # type: ignore[no-untyped-call]
        except kubernetes.config.ConfigException as error:
            raise ApiError(0, f"the kubeconfig cannot be used: {error}") from error
        # One that is away is told of at once: whoever waits asks again.
        self._client.rest_client.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(1, redirect=0)
        self.namespace = namespace

    def path(self, version: str, kind: str, name: str = "", sub: str = "") -> str:
        """The URL path of a collection of the project, or of an object in it."""
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        parts = [f"{root}/namespaces/{self.namespace}", PLURALS[kind], name, sub]
        return "/".join(part for part in parts if part)

    def get(self, version: str, kind: str, name: str) -> Object | None:
        """Read an object; None if it is not there."""
        try:
            return self._json("GET", self.path(version, kind, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def find(self, version: str, kind: str, *, labels: Mapping[str, str] | None = None, fields: str = "") -> list[Object]:
        """Read the objects that have these labels and fields."""
        selector = ",".join(f"{name}={value}" for name, value in (labels or {}).items())
        query = {key: value for key, value in (("labelSelector", selector), ("fieldSelector", fields)) if value}
        return list(self._json("GET", self.path(version, kind), query=query).get("items") or [])

    def find_everywhere(self, version: str, plural: str) -> list[Object]:
        """Read all objects of a kind that belongs to no project."""
        return list(self._json("GET", f"/api/{version}/{plural}").get("items") or [])

    def apply(self, wanted: Object, *, dry_run: bool = False) -> tuple[Object, bool]:
        """Make an object have what is wanted, by server-side apply.

        :returns: it, and whether that changed something
        """
        version, kind, name = wanted["apiVersion"], wanted["kind"], wanted["metadata"]["name"]
        before = self.get(version, kind, name)
        query = {"fieldManager": MANAGER, "force": "true", **({"dryRun": "All"} if dry_run else {})}
        kinds = "application/apply-patch+yaml"
        after = self._json("PATCH", self.path(version, kind, name), query=query, body=wanted, content_type=kinds)
        return after, before is None or _meant(before) != _meant(after)

    def replace_template(self, name: str, template: Object) -> None:
        """Give a Deployment another template of its pods, whole."""
        patch = [{"op": "replace", "path": "/spec/template", "value": template}]
        self._json("PATCH", self.path("apps/v1", "Deployment", name), body=patch, content_type="application/json-patch+json")

    def delete(self, version: str, kind: str, name: str) -> bool:
        """Delete an object and what it owns; False if it is not there."""
        try:
            self._json("DELETE", self.path(version, kind, name), body={"propagationPolicy": "Foreground"})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def log(self, pod: str, *, lines: int, previous: bool = False) -> str:
        """The last lines of a pod's log; empty if there is none."""
        query = {"tailLines": str(lines), **({"previous": "true"} if previous else {})}
        try:
            return self._send("GET", self.path("v1", "Pod", pod, "log"), query=query).decode(errors="replace")
        except ApiError:
            return ""

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> Object:
        found: Object = json.loads(self._send(method, path, query=query, body=body, content_type=content_type))
        return found

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> bytes:
        headers = {"Accept": "application/json, */*"} | ({"Content-Type": content_type} if body is not None else {})
        # What a kubeconfig's token, or program that logs in, puts into each request.
        headers |= {each["key"]: each["value"] for each in self._client.configuration.auth_settings().values()}
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._client.rest_client.pool_manager.request(
                method, url, body=None if body is None else json.dumps(body), headers=headers, timeout=TIMEOUT_S
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, f"the API server cannot be reached: {error}") from error
        if answer.status >= 400:
            raise ApiError(answer.status, _said(answer.status, answer.data, f"{method} {path}"))
        return bytes(answer.data)


def _meant(found: Object) -> Object:
    """An object without what the server keeps on it."""
    kept = {key: value for key, value in found.items() if key != "status"}
    noise = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid")
    return kept | {"metadata": {key: value for key, value in found["metadata"].items() if key not in noise}}


def _said(status: int, body: bytes, what: str) -> str:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace").strip()[:500]
    return f"{what}: {status} {message}"
