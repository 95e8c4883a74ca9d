"""Tenants of the box's OpenStack: a project with a user of its own, and connections of both sides."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from openstack.config import OpenStackConfig
from openstack.connection import Connection
from swiftclient.client import Connection as SwiftConnection

from harness.box import Box

REGION = "RegionOne"
ROLES = ("member", "swiftoperator")

# openstacksdk 4.22 calls what it has deprecated itself. Ours would be found by the module that calls.
sdk_warnings = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:openstack", "ignore::DeprecationWarning:openstack")


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A project and its user.

    :param cloud: a connection as the user
    :param swift: the object store as the user
    :param environment: variables by which the commands `openstack` and `swift` are the user
    """

    name: str
    password: str
    project_id: str
    user_id: str
    cloud: Any
    swift: SwiftConnection
    environment: dict[str, str]

    @property
    def account(self) -> str:
        """URL of its Swift account."""
        return str(self.swift.url)

    @property
    def token(self) -> str:
        return str(self.swift.token)


@contextmanager
def connected(box: Box, **credentials: Any) -> Iterator[Any]:
    """A connection with the credentials given, whatever this process has in its environment."""
    auth = {"auth_url": f"http://127.0.0.1:{box.port(0)}/v3"} | credentials.pop("auth")
    loader = OpenStackConfig(load_yaml_config=False, load_envvars=False)
    with Connection(config=loader.get_one(auth=auth, region_name=REGION, **credentials)) as connection:
        yield connection


@contextmanager
def administrator(box: Box) -> Iterator[Any]:
    loader = OpenStackConfig(config_files=[str(box.clouds_yaml)], vendor_files=[], load_envvars=False)
    with Connection(config=loader.get_one(cloud="box")) as connection:
        yield connection


@contextmanager
def tenant(box: Box, admin: Any, purpose: str) -> Iterator[Tenant]:
    """A tenant whose project and user are gone afterwards, with its objects; what else it made it deletes itself."""
    name, password = f"{purpose}-{secrets.token_hex(3)}", secrets.token_urlsafe(12)
    with ExitStack() as stack:
        project = admin.identity.create_project(name=name, domain_id="default")
        stack.callback(admin.identity.delete_project, project)
        user = admin.identity.create_user(name=name, password=password, domain_id="default", default_project_id=project.id)
        stack.callback(admin.identity.delete_user, user)
        for role in ROLES:
            admin.identity.assign_project_role_to_user(project, user, admin.identity.find_role(role))
        auth = {"username": name, "password": password, "project_name": name}
        auth |= {"user_domain_id": "default", "project_domain_id": "default"}
        cloud = stack.enter_context(connected(box, auth=auth))
        account = f"http://127.0.0.1:{box.port(6)}/v1/AUTH_{project.id}"
        swift = SwiftConnection(preauthurl=account, preauthtoken=cloud.auth_token, retries=0)
        stack.callback(swift.close)
        yield Tenant(
            name=name,
            password=password,
            project_id=project.id,
            user_id=user.id,
            cloud=cloud,
            swift=swift,
            environment={f"OS_{key.upper()}": value for key, value in auth.items()}
            | {"OS_AUTH_URL": f"http://127.0.0.1:{box.port(0)}/v3", "OS_REGION_NAME": REGION, "OS_IDENTITY_API_VERSION": "3"},
        )
        # As an operator removes an account: the reaper takes what is in it.
        admin.session.delete(account, raise_exc=False)
