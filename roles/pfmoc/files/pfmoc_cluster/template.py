"""The OpenShift Template of the daemon, for those who deploy by `oc process`: with all that Pulumi would else have made."""

from __future__ import annotations

import json
from typing import Any

import yaml

from . import manifests
from .manifests import LABELS, Object
from .specification import NAME, SETTINGS_SECRET, STORAGE_SECRET, Specification

PARAMETERS: list[Object] = [
    {"name": "IMAGE", "description": "The daemon's image, best by its digest.", "required": True},
    {"name": "REPLICAS", "description": "Pods of the daemon.", "value": "2", "required": True},
    {"name": "ROUTE_HOST", "description": "Host name of the route. Empty: the router's choice."},
    {"name": "PFCON_USER", "description": "The name under which CUBE asks for a token.", "value": "pfcon", "required": True},
    {
        "name": "PFCON_PASSWORD",
        "description": "The password that goes with it.",
        "generate": "expression",
        "from": "[a-zA-Z0-9]{48}",
    },
    {"name": "SECRET_KEY", "description": "Signs the tokens.", "generate": "expression", "from": "[a-zA-Z0-9]{64}"},
    {"name": "OS_AUTH_URL", "description": "Keystone, version 3.", "required": True},
    {"name": "OS_APPLICATION_CREDENTIAL_ID", "description": "Id of the application credential.", "required": True},
    {"name": "OS_APPLICATION_CREDENTIAL_SECRET", "description": "Its secret.", "required": True},
    {"name": "SWIFT_CONTAINER_NAME", "description": "The Swift container of job data.", "required": True},
    {
        "name": "SWIFT_TEMPURL_KEY",
        "description": "Key that the container's or account's temporary URLs are signed with.",
        "required": True,
    },
    {"name": "SWIFT_TEMPURL_SLOT", "description": "Which of its two keys that is.", "value": "1", "required": True},
]

RULES: list[Object] = [
    {"apiGroups": groups, "resources": resources, "verbs": verbs}
    for groups, resources, verbs in (
        ([""], ["configmaps"], ["create", "delete", "get", "list", "patch", "update", "watch"]),
        ([""], ["secrets"], ["create", "delete", "list", "patch"]),
        ([""], ["pods"], ["delete", "list", "watch"]),
        ([""], ["pods/log"], ["get"]),
        ([""], ["events"], ["list", "watch"]),
        ([""], ["namespaces"], ["get"]),
        (["batch"], ["jobs"], ["create", "delete", "get", "list", "patch", "watch"]),
    )
]
"""What the daemon may do; the same as infra/daemon.py grants."""


def template_text() -> str:
    """The Template as YAML."""
    # Through JSON, so that what is shared among objects is written out in each.
    document = json.loads(json.dumps(template()))
    return "---\n" + yaml.dump(document, Dumper=_Indented, sort_keys=False, width=120)


class _Indented(yaml.SafeDumper):
    """Lists are further in than what they belong to, as in the other documents here."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyYAML's
        super().increase_indent(flow, indentless=False)


def template() -> Object:
    """The Template."""
    spec = Specification(
        namespace="",
        image="${IMAGE}",
        # Two braces: a number and not a text.
        replicas="${{REPLICAS}}",
        revisions=False,
        settings={
            "CONTAINER_ENV": "openshift",
            "STORAGE_ENV": "swift",
            "PFCON_INNETWORK": "true",
            "PFMOC_DIALECTS": "pfcon6,pfcon5",
        },
        router_labels={"policy-group.network.openshift.io/ingress": ""},
    )
    objects = [*prerequisites(), *manifests.all_objects(spec)]
    for each in objects:
        each["metadata"].pop("namespace", None)
    return {
        "apiVersion": "template.openshift.io/v1",
        "kind": "Template",
        "metadata": {
            "name": NAME,
            "annotations": {
                "openshift.io/display-name": "pfmoc",
                "description": "A ChRIS compute resource: jobs are pods, and data are in Swift.",
                "tags": "chris,pfcon,pman",
            },
        },
        "message": "CUBE's compute resource is https://<the host of the route pfmoc>/api/v1/; user and password are in"
        f" {SETTINGS_SECRET}.",
        "labels": {"template": NAME},
        "parameters": PARAMETERS,
        "objects": objects,
    }


def prerequisites() -> list[Object]:
    """ServiceAccount, Role, RoleBinding, Secrets, Route."""
    account = {"kind": "ServiceAccount", "name": NAME}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
    return [
        _named("v1", "ServiceAccount"),
        _named("rbac.authorization.k8s.io/v1", "Role") | {"rules": RULES},
        _named("rbac.authorization.k8s.io/v1", "RoleBinding") | {"roleRef": role, "subjects": [account]},
        _secret(SETTINGS_SECRET, "PFCON_USER", "PFCON_PASSWORD", "SECRET_KEY"),
        _secret(
            STORAGE_SECRET,
            *("OS_AUTH_URL", "OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_SECRET"),
            *("SWIFT_CONTAINER_NAME", "SWIFT_TEMPURL_KEY", "SWIFT_TEMPURL_SLOT"),
        ),
        _named("route.openshift.io/v1", "Route")
        | {
            "spec": {
                "host": "${ROUTE_HOST}",
                "to": {"kind": "Service", "name": NAME, "weight": 100},
                "port": {"targetPort": "http"},
                "tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"},
                "wildcardPolicy": "None",
            }
        },
    ]


def _secret(name: str, *keys: str) -> Object:
    return _named("v1", "Secret", name) | {"type": "Opaque", "stringData": {key: f"${{{key}}}" for key in keys}}


def _named(version: str, kind: str, name: str = NAME) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": dict(LABELS)}}
