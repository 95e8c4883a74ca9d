#!/usr/bin/env python3
"""A user's journey through the cloud of a scenario.

    journey.py CLOUDS_YAML CLOUD {leave|find} < EXPECTED
    journey.py CLOUDS_YAML CLOUD crash BOXCTL DIRECTORY < EXPECTED

EXPECTED is what the scenario's options say, as JSON. It fails with an assertion.
"""
# ruff: noqa: S101 - assertions are what it is for

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from openstack.config import OpenStackConfig
from openstack.connection import Connection

CONTENT = b"left before the crash"
WAIT_S = 120


def look(cloud: Any, expected: dict[str, Any]) -> None:
    """Compare the cloud with the options."""
    port, inside = expected["port_base"], expected["internal_host"]
    urls = {endpoint.interface: endpoint for endpoint in cloud.identity.endpoints() if endpoint.url.endswith(f":{port}/v3")}
    assert urls["public"].url == f"http://127.0.0.1:{port}/v3"
    assert urls["internal"].url == f"http://{inside}:{port}/v3"
    assert urls["public"].region_id == expected["region"]
    assert {role.name for role in cloud.identity.roles()} >= set(expected["roles"])
    assert {image.name for image in cloud.image.images()} == set(expected["images"])
    assert cloud.network.find_network(expected["network"]).is_router_external
    policies = cloud.object_store.get_info().swift["policies"]
    assert [policy["name"] for policy in policies] == expected["policies"]
    assert [policy["name"] for policy in policies if policy.get("default")] == expected["policies"][:1]


def compute(cloud: Any) -> None:
    """Make a server and delete it."""
    # The list has no order, and the quota of a project holds no large one.
    flavor, image = min(cloud.compute.flavors(), key=lambda flavor: flavor.ram), next(cloud.image.images())
    server = cloud.compute.create_server(name="journey", flavor_id=flavor.id, image_id=image.id, networks="none")
    cloud.compute.wait_for_server(server, wait=WAIT_S)
    cloud.compute.delete_server(server)
    cloud.compute.wait_for_delete(server, wait=WAIT_S)


def crash(boxctl: str, directory: str) -> None:
    """Kill two services, and wait until others have taken their places."""
    command = [f"{directory}/env/bin/python", boxctl, "--directory", directory, "status", "--json"]

    def rows() -> dict[str, Any]:
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - the box's own program
        return {row["service"]: row for row in json.loads(text)}

    before = rows()
    killed = ("keystone", "swift-object")
    for name in killed:
        os.kill(before[name]["pid"], signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S

    def back() -> bool:
        now = rows()
        return all(now[name]["health"] == "healthy" and now[name]["pid"] != before[name]["pid"] for name in killed)

    while not back():
        assert time.monotonic() < deadline, f"{killed} did not come back"
        time.sleep(0.2)


def main() -> None:
    """Do a part of the journey."""
    clouds_yaml, name, part, *rest = sys.argv[1:]
    expected = json.load(sys.stdin)
    if part == "crash":
        crash(*rest)
        return
    loader = OpenStackConfig(config_files=[str(Path(clouds_yaml))], vendor_files=[], load_envvars=False)
    with Connection(config=loader.get_one(cloud=name)) as cloud:
        look(cloud, expected)
        if expected["compute"]:
            compute(cloud)
        if part == "leave":
            cloud.object_store.create_container("journey")
            cloud.object_store.create_object("journey", "object", data=CONTENT)
        assert cloud.object_store.download_object("object", container="journey") == CONTENT


if __name__ == "__main__":
    main()
