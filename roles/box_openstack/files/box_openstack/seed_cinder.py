"""Cinder's database."""

from __future__ import annotations

import sys

from cinder.cmd import manage

from box_openstack.cloud import Cloud


def seed(cloud: Cloud) -> None:
    """Make it, as ``cinder-manage db sync`` does."""
    sys.argv = ["cinder-manage", "--config-file", str(cloud.conf / "cinder.conf"), "db", "sync"]
    manage.main()
