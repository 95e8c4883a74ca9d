"""What to tell when the box is ready."""

from __future__ import annotations

from boxkit import status
from boxkit.layout import Layout
from boxkit.settings import settings

WAYS = {"openstack": "openstack server list, swift list", "kubernetes": "kubectl get pods --all-namespaces"}


def text(layout: Layout, seconds: float | None) -> str:
    """A few lines: how to use it, and where it is."""
    found = status.rows(layout)
    well = sum(row.health == status.HEALTHY for row in found)
    memory = sum(row.memory for row in found)
    took = "" if seconds is None else f" after {seconds:.1f} s"
    how = "; ".join(way for group, way in WAYS.items() if group in settings(layout).groups)
    lines = [
        f"The box is ready{took}: {well} of {len(found)} services healthy, {memory:.0f} MiB of memory.",
        f"  . {layout.root}/env.sh{' ' * 4}# then: {how}",
        *(f"  {row.service:<24} {row.endpoint}" for row in found if row.endpoint.startswith(("http", "tcp"))),
        "  make box-status, make box-logs S=NAME, make box-down, make box-clean",
    ]
    return "\n".join(lines)
