"""Deploy the daemon in a cluster, follow it, go back, remove it.

    python -m pfmoc_cluster apply [--check] < SPECIFICATION
    python -m pfmoc_cluster rollback [--to REVISION] < WHERE
    python -m pfmoc_cluster history < WHERE
    python -m pfmoc_cluster newest < WHERE
    python -m pfmoc_cluster nodes < WHERE
    python -m pfmoc_cluster remove [--check] < WHERE
    python -m pfmoc_cluster template

Specification and result are JSON. WHERE is ``{"kubeconfig", "context", "namespace", "timeout_s"}``, and ``route_port`` and
``authorities`` of its Route where these are not 443 and the system's; a specification has beside these what
``Specification`` has, under ``daemon``. The result tells what changed, and of the daemon its image, revision and URL; the newest
revision is 0 where there is no daemon.
Exit status: 0, or 1 with the reason on standard error.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .api import Api, ApiError, Object
from .manifests import LABELS, SELECTOR, all_objects
from .nodes import nodes
from .reach import wait_for_route
from .rollout import REVISION, RolloutError, back, newest, revisions, wait
from .specification import NAME, Specification
from .template import template_text


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="pfmoc_cluster")
    parser.add_argument("command", choices=["apply", "history", "newest", "nodes", "remove", "rollback", "template"])
    parser.add_argument("--check", action="store_true", help="change nothing, tell what would be changed")
    parser.add_argument("--to", default="", help="a revision's number, or part of its image's name")
    arguments = parser.parse_args()
    if arguments.command == "template":
        sys.stdout.write(template_text())
        return 0
    document = json.load(sys.stdin)
    kubeconfig = Path(document["kubeconfig"]) if document.get("kubeconfig") else None
    try:
        api = Api(kubeconfig, document.get("context") or None, document["namespace"])
        print(json.dumps(_do(arguments, api, document)))
    except (ApiError, RolloutError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _do(arguments: argparse.Namespace, api: Api, document: Object) -> Object:
    timeout_s = float(document.get("timeout_s", 300))
    if arguments.command == "apply":
        spec = Specification.read({"namespace": api.namespace, **document["daemon"]})
        return apply(api, spec, timeout_s=timeout_s, check=arguments.check) | _reached(api, document, check=arguments.check)
    if arguments.command == "remove":
        return {"changed": remove(api, check=arguments.check)}
    if arguments.command == "history":
        return {"revisions": [{"revision": each.number, "image": each.image} for each in revisions(api)]}
    if arguments.command == "newest":
        return {"revision": newest(api, timeout_s=timeout_s)}
    if arguments.command == "nodes":
        return {"nodes": nodes(api)}
    chosen = back(api, to=arguments.to)
    wait(api, timeout_s=timeout_s)
    return {"changed": [f"Deployment/{NAME}"], "image": chosen.image, "from": chosen.number} | _reached(api, document)


def apply(api: Api, spec: Specification, *, timeout_s: float, check: bool) -> Object:
    """Make the objects as specified, and wait until the pods are as they say."""
    versions = []
    for name in spec.secrets:
        secret = api.get("v1", "Secret", name)
        if secret is None:
            raise RolloutError(f"the Secret {name} is not in {api.namespace}: Pulumi makes it; run `make infra` for this site")
        versions.append(f"{name}:{secret['metadata']['resourceVersion']}")
    changed = []
    for wanted in all_objects(spec, secrets=" ".join(versions)):
        _, differs = api.apply(wanted, dry_run=check)
        if differs:
            changed.append(f"{wanted['kind']}/{wanted['metadata']['name']}")
    if not check:
        wait(api, timeout_s=timeout_s)
        _forget_settings(api, spec)
    return {"changed": changed, "image": spec.image}


def remove(api: Api, *, check: bool) -> list[str]:
    """Remove what ``apply`` made; what Pulumi made stays.

    :returns: what was there
    """
    kinds = [("apps/v1", "Deployment"), ("policy/v1", "PodDisruptionBudget"), ("networking.k8s.io/v1", "NetworkPolicy")]
    found = []
    for version, kind in [*kinds, ("v1", "Service"), ("v1", "ConfigMap")]:
        for each in api.find(version, kind, labels=LABELS):
            found.append(f"{kind}/{each['metadata']['name']}")
            if not check:
                api.delete(version, kind, each["metadata"]["name"])
    return found


def _reached(api: Api, document: Object, *, check: bool = False) -> Object:
    """The daemon's URL and revision, once it answers there."""
    route = api.get("route.openshift.io/v1", "Route", NAME)
    deployment = api.get("apps/v1", "Deployment", NAME)
    port = int(document.get("route_port") or 443)
    host = route["spec"].get("host", "") if route else ""
    url = f"https://{host}{'' if port == 443 else f':{port}'}/api/v1/" if host else ""
    if url and not check:
        authorities = Path(document["authorities"]) if document.get("authorities") else None
        wait_for_route(url, authorities=authorities, timeout_s=float(document.get("timeout_s", 300)))
    return {"url": url, "revision": int(deployment["metadata"]["annotations"].get(REVISION, 0)) if deployment else 0}


def _forget_settings(api: Api, spec: Specification) -> None:
    """Remove the settings of revisions that the cluster remembers no more."""
    named = {
        source["configMapRef"]["name"]
        for each in revisions(api)
        for source in each.template["spec"]["containers"][0].get("envFrom", [])
        if "configMapRef" in source
    }
    for each in api.find("v1", "ConfigMap", labels=SELECTOR):
        if each["metadata"]["name"] not in named | {spec.settings_name}:
            api.delete("v1", "ConfigMap", each["metadata"]["name"])


if __name__ == "__main__":
    sys.exit(main())
