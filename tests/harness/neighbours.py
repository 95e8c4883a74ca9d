"""Two tenants side by side on both clouds."""

from __future__ import annotations

from typing import Any

from harness.box import WORKER
from harness.operators import OPENSHIFT, OPENSTACK

# Each worker of xdist may have them, in a box of its own, and the settings of their stacks lie in one working tree.
NAME = f"box-neighbours-{WORKER}"
A, B = "f-a", "f-b"
POOL = "f-bpool"


def _tenant(name: str, user: str) -> dict[str, Any]:
    return {
        "name": name,
        "pi": f"{user}@example.org",
        "users": [{"name": user, "source": "local", "openshift_role": "edit"}],
        "openstack": {
            "quotas": {"compute": {"cores": 12}, "object_bytes": "2 GiB"},
            "application_credential": {"valid_days": 9},
        },
        "containers": [
            {"name": "data", "quota_bytes": "1 GiB", "quota_objects": 100, "tempurl": {}},
            {"name": "more", "quota_bytes": "1 GiB"},
        ],
        "openshift": {},
    }


SITE: dict[str, Any] = {
    "name": NAME,
    "clouds": {"openstack": OPENSTACK, "openshift": OPENSHIFT},
    "tenants": [_tenant(A, "f-ann"), _tenant(B, "f-bob")],
    "node_pools": [
        {
            "name": POOL,
            "source": "nova",
            "size": 1,
            "tenant": B,
            "image": "box-x86_64",
            "shape": {"vcpus": 1, "ram_mib": 512, "disk_gib": 1},
        }
    ],
    "daemon": {
        "tenant": A,
        "compute": "kubernetes",
        "storage": "swift",
        "container": "data",
        "image": "localhost/none:1",
        "job_limits": {"cpu_m": 1000, "memory_mib": 1024, "gpus": 0},
        "limits": {"cpu_m": 500, "memory_mib": 512},
    },
}
"""Each tenant has a user, a credential, containers, a network, a project; the first the daemon's rights, the second a server."""
