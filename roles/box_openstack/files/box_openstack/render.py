"""The configuration of the services, rendered from the templates beside this file."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

import jinja2

from box_openstack.cloud import Cloud
from box_openstack.files import write
from box_openstack.gpu import GPUS

# Nova's, Neutron's and Cinder's name of the one machine. Databases refer to it: another name would be another machine.
NODE = "box"
# s3api reports it, and clients of S3 sign with it.
S3_LOCATION = "us-east-1"
TEMPLATES = Path(__file__).parent / "conf"
OF_SERVICE = {
    "keystone": ["keystone.conf"],
    "placement": ["placement.conf"],
    "glance": ["glance-api.conf"],
    "neutron": ["neutron.conf"],
    "nova": ["nova.conf"],
    "cinder": ["cinder.conf"],
    "swift": [
        "swift/swift.conf",
        "swift/proxy-server.conf",
        "swift/account-server.conf",
        "swift/container-server.conf",
        "swift/object-server.conf",
        "swift/object-expirer.conf",
    ],
}
DIRECTORIES = (
    "cache",
    "cinder/coordination",
    "glance/cache",
    "glance/images",
    "glance/staging",
    "glance/tasks",
    "locks",
    "neutron",
    "nova/instances",
    "swift/devices/d1",
    "swift/recon",
)


def render(cloud: Cloud, passwords: dict[str, str]) -> list[str]:
    """Write what differs, all of it readable by its owner only, as most of it holds a password.

    :return: the files written
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the products are no HTML
    )
    environment.globals.update(
        cloud=cloud,
        passwords=passwords,
        gpus=GPUS,
        node=NODE,
        prefix=sys.prefix,
        s3_location=S3_LOCATION,
        user=getpass.getuser(),
    )
    for directory in DIRECTORIES:
        (cloud.state / directory).mkdir(parents=True, exist_ok=True)
    targets = {cloud.conf / name: name for service in cloud.services for name in OF_SERVICE[service]}
    targets[cloud.clouds_yaml] = "clouds.yaml"
    written = []
    for target, name in targets.items():
        text = environment.get_template(f"{Path(name).name}.j2").render()
        if write(target, text, mode=0o600):
            written.append(str(target))
    return written
