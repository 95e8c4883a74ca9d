"""Placement's database."""

from __future__ import annotations

from oslo_config import cfg
from placement import conf, db_api, deploy
from placement.db.sqlalchemy import migration

from box_openstack.cloud import Cloud


def seed(cloud: Cloud) -> None:
    """Make it, with the standard traits and resource classes."""
    config = cfg.ConfigOpts()
    conf.register_opts(config)
    config([], project="placement", default_config_files=[str(cloud.conf / "placement.conf")])
    db_api.configure(config)
    migration.upgrade("head")
    deploy.update_database(config)
