"""Glance's database."""

from __future__ import annotations

import sys

from glance.cmd import manage

from box_openstack.cloud import Cloud


def seed(cloud: Cloud) -> None:
    """Make it, as ``glance-manage db sync`` does."""
    sys.argv = ["glance-manage", "--config-file", str(cloud.conf / "glance-api.conf"), "db", "sync"]
    manage.main()
