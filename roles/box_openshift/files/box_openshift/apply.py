"""Make the cluster hold OpenShift's objects, or wait until its API answers.

    python -m box_openshift.apply [--check | --available] < SPECIFICATION > RESULT

Both are JSON. The specification has

- ``kubeconfig``: of an administrator
- ``directories``: of manifests, applied in the order of their names; custom resource definitions first of all
- ``values``: what ``$name`` in a manifest stands for; ``$cluster_id`` is known
- ``timeout_s``: how long that, or anything else that must come about, may take

and the result lists under ``changed`` what was made or altered, or with ``--check`` would be. With ``--check`` a cluster that
does not answer is one in which there is nothing yet. With ``--available`` nothing is made, and the wait is for OpenShift's API.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import json
import string
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from .cluster import Cluster, ClusterError, NotFoundError, Object, Resource
from .resources import API_SERVICES, NAMESPACES
from .security_context import constraints, roles

MANAGER = "box"
DEFINITION = "CustomResourceDefinition"
PAUSE_S = 0.05
# The API server answers faster than one client asks.
AT_ONCE = 4


class Objects:
    """Objects of one cluster, brought to what manifests say.

    :param deadline: until when to try what the cluster cannot do yet, in the time of ``time.monotonic``
    :param dry: change nothing, only tell what would be changed
    """

    def __init__(self, cluster: Cluster, *, deadline: float, dry: bool) -> None:
        self._cluster = cluster
        self._deadline = deadline
        self._dry = dry
        self._kinds: dict[tuple[str, str], tuple[Resource, bool, bool]] = {}
        self._before: dict[Resource, dict[tuple[str, str], Object]] = {}

    def bring(self, manifests: Sequence[Object]) -> list[str]:
        """Apply all, each kind of object after the one before it; return those that this changed."""
        changed = []
        for version, kind in dict.fromkeys((manifest["apiVersion"], manifest["kind"]) for manifest in manifests):
            alike = [manifest for manifest in manifests if (manifest["apiVersion"], manifest["kind"]) == (version, kind)]
            if not self._learn(version, kind):
                changed += alike
                continue
            with ThreadPoolExecutor(AT_ONCE) as pool:
                differs = list(pool.map(self._bring_one, alike))
            changed += [manifest for manifest, different in zip(alike, differs, strict=True) if different]
            if kind == DEFINITION and not self._dry:
                self.await_all(self._kinds[version, kind][0], "Established")
        return [f"{manifest['kind']} {manifest['metadata']['name']}" for manifest in changed]

    def _learn(self, version: str, kind: str) -> bool:
        """Find out how a kind is called in URLs, and what there is of it; False if no definition of it has been made yet."""
        while True:
            try:
                entries = self._cluster.request("GET", _prefix(version))["resources"]
                found = next((entry for entry in entries if entry["kind"] == kind and "/" not in entry["name"]), None)
                if found is not None:
                    break
            except NotFoundError:
                found = None
            if self._dry:
                return False
            if time.monotonic() > self._deadline:
                raise ClusterError(0, "NoSuchKind", f"the API has no {kind} in {version}")
            time.sleep(PAUSE_S)
        group, _, number = version.rpartition("/")
        resource = Resource(group, number, found["name"])
        has_status = any(entry["name"] == f"{resource.plural}/status" for entry in entries)
        self._kinds[version, kind] = resource, found["namespaced"], has_status
        self._before[resource] = {_identity(thing): thing for thing in self._cluster.list(resource)[0]}
        return True

    def _bring_one(self, manifest: Object) -> bool:
        resource, namespaced, has_status = self._kinds[manifest["apiVersion"], manifest["kind"]]
        before = self._before[resource].get(_identity(manifest))
        if before is None and self._dry:
            return True
        if any(value is None for value in manifest.values()):
            return self._replace(resource, manifest, before)
        name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace", "") if namespaced else ""
        body = {key: value for key, value in manifest.items() if key != "status"}
        after = self._cluster.apply(resource.path(namespace, name), body, MANAGER, dry_run=self._dry)
        if has_status and "status" in manifest:
            body = {key: value for key, value in manifest.items() if key != "spec"}
            after = self._cluster.apply(resource.path(namespace, name, "status"), body, MANAGER, dry_run=self._dry)
        return before is None or _essence(before, manifest) != _essence(after, manifest)

    def _replace(self, resource: Resource, manifest: Object, before: Object | None) -> bool:
        """As above for what says null on purpose, which server-side apply takes for nothing said."""
        if before is None:
            self._cluster.create(resource, manifest)
            return True
        wanted = {key: value for key, value in manifest.items() if key != "metadata"}
        if wanted.items() <= before.items():
            return False
        if not self._dry:
            self._cluster.request("PUT", resource.path(name=manifest["metadata"]["name"]), {**before, **wanted})
        return True

    def await_all(self, resource: Resource, condition: str) -> None:
        """Wait until all objects of a kind say that a condition holds."""
        while True:
            waiting = [thing for thing in self._cluster.list(resource)[0] if not _says(thing, condition)]
            if not waiting:
                return
            if time.monotonic() > self._deadline:
                names = ", ".join(thing["metadata"]["name"] for thing in waiting)
                raise ClusterError(0, "Timeout", f"not {condition} in time: {names}")
            time.sleep(PAUSE_S)


def _prefix(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _identity(thing: Object) -> tuple[str, str]:
    return thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


def _says(thing: Object, condition: str) -> bool:
    conditions = (thing.get("status") or {}).get("conditions") or []
    return any(each["type"] == condition and each["status"] == "True" for each in conditions)


def _essence(thing: Object, manifest: Object) -> Object:
    """An object without what every write changes, and without what only others write."""
    metadata = {key: value for key, value in thing["metadata"].items() if key not in ("managedFields", "resourceVersion")}
    dropped = ("apiVersion", "kind", *(("status",) if "status" not in manifest else ()))
    return {key: value for key, value in {**thing, "metadata": metadata}.items() if key not in dropped}


def read(directories: Iterable[Path], values: Mapping[str, str]) -> list[Object]:
    """The manifests, custom resource definitions first."""
    found: list[Object] = []
    for directory in directories:
        for file in sorted(directory.glob("*.yaml")):
            text = file.read_text()
            # A definition's descriptions may hold a dollar sign that stands for itself.
            text = text if f"kind: {DEFINITION}" in text else string.Template(text).substitute(values)
            found += filter(None, yaml.load_all(text, yaml.CSafeLoader))
    for manifest in found:
        # As published, with an empty status and a creation time of null.
        if manifest["kind"] == DEFINITION:
            manifest.pop("status", None)
            manifest["metadata"].pop("creationTimestamp", None)
    found += [*constraints(), *roles()]
    return sorted(found, key=lambda manifest: bool(manifest["kind"] != DEFINITION))


def main() -> None:
    """Run the command line."""
    dry = "--check" in sys.argv[1:]
    specification = json.load(sys.stdin)
    directories = [Path(directory) for directory in specification["directories"]]
    try:
        cluster = Cluster(Path(specification["kubeconfig"]))
        objects = Objects(cluster, deadline=time.monotonic() + specification["timeout_s"], dry=dry)
        if "--available" in sys.argv[1:]:
            objects.await_all(API_SERVICES, "Available")
            return
        identity = cluster.get(NAMESPACES, "kube-system")["metadata"]["uid"]
        changed = objects.bring(read(directories, {**specification["values"], "cluster_id": identity}))
    except (ClusterError, OSError) as error:
        if not dry:
            sys.exit(f"The cluster does not take OpenShift's objects: {error}")
        changed = ["all"]
    print(json.dumps({"changed": changed}))


if __name__ == "__main__":
    main()
