"""The programs that make up the cloud, as the box's supervisor wants them described."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from box_openstack.cloud import Cloud
from box_openstack.render import OF_SERVICE

DISTRIBUTIONS = {"placement": "openstack-placement"}
# A path that answers 200 without a token, and below what an operator's client finds the API.
PATHS = {
    "keystone": ("/v3", "/v3"),
    "placement": ("/", ""),
    "glance": ("/healthcheck", ""),
    "neutron": ("/healthcheck", ""),
    "nova": ("/v2.1", "/v2.1"),
    "cinder": ("/healthcheck", "/v3"),
}
SWIFT_SERVERS = ("account", "container", "object", "proxy")
SWIFT_DAEMONS = ("container-updater", "object-updater", "object-expirer", "account-reaper")
SWIFT_CONF = {
    "account": "account-server.conf",
    "container": "container-server.conf",
    "object": "object-server.conf",
    "proxy": "proxy-server.conf",
    "container-updater": "container-server.conf",
    "object-updater": "object-server.conf",
    "object-expirer": "object-expirer.conf",
    "account-reaper": "account-server.conf",
}


def _service(cloud: Cloud, name: str, project: str, files: list[Path]) -> dict[str, Any]:
    package = Path(__file__).parent
    return {
        "name": name,
        "argv": [sys.executable, "-W", "ignore", "-m", "box_openstack", "serve", name, str(cloud.state)],
        "environment": {
            "PYTHONPATH": str(package.parent),
            "PYTHONUNBUFFERED": "1",
            "XDG_CACHE_HOME": str(cloud.state / "cache"),
            # Each of glibc's arenas keeps what it once had, and there would be one for each of 8 to 32 threads.
            "MALLOC_ARENA_MAX": "2",
        },
        "directory": str(cloud.state),
        "version": metadata.version(DISTRIBUTIONS.get(project, project)),
        "endpoint": "",
        "health": {},
        "files": [str(file) for file in [*files, *sorted(package.glob("*.py"))]],
        "stop_seconds": 10,
    }


def _swift(cloud: Cloud) -> list[dict[str, Any]]:
    rings = [cloud.conf / "swift" / "rings.json", cloud.conf / "swift" / "swift.conf"]
    listed = []
    for kind in (*SWIFT_SERVERS, *SWIFT_DAEMONS):
        name = f"swift-{kind}"
        service = _service(cloud, name, "swift", [cloud.conf / "swift" / SWIFT_CONF[kind], *rings])
        if kind in SWIFT_SERVERS:
            url = cloud.url("swift" if kind == "proxy" else name)
            service["endpoint"] = f"{url}/v1" if kind == "proxy" else url
            service["health"] = {"url": f"{url}/healthcheck"}
        listed.append(service)
    return listed


def listing(cloud: Cloud) -> list[dict[str, Any]]:
    """One entry for each program, in the order of a start."""
    listed = []
    for project in cloud.services:
        if project == "swift":
            listed += _swift(cloud)
            continue
        files = [cloud.conf / name for name in OF_SERVICE[project]]
        if project == "keystone":
            # It keeps the catalogue in memory.
            files.append(cloud.conf / "catalogue.json")
        service = _service(cloud, project, project, files)
        health, endpoint = PATHS[project]
        service["endpoint"] = cloud.url(project) + endpoint
        service["health"] = {"url": cloud.url(project) + health}
        listed.append(service)
    return listed
