"""Each service of OpenStack is killed; it comes back by itself, and everything is as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from harness.box import Box
from harness.tenants import Tenant, administrator, sdk_warnings, tenant
from harness.waiting import until

pytestmark = sdk_warnings
WAIT_S = 120
SERVICES = [
    "keystone",
    "placement",
    "glance",
    "neutron",
    "nova",
    "cinder",
    "swift-account",
    "swift-container",
    "swift-object",
    "swift-proxy",
    "swift-container-updater",
    "swift-object-updater",
    "swift-object-expirer",
    "swift-account-reaper",
]


@contextmanager
def possessions(owner: Tenant) -> Iterator[Callable[[], dict[str, Any]]]:
    """One thing in each service; a function tells how they are. They are gone afterwards."""
    cloud, swift = owner.cloud, owner.swift
    network = cloud.network.create_network(name="kept")
    volume = cloud.block_storage.create_volume(size=1, name="kept")
    image, flavor = cloud.image.find_image("box-x86_64"), cloud.compute.find_flavor("cpu-su.1")
    server = cloud.compute.create_server(name="kept", image_id=image.id, flavor_id=flavor.id, networks="none")
    cloud.compute.wait_for_server(server, interval=0.2, wait=WAIT_S)
    cloud.block_storage.wait_for_status(volume, "available", interval=0.2, wait=WAIT_S)
    swift.put_container("kept")
    swift.put_object("kept", "object", b"content")
    until(lambda: swift.get_container("kept")[1], what="the listing to follow")

    def now() -> dict[str, Any]:
        found = cloud.compute.get_server(server.id)
        return {
            "network": cloud.network.get_network(network.id).name,
            "volume": cloud.block_storage.get_volume(volume.id).status,
            "server": (found.status, found.power_state),
            "image": cloud.image.get_image(image.id).status,
            "object": swift.get_object("kept", "object")[1],
            "listing": [entry["name"] for entry in swift.get_container("kept")[1]],
        }

    yield now
    cloud.compute.delete_server(server)
    cloud.compute.wait_for_delete(server, interval=0.2, wait=WAIT_S)
    cloud.block_storage.delete_volume(volume)
    cloud.network.delete_network(network)


@pytest.fixture(scope="module")
def things(box: Box) -> Iterator[Callable[[], dict[str, Any]]]:
    with administrator(box) as admin, tenant(box, admin, "alice") as alice, possessions(alice) as now:
        yield now


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_and_knows_everything(box, things, service):
    before = things()
    box.kill(service)
    assert things() == before


def test_after_a_kill_of_nova_a_server_can_be_stopped_started_and_made(box):
    with administrator(box) as admin, tenant(box, admin, "alice") as alice, possessions(alice):
        cloud = alice.cloud
        box.kill("nova")
        server = cloud.compute.find_server("kept")
        cloud.compute.stop_server(server)
        cloud.compute.wait_for_server(server, status="SHUTOFF", interval=0.2, wait=WAIT_S)
        cloud.compute.start_server(server)
        cloud.compute.wait_for_server(server, interval=0.2, wait=WAIT_S)
        image, flavor = cloud.image.find_image("box-ppc64le"), cloud.compute.find_flavor("ppc64le-su.1")
        other = cloud.compute.create_server(name="new", image_id=image.id, flavor_id=flavor.id, networks="none")
        cloud.compute.wait_for_server(other, interval=0.2, wait=WAIT_S)
        cloud.compute.delete_server(other)
        cloud.compute.wait_for_delete(other, interval=0.2, wait=WAIT_S)


def test_a_listing_hears_later_of_what_its_container_could_not_be_told(box):
    """As when the container's server is slow. The object's server is asked itself: no client can bring that about."""
    with administrator(box) as admin, tenant(box, admin, "alice") as alice:
        alice.swift.put_container("late")
        server, path = box.status()["swift-object"]["endpoint"], alice.account.rpartition("/")[2]
        nowhere = {"X-Container-Host": "127.0.0.1:1", "X-Container-Partition": "0", "X-Container-Device": "d1"}

        def ask(method: str) -> None:
            headers = {**nowhere, "X-Timestamp": f"{time.time():.5f}", "Content-Type": "text/plain"}
            requests.request(method, f"{server}/d1/0/{path}/late/object", headers=headers, timeout=30).raise_for_status()

        def listed() -> list[str]:
            return [entry["name"] for entry in alice.swift.get_container("late")[1]]

        ask("PUT")
        until(lambda: listed() == ["object"], what="the updater to tell", deadline_s=WAIT_S)
        ask("DELETE")
        until(lambda: not listed(), what="the updater to tell of the end", deadline_s=WAIT_S)
