"""Keystone's database: schema, the administrator, the services' accounts.

Passwords and endpoints are each cloud's own, and set by ``catalogue``.
"""

from __future__ import annotations

import secrets
import uuid

import keystone.conf
from keystone.cmd import bootstrap
from keystone.common import provider_api, sql
from keystone.common.sql import upgrades

# Imported for what it registers.
from keystone.server import backends  # noqa: F401

from box_openstack.cloud import Cloud
from box_openstack.passwords import SERVICE_USERS


def seed(cloud: Cloud) -> None:
    """Make it."""
    keystone.conf.configure()
    sql.initialize()
    keystone.conf.CONF([], project="keystone", default_config_files=[str(cloud.conf / "keystone.conf")])
    upgrades.offline_sync_database_to_version()
    bootstrapper = bootstrap.Bootstrapper()
    bootstrapper.admin_username = bootstrapper.project_name = bootstrapper.admin_role_name = "admin"
    bootstrapper.admin_password = secrets.token_urlsafe(24)
    bootstrapper.service_name = "keystone"
    bootstrapper.region_id = cloud.region
    bootstrapper.bootstrap()
    _make_service_accounts()


def _make_service_accounts() -> None:
    """The project ``service`` with a user for each service."""
    api = provider_api.ProviderAPIs
    project = uuid.uuid4().hex
    api.resource_api.create_project(
        project,
        {
            "id": project,
            "name": "service",
            "domain_id": "default",
            "parent_id": "default",
            "is_domain": False,
            "enabled": True,
            "description": "",
        },
    )
    roles = {role["name"]: role["id"] for role in api.role_api.list_roles()}
    for name in SERVICE_USERS:
        account = {"name": name, "password": secrets.token_urlsafe(24), "domain_id": "default", "enabled": True}
        user = api.identity_api.create_user(account)
        for role in ("admin", "service"):
            api.assignment_api.add_role_to_user_and_project(user["id"], project, roles[role])
