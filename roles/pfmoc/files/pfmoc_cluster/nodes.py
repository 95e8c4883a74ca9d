"""What nodes a cluster has for jobs."""

from __future__ import annotations

from .api import Api, Object

ARCH = "kubernetes.io/arch"
PRODUCT = "nvidia.com/gpu.product"
EMULATES = "box.chrisproject.org/emulates-"
SIMULATED = ("box.chrisproject.org/node", "simulated")


def nodes(api: Api) -> list[Object]:
    """Architecture and GPUs of each node that takes pods."""
    found = []
    for each in api.find_everywhere("v1", "nodes"):
        labels = each["metadata"].get("labels", {})
        if each.get("spec", {}).get("unschedulable"):
            continue
        found.append(
            {
                "name": each["metadata"]["name"],
                "arch": labels.get(ARCH, ""),
                "emulates": [name.removeprefix(EMULATES) for name in labels if name.startswith(EMULATES)],
                "product": labels.get(PRODUCT, ""),
                "simulated": labels.get(SIMULATED[0]) == SIMULATED[1],
            }
        )
    return found
