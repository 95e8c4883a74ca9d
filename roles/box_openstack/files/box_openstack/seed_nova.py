"""Nova's databases: the API's, and those of the two cells that there must be."""

from __future__ import annotations

import uuid

from nova import config, context, objects
from nova.db import migration

from box_openstack.cloud import Cloud


def seed(cloud: Cloud) -> None:
    """Make them. The mappings lead into this directory until ``catalogue`` leads them into the cloud's."""
    config.parse_args(["nova-manage", "--config-file", str(cloud.conf / "nova.conf")])
    objects.register_all()
    admin = context.RequestContext()
    migration.db_sync(database="api")
    cells = (
        (objects.CellMapping.CELL0_UUID, "cell0", "none:///"),
        (str(uuid.uuid4()), "cell1", "fake:///"),
    )
    for identity, name, transport in cells:
        database = cloud.database(f"nova_{name}")
        objects.CellMapping(admin, uuid=identity, name=name, transport_url=transport, database_connection=database).create()
    for cell in objects.CellMappingList.get_all(admin):
        with context.target_cell(admin, cell) as inside:
            migration.db_sync(context=inside)
