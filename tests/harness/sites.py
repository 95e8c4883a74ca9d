"""Site files of tests: those of inventories/, with names of their own, so that they stand beside others in one box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from harness.box import ROOT, Box
from harness.cluster import Cluster
from harness.waiting import until

KUEUE = "kueue.x-k8s.io"
KINDS = {
    "clusterqueues": ("ClusterQueue", "Cluster"),
    "localqueues": ("LocalQueue", "Namespaced"),
    "resourceflavors": ("ResourceFlavor", "Cluster"),
    "workloadpriorityclasses": ("WorkloadPriorityClass", "Cluster"),
}


def inventory(name: str, prefix: str) -> dict[str, Any]:
    """The site file of an inventory; what is unique in a cloud has a prefix."""
    site: dict[str, Any] = yaml.safe_load((ROOT / "inventories" / name / "site.yml").read_text())

    def own(each: dict[str, Any], key: str) -> None:
        if each.get(key):
            each[key] = f"{prefix}-{each[key]}"

    # Settings of stacks with such names are not kept in the repository.
    site["name"] = f"{site['name']}-{prefix}"
    own(site.get("daemon", {}), "tenant")
    for tenant in site["tenants"]:
        own(tenant, "name")
        own(tenant, "priority")
        for user in tenant.get("users", ()):
            own(user, "name")
    for pool in site.get("node_pools", ()):
        own(pool, "name")
        own(pool, "tenant")
    for each in site.get("queueing", {}).get("priority_classes", ()):
        own(each, "name")
    return site


def tenant(site: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A tenant of a site file."""
    return next(each for each in site["tenants"] if each["name"] == name)


def away(box: Box, directory: Path) -> Path:
    """A kubeconfig of the box by which nothing answers."""
    document = yaml.safe_load(box.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    file = directory / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


@contextmanager
def kueue(admin: Cluster) -> Iterator[None]:
    """Kueue's kinds, in a cluster that has no Kueue: what is written is stored, and nothing acts on it.

    They have no schemas: a field that Kueue does not know is found by the unit tests, which know Kueue's own.
    """
    from kubernetes.client import ApiextensionsV1Api  # noqa: PLC0415 - few tests need it

    api = ApiextensionsV1Api(admin.api)
    there = {each.metadata.name for each in api.list_custom_resource_definition().items}
    made = []
    for plural, (kind, scope) in KINDS.items():
        name = f"{plural}.{KUEUE}"
        if name in there:
            continue
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        document = {
            "metadata": {"name": name},
            "spec": {
                "group": KUEUE,
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "scope": scope,
                "versions": [{"name": "v1beta1", "served": True, "storage": True, "schema": schema}],
            },
        }
        api.create_custom_resource_definition(document)
        made.append(name)

    def established(name: str) -> bool:
        found = api.read_custom_resource_definition(name)
        return any(each.type == "Established" and each.status == "True" for each in (found.status.conditions or ()))

    try:
        for name in made:
            until(lambda name=name: established(name), what=f"{name} served", deadline_s=60)
        yield
    finally:
        for name in made:
            api.delete_custom_resource_definition(name)
