"""What a tenant can do with the real OpenStack, what it is refused, and that nothing is left of it."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.box import Box
from harness.tenants import Tenant, administrator, connected, sdk_warnings, tenant
from harness.waiting import until
from openstack import exceptions
from swiftclient.exceptions import ClientException

pytestmark = sdk_warnings
WAIT_S = 120
COMMANDS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def admin(box: Box) -> Iterator[Any]:
    with administrator(box) as connection:
        yield connection


@pytest.fixture
def alice(box: Box, admin: Any) -> Iterator[Tenant]:
    with tenant(box, admin, "alice") as made:
        yield made


@pytest.fixture
def bob(box: Box, admin: Any) -> Iterator[Tenant]:
    with tenant(box, admin, "bob") as made:
        yield made


def active(cloud: Any, **server: Any) -> Any:
    """Create a server and wait until it is ACTIVE."""
    made = cloud.compute.create_server(**server)
    return cloud.compute.wait_for_server(made, interval=0.2, wait=WAIT_S)


def gone(cloud: Any, server: Any) -> None:
    cloud.compute.delete_server(server)
    cloud.compute.wait_for_delete(server, interval=0.2, wait=WAIT_S)


def node_of(admin: Any, server: Any) -> str:
    return str(admin.compute.get_server(server.id).hypervisor_hostname)


def network_with_subnet(cloud: Any, name: str) -> tuple[Any, Any]:
    network = cloud.network.create_network(name=name)
    return network, cloud.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.9.0.0/24", name=name)


def left_of(admin: Any, project: str) -> dict[str, list[str]]:
    """What there is of a project; the security group that Neutron itself makes does not count."""
    network = admin.network
    found = {
        "networks": network.networks(project_id=project),
        "subnets": network.subnets(project_id=project),
        "routers": network.routers(project_id=project),
        "ports": network.ports(project_id=project),
        "addresses": network.ips(project_id=project),
        "groups": (group for group in network.security_groups(project_id=project) if group.name != "default"),
        "servers": admin.compute.servers(all_projects=True, project_id=project),
        "volumes": admin.block_storage.volumes(all_projects=True, project_id=project),
        "allocations": (
            used
            for used, amount in admin.placement.get(f"/usages?project_id={project}", microversion="1.9").json()["usages"].items()
            if amount
        ),
    }
    listed = {kind: [getattr(thing, "id", thing) for thing in things] for kind, things in found.items()}
    return {kind: things for kind, things in listed.items() if things}


def test_the_cloud_holds_what_its_role_says(admin):
    images = {image.name: image for image in admin.image.images()}
    assert images["box-x86_64"].architecture == "x86_64"
    assert images["box-ppc64le"].architecture == "ppc64le"
    admin.compute.default_microversion = "2.61"
    specs = {flavor.name: flavor.extra_specs for flavor in admin.compute.flavors()}
    for gpu in ("v100", "a100", "h100"):
        assert specs[f"gpu-su-{gpu}.1"]["pci_passthrough:alias"] == f"{gpu}:1"
    assert specs["ppc64le-su.1"]["trait:HW_ARCH_PPC64LE"] == "required"
    external = admin.network.find_network("external")
    assert external.is_router_external
    assert external.provider_network_type == "flat"
    assert {"swiftoperator", "ResellerAdmin"} <= {role.name for role in admin.identity.roles()}


def test_the_catalogue_has_a_public_and_an_internal_side(box, admin):
    endpoints = list(admin.identity.endpoints())
    services = {service.id: service.type for service in admin.identity.services()}
    urls = {(services[endpoint.service_id], endpoint.interface): endpoint.url for endpoint in endpoints}
    assert urls["identity", "public"] == f"http://127.0.0.1:{box.port(0)}/v3"
    inside = "10.89.0.1" if box.profile == "full" else "127.0.0.1"
    assert urls["identity", "internal"] == f"http://{inside}:{box.port(0)}/v3"
    assert urls["object-store", "internal"].startswith(f"http://{inside}:{box.port(6)}/v1/AUTH_")
    assert all(url.startswith("http://127.0.0.1:") for (_, interface), url in urls.items() if interface != "internal")


@pytest.mark.parametrize(("offset", "path"), [(0, "/v3"), (2, "/"), (3, "/"), (4, "/"), (5, "/")])
def test_discovery_answers_with_the_address_that_was_asked(box, admin, offset, path):
    answer = admin.session.get(
        f"http://127.0.0.1:{box.port(offset)}{path}", headers={"Host": "cloud.example:1234"}, authenticated=False, raise_exc=False
    )
    assert "http://cloud.example:1234/" in answer.text
    assert "127.0.0.1" not in answer.text


def test_the_life_of_a_tenant(admin, alice):
    cloud, project = alice.cloud, alice.project_id
    admin.set_compute_quotas(project, cores=64, ram=400_000, instances=5)
    admin.set_network_quotas(project, network=3, port=50)
    admin.set_volume_quotas(project, volumes=4, gigabytes=200)
    assert admin.get_compute_quotas(project).cores == 64
    assert admin.get_network_quotas(project).networks == 3
    assert admin.get_volume_quotas(project).gigabytes == 200

    network, subnet = network_with_subnet(cloud, "own")
    external = cloud.network.find_network("external")
    router = cloud.network.create_router(name="way-out", external_gateway_info={"network_id": external.id})
    cloud.network.add_interface_to_router(router, subnet=subnet.id)
    group = cloud.network.create_security_group(name="ssh")
    cloud.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22, ether_type="IPv4"
    )
    assert len(cloud.network.get_security_group(group.id).security_group_rules) == 3, "two to go out, one for ssh"
    assert len(cloud.network.find_security_group("default").security_group_rules) == 4
    port = cloud.network.create_port(network_id=network.id, security_groups=[group.id])

    image = cloud.image.find_image("box-x86_64")
    flavor = cloud.compute.find_flavor("cpu-su.1")
    server = active(cloud, name="plain", image_id=image.id, flavor_id=flavor.id, networks=[{"port": port.id}])
    assert server.status == "ACTIVE"
    assert cloud.network.get_port(port.id).status == "ACTIVE"
    address = cloud.network.create_ip(floating_network_id=external.id, port_id=port.id)
    assert address.floating_ip_address.startswith("203.0.113.")

    volume = cloud.block_storage.create_volume(size=10, name="data")
    cloud.block_storage.wait_for_status(volume, "available", interval=0.2, wait=WAIT_S)
    cloud.compute.create_volume_attachment(server, volume_id=volume.id)
    cloud.block_storage.wait_for_status(volume, "in-use", interval=0.2, wait=WAIT_S)

    cloud.compute.stop_server(server)
    cloud.compute.wait_for_server(server, status="SHUTOFF", interval=0.2, wait=WAIT_S)
    cloud.compute.start_server(server)
    cloud.compute.wait_for_server(server, status="ACTIVE", interval=0.2, wait=WAIT_S)
    assert left_of(admin, project).keys() >= {"servers", "volumes", "networks", "routers", "allocations"}

    gone(cloud, server)
    cloud.block_storage.wait_for_status(volume, "available", interval=0.2, wait=WAIT_S)
    cloud.block_storage.delete_volume(volume)
    cloud.block_storage.wait_for_delete(volume, interval=0.2, wait=WAIT_S)
    cloud.network.delete_ip(address)
    cloud.network.delete_port(port)
    cloud.network.remove_interface_from_router(router, subnet=subnet.id)
    cloud.network.delete_router(router)
    cloud.network.delete_network(network)
    cloud.network.delete_security_group(group)
    # Nova gives a server's allocations back after it has called it deleted.
    until(lambda: not left_of(admin, project), what="nothing to be left")


@pytest.mark.parametrize(
    ("flavor", "image", "node"),
    [
        ("gpu-su-a100.1", "box-x86_64", "box-x86-64"),
        ("gpu-su-h100.1", "box-x86_64", "box-x86-64"),
        ("ppc64le-su.1", "box-ppc64le", "box-ppc64le"),
        ("ppc64le-su-v100.1", "box-ppc64le", "box-ppc64le"),
        ("cpu-su.1", "box-ppc64le", "box-ppc64le"),
    ],
)
def test_a_server_goes_where_its_gpu_and_its_processor_are(admin, alice, flavor, image, node):
    admin.set_compute_quotas(alice.project_id, cores=-1, ram=-1)
    cloud = alice.cloud
    server = active(
        cloud,
        name=flavor,
        flavor_id=cloud.compute.find_flavor(flavor).id,
        image_id=cloud.image.find_image(image).id,
        networks="none",
    )
    try:
        assert node_of(admin, server) == node
    finally:
        gone(cloud, server)


def test_a_server_for_which_there_is_no_place_is_told_so(admin, alice):
    admin.set_compute_quotas(alice.project_id, cores=-1, ram=-1)
    cloud = alice.cloud
    flavor, image = cloud.compute.find_flavor("gpu-su-a100.1"), cloud.image.find_image("box-ppc64le")
    server = cloud.compute.create_server(name="impossible", flavor_id=flavor.id, image_id=image.id, networks="none")
    with pytest.raises(exceptions.ResourceFailure):
        cloud.compute.wait_for_server(server, interval=0.2, wait=WAIT_S)
    assert "No valid host" in cloud.compute.get_server(server.id).fault["message"]
    gone(cloud, server)


def test_each_service_refuses_what_is_over_quota(admin, alice):
    cloud, project = alice.cloud, alice.project_id
    admin.set_compute_quotas(project, instances=1, cores=2)
    admin.set_network_quotas(project, network=1)
    admin.set_volume_quotas(project, volumes=1, gigabytes=5)
    flavor, image = cloud.compute.find_flavor("cpu-su.4"), cloud.image.find_image("box-x86_64")
    with pytest.raises(exceptions.ForbiddenException, match="Quota exceeded for cores"):
        cloud.compute.create_server(name="big", flavor_id=flavor.id, image_id=image.id, networks="none")
    network = cloud.network.create_network(name="first")
    with pytest.raises(exceptions.ConflictException, match="Quota exceeded for resources"):
        cloud.network.create_network(name="second")
    with pytest.raises(exceptions.HttpException, match="gigabytes"):
        cloud.block_storage.create_volume(size=6)
    cloud.network.delete_network(network)
    assert left_of(admin, project) == {}


def test_an_application_credential_can_what_its_roles_can_until_it_expires(box, alice):
    identity = alice.cloud.identity
    until_tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000000")
    made = identity.create_application_credential(alice.user_id, "reader", roles=[{"name": "member"}], expires_at=until_tomorrow)
    assert made.expires_at == until_tomorrow
    auth = {"application_credential_id": made.id, "application_credential_secret": made.secret}
    with connected(box, auth=auth, auth_type="v3applicationcredential") as cloud:
        assert cloud.current_project_id == alice.project_id
        assert list(cloud.compute.servers()) == []
        with pytest.raises(exceptions.ForbiddenException):
            cloud.identity.create_application_credential(alice.user_id, "child", roles=[{"name": "member"}])
    with pytest.raises(exceptions.BadRequestException):
        identity.create_application_credential(alice.user_id, "late", expires_at="2020-01-01T00:00:00.000000")
    identity.delete_application_credential(alice.user_id, made.id)
    refused = pytest.raises(exceptions.SDKException, match="404")
    with connected(box, auth=auth, auth_type="v3applicationcredential") as cloud, refused:
        cloud.authorize()


def test_a_tenant_cannot_touch_another(alice, bob):
    network, _ = network_with_subnet(alice.cloud, "private")
    volume = alice.cloud.block_storage.create_volume(size=1)
    alice.cloud.block_storage.wait_for_status(volume, "available", interval=0.2, wait=WAIT_S)
    alice.swift.put_container("private")
    alice.swift.put_object("private", "secret", b"alice's")
    assert bob.cloud.network.find_network(network.id) is None
    assert list(bob.cloud.network.networks(project_id=alice.project_id)) == []
    with pytest.raises(exceptions.NotFoundException):
        bob.cloud.block_storage.delete_volume(volume, ignore_missing=False)
    with pytest.raises(exceptions.ForbiddenException):
        bob.cloud.identity.get_project(alice.project_id)
    for attempt in (
        lambda: bob.swift.get_object("private", "secret"),
        lambda: bob.swift.put_object("private", "secret", b"bob's"),
        lambda: bob.swift.delete_object("private", "secret"),
    ):
        ours, bob.swift.url = bob.swift.url, alice.account
        try:
            with pytest.raises(ClientException, match="403"):
                attempt()
        finally:
            bob.swift.url = ours
    assert alice.swift.get_object("private", "secret")[1] == b"alice's"
    alice.cloud.block_storage.delete_volume(volume)
    alice.cloud.network.delete_network(network)


def test_names_may_be_in_any_script(alice):
    names = ["Größe", "データ", "данные 1", "a/b c", "🧠"]
    cloud = alice.cloud
    networks = [cloud.network.create_network(name=name) for name in names]
    volumes = [cloud.block_storage.create_volume(size=1, name=name) for name in names]
    alice.swift.put_container("names")
    for name in names:
        alice.swift.put_object("names", name, name.encode())
    assert [cloud.network.get_network(network.id).name for network in networks] == names
    assert [cloud.block_storage.get_volume(volume.id).name for volume in volumes] == names
    until(lambda: len(alice.swift.get_container("names")[1]) == len(names), what="the listing to follow")
    assert {entry["name"] for entry in alice.swift.get_container("names")[1]} == set(names)
    for name in names:
        assert alice.swift.get_object("names", name)[1].decode() == name
    for network in networks:
        cloud.network.delete_network(network)
    for volume in volumes:
        cloud.block_storage.wait_for_status(volume, "available", interval=0.2, wait=WAIT_S)
        cloud.block_storage.delete_volume(volume)


def test_the_openstack_command_works(admin, alice):
    def openstack(*words: str) -> Any:
        done = subprocess.run(
            [COMMANDS / "openstack", *words, "-f", "json"], env=alice.environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    assert openstack("token", "issue")["project_id"] == alice.project_id
    server = openstack(
        "server", "create", "--flavor", "cpu-su.1", "--image", "box-x86_64", "--no-network", "--wait", "from-a-shell"
    )
    assert server["status"] == "ACTIVE"
    assert [row["Name"] for row in openstack("server", "list")] == ["from-a-shell"]
    assert {"standard", "archive"} <= {policy["name"] for policy in alice.swift.get_capabilities()["swift"]["policies"]}
    gone(alice.cloud, alice.cloud.compute.get_server(server["id"]))
    until(lambda: not left_of(admin, alice.project_id), what="nothing to be left")
