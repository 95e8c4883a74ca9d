"""OpenShift as its users see it: projects that go away again, Routes, and what a client of the router gets."""

from __future__ import annotations

import base64
import http.client
import secrets
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from harness.cluster import BUSYBOX, Cluster
from harness.waiting import until

DOMAIN = "apps.box.localhost"
DEADLINE_S = 120
PROJECT = "project.openshift.io"
ROUTE = "route.openshift.io"


class User(Cluster):
    """One user's view of the cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig)
        self.kubeconfig = kubeconfig
        self.custom = client.CustomObjectsApi(self.api)
        self.apps = client.AppsV1Api(self.api)
        self.rbac = client.RbacAuthorizationV1Api(self.api)
        self.reviews = client.AuthorizationV1Api(self.api)

    def request_project(self, name: str, **more: str) -> dict[str, Any]:
        """Ask for a project and return it."""
        request = {"apiVersion": f"{PROJECT}/v1", "kind": "ProjectRequest", "metadata": {"name": name}, **more}
        made = self.custom.create_cluster_custom_object(PROJECT, "v1", "projectrequests", request)
        # The role binding is there; the API server that judges by it hears of it a moment later.
        until(lambda: self.may("list", "", "serviceaccounts", namespace=name), what=f"rights in {name}", deadline_s=DEADLINE_S)
        return made

    def delete_project(self, name: str) -> None:
        """Delete it, as its owner may once the controllers have seen it."""
        until(
            lambda: self.may("delete", PROJECT, "projects", name=name), what=f"the right to delete {name}", deadline_s=DEADLINE_S
        )
        self.custom.delete_cluster_custom_object(PROJECT, "v1", "projects", name)

    def projects(self) -> set[str]:
        """The names of the projects that the user sees."""
        listed = self.custom.list_cluster_custom_object(PROJECT, "v1", "projects")
        return {item["metadata"]["name"] for item in listed["items"]}

    @contextmanager
    def project(self) -> Iterator[str]:
        """A new project in which pods can be made, deleted in the end."""
        name = f"test-{secrets.token_hex(4)}"
        self.request_project(name)
        try:
            self.wait(self.core.list_namespaced_service_account, lambda account: account.metadata.name == "default", name)
            yield name
        finally:
            self.delete_project(name)

    def may(self, verb: str, group: str, resource: str, *, name: str = "", namespace: str = "") -> bool:
        """Whether the API server would let the user."""
        attributes = {"verb": verb, "group": group, "resource": resource, "name": name, "namespace": namespace}
        review = self.reviews.create_self_subject_access_review({"spec": {"resourceAttributes": attributes}})
        return bool(review.status.allowed)

    def make_route(self, namespace: str, name: str, service: str = "web", **spec: Any) -> dict[str, Any]:
        """Create a Route to a Service and return it."""
        body = {"metadata": {"name": name}, "spec": {"to": {"kind": "Service", "name": service}, **spec}}
        route = {"apiVersion": f"{ROUTE}/v1", "kind": "Route", **body}
        return self.custom.create_namespaced_custom_object(ROUTE, "v1", namespace, "routes", route)

    def change_route(self, namespace: str, name: str, **spec: Any) -> None:
        """Change what is named of a Route's spec."""
        self.custom.patch_namespaced_custom_object(ROUTE, "v1", namespace, "routes", name, {"spec": spec})

    def delete_route(self, namespace: str, name: str) -> None:
        """Delete a Route."""
        self.custom.delete_namespaced_custom_object(ROUTE, "v1", namespace, "routes", name)

    def admitted(self, namespace: str, name: str) -> dict[str, Any]:
        """What the router says of a Route, once it does."""

        def condition() -> dict[str, Any] | None:
            route = self.custom.get_namespaced_custom_object(ROUTE, "v1", namespace, "routes", name)
            entries = (route.get("status") or {}).get("ingress") or []
            return next((entry["conditions"][0] for entry in entries if entry["routerName"] == "default"), None)

        found = until(condition, what=f"the router's word on {name}", deadline_s=DEADLINE_S)
        assert found is not None
        return found

    def serve(self, namespace: str, name: str, *, replicas: int = 1) -> None:
        """Have web servers behind a Service; each answers with the name of its Service, and CGI tells what it was asked."""
        script = (
            "mkdir -p /tmp/www/cgi-bin /tmp/www/deep/er; cd /tmp/www;"
            f" echo {name} | tee index.html deep/index.html deep/er/index.html;"
            " printf '#!/bin/sh\\necho; env' > cgi-bin/env; printf '#!/bin/sh\\nsleep 3; echo; echo slow' > cgi-bin/slow;"
            " chmod +x cgi-bin/*; exec httpd -f -p 8080 -h /tmp/www"
        )
        container = {
            "name": "web",
            "image": BUSYBOX,
            "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-euc", script],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": 1000, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        template = {"metadata": {"labels": {"app": name}}, "spec": spec}
        deployment = {
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
        }
        service = {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}}
        self.apps.create_namespaced_deployment(namespace, deployment)
        self.core.create_namespaced_service(namespace, service)
        self.wait(
            self.apps.list_namespaced_deployment,
            lambda found: found.metadata.name == name and found.status.ready_replicas == replicas,
            namespace,
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back.

    :param certificate: of whom one spoke to, as :meth:`ssl.SSLSocket.getpeercert` decodes it; empty without verification
    """

    status: int
    headers: Mapping[str, str]
    body: str
    certificate: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Router:
    """The router's ports on loopback.

    :param http: the one without TLS
    :param https: the one with TLS
    :param authority: the box's, PEM
    """

    http: int
    https: int
    authority: str

    @classmethod
    def of(cls, kubeconfig: Path, http: int, https: int) -> Router:
        """With the authority of a kubeconfig."""
        cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        return cls(http=http, https=https, authority=base64.b64decode(cluster["certificate-authority-data"]).decode())

    def get(self, host: str, path: str = "/") -> Answer:
        """Ask without TLS."""
        with socket.create_connection(("127.0.0.1", self.http), timeout=30) as connection:
            return self._ask(connection, host, path)

    def get_secure(self, host: str, path: str = "/", *, authority: str = "", name: str = "") -> Answer:
        """Ask with TLS.

        :param authority: whom to trust; the box's by default
        :param name: whose certificate to expect; the host's by default
        """
        context = ssl.create_default_context(cadata=authority or self.authority)
        context.check_hostname = not name
        with (
            socket.create_connection(("127.0.0.1", self.https), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            answer = self._ask(connection, host, path)
        if name:
            assert ("DNS", name) in answer.certificate["subjectAltName"]
        return answer

    def _ask(self, connection: socket.socket, host: str, path: str) -> Answer:
        certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Answer(
            status=response.status,
            headers={key.lower(): value for key, value in response.headers.items()},
            body=response.read().decode(),
            certificate=certificate or {},
        )
