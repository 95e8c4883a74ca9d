"""What the cloud holds before anyone uses it: roles, images, flavors, the external network. Made through its own APIs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openstack

from box_openstack.cloud import Cloud
from box_openstack.disk_image import content

# By which flavors are listed together with their extra specs.
NOVA_MICROVERSION = "2.61"


def fill(cloud: Cloud, contents: dict[str, Any]) -> list[str]:
    """Make what is missing, and mend what differs. What is there beside it belongs to somebody else, and stays.

    :param contents: ``roles`` (list of names), ``administrator_roles`` (those that the administrator gets in its project),
        ``images`` (``name``, ``architecture``, ``disk_format``), ``flavors`` (``name``, ``vcpus``, ``ram_mb``, ``disk_gb``,
        ``extra_specs``), ``external_network`` (``name``, ``physical_network``, ``cidr``, ``gateway``, ``first``, ``last``);
        those of services that the cloud does not have are passed over
    :return: what was made or changed
    """
    parts = [("keystone", _roles), ("glance", _images), ("nova", _flavors), ("neutron", _external_network)]
    loader = openstack.config.OpenStackConfig(config_files=[str(cloud.clouds_yaml)], vendor_files=[], load_envvars=False)
    with openstack.connection.Connection(config=loader.get_one(cloud=cloud.name)) as connection:
        return [change for service, part in parts if service in cloud.services for change in part(connection, contents)]


# The SDK's types hold for all versions of an API at once, which its calls do not: hence Any.
def _roles(connection: Any, contents: dict[str, Any]) -> Iterator[str]:
    identity = connection.identity
    known = {role.name: role for role in identity.roles()}
    for name in contents["roles"]:
        if name not in known:
            known[name] = identity.create_role(name=name)
            yield f"the role {name}"
    user, project = connection.current_user_id, connection.current_project_id
    held = {assignment.role["id"] for assignment in identity.role_assignments(user_id=user, scope_project_id=project)}
    for name in contents["administrator_roles"]:
        if known[name].id not in held:
            identity.assign_project_role_to_user(project, user, known[name])
            yield f"the administrator's role {name}"


def _images(connection: Any, contents: dict[str, Any]) -> Iterator[str]:
    known = {image.name: image for image in connection.image.images()}
    for wanted in contents["images"]:
        image = known.get(wanted["name"])
        if image is not None and image.status != "active":
            # A run before this one ended between making it and giving it a content.
            connection.image.delete_image(image)
            image = None
        if image is None:
            connection.image.create_image(
                name=wanted["name"],
                data=content(wanted["disk_format"]),
                disk_format=wanted["disk_format"],
                container_format="bare",
                visibility="public",
                architecture=wanted["architecture"],
            )
            yield f"the image {wanted['name']}"
        elif image.architecture != wanted["architecture"]:
            connection.image.update_image(image, architecture=wanted["architecture"])
            yield f"the architecture of the image {wanted['name']}"


def _flavors(connection: Any, contents: dict[str, Any]) -> Iterator[str]:
    compute = connection.compute
    compute.default_microversion = NOVA_MICROVERSION
    known = {flavor.name: flavor for flavor in compute.flavors(is_public=None)}
    for wanted in contents["flavors"]:
        flavor = known.get(wanted["name"])
        size = (wanted["vcpus"], wanted["ram_mb"], wanted["disk_gb"])
        if flavor is not None and (flavor.vcpus, flavor.ram, flavor.disk) != size:
            # A size cannot be changed. Servers keep a copy of the flavor that they were made with.
            compute.delete_flavor(flavor)
            flavor = None
        if flavor is None:
            flavor = compute.create_flavor(name=wanted["name"], vcpus=size[0], ram=size[1], disk=size[2])
            yield f"the flavor {wanted['name']}"
        specs, has = wanted.get("extra_specs", {}), flavor.extra_specs or {}
        if specs != has:
            for name in has.keys() - specs.keys():
                compute.delete_flavor_extra_specs_property(flavor, name)
            compute.create_flavor_extra_specs(flavor, specs)
            yield f"the extra specs of the flavor {wanted['name']}"


def _external_network(connection: Any, contents: dict[str, Any]) -> Iterator[str]:
    wanted = contents["external_network"]
    network = connection.network.find_network(wanted["name"])
    if network is None:
        network = connection.network.create_network(
            name=wanted["name"],
            is_router_external=True,
            provider_network_type="flat",
            provider_physical_network=wanted["physical_network"],
        )
        yield f"the network {wanted['name']}"
    if not network.subnet_ids:
        connection.network.create_subnet(
            name=wanted["name"],
            network_id=network.id,
            ip_version=4,
            cidr=wanted["cidr"],
            gateway_ip=wanted["gateway"],
            allocation_pools=[{"start": wanted["first"], "end": wanted["last"]}],
            # Floating addresses are given to routers, never by DHCP.
            is_dhcp_enabled=False,
        )
        yield f"the subnet {wanted['cidr']} of {wanted['name']}"
