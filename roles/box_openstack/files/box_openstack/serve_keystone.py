"""Keystone's API."""

from __future__ import annotations

from keystone.wsgi.api import application

from box_openstack import wsgi
from box_openstack.cloud import Cloud


def serve(cloud: Cloud, _program: str) -> None:
    """Run it."""
    wsgi.serve(application, cloud, "keystone")
