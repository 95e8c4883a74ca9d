"""Swift's rings: one device, one replica, for accounts, containers, and the objects of each storage policy."""

from __future__ import annotations

import json

from box_openstack.cloud import Cloud
from box_openstack.files import write

# 2 to this power partitions; no more than one disk needs.
PART_POWER = 6


def ensure(cloud: Cloud) -> list[str]:
    """Build the rings that are missing or lead to other ports.

    :return: the rings built
    """
    directory = cloud.conf / "swift"
    wanted = {"account": cloud.port("swift-account"), "container": cloud.port("swift-container")}
    for index, _ in enumerate(cloud.storage_policies):
        wanted[f"object-{index}" if index else "object"] = cloud.port("swift-object")
    plan = json.dumps({"host": cloud.host, "rings": wanted}, indent=2) + "\n"
    if (directory / "rings.json").exists() and (directory / "rings.json").read_text() == plan:
        return []
    # Swift is imported only where it is needed: it takes a second.
    from swift.common.ring import RingBuilder  # noqa: PLC0415

    for name, port in wanted.items():
        builder = RingBuilder(PART_POWER, replicas=1, min_part_hours=0)
        address = {"ip": cloud.host, "port": port, "replication_ip": cloud.host, "replication_port": port}
        builder.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 100, "meta": "", **address})
        # The seed makes the same partitions of each building, and with one device all of them stay where they are.
        builder.rebalance(seed=1)
        builder.get_ring().save(str(directory / f"{name}.ring.gz"))
    write(directory / "rings.json", plan, mode=0o644)
    return [f"the ring {name}" for name in wanted]
