"""Neutron's database."""

from __future__ import annotations

import sys
import uuid

from neutron.common import config
from neutron.db.migration import cli
from neutron.db.migration.models import head
from neutron.db.models.securitygroup_default_rules import SecurityGroupDefaultRule
from neutron_lib import context
from neutron_lib.db import api

from box_openstack.cloud import Cloud


def seed(cloud: Cloud) -> None:
    """Make the schema from the models and mark it as the newest: Neutron's migrations alter constraints, which SQLite cannot."""
    conf = ["--config-file", str(cloud.conf / "neutron.conf")]
    config.register_common_config_options()
    config.init(conf)
    head.get_metadata().create_all(api.CONTEXT_WRITER.get_engine())
    _add_default_rules()
    sys.argv = ["neutron-db-manage", *conf, "stamp", "heads"]
    cli.main()


def _add_default_rules() -> None:
    """The rules of a new security group, rows that a migration would have added."""
    admin = context.get_admin_context()
    with api.CONTEXT_WRITER.using(admin):
        for direction in ("egress", "ingress"):
            for ethertype in ("IPv4", "IPv6"):
                rule = SecurityGroupDefaultRule(
                    id=str(uuid.uuid4()),
                    direction=direction,
                    ethertype=ethertype,
                    used_in_default_sg=True,
                    used_in_non_default_sg=direction == "egress",
                    remote_group_id="PARENT" if direction == "ingress" else None,
                    description=f"Legacy default SG rule for {direction} traffic",
                )
                admin.session.add(rule)
