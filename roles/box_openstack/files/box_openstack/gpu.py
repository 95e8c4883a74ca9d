"""The GPUs that the compute nodes pretend to have. Flavors ask for them by alias: ``pci_passthrough:alias=a100:1``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A kind of PCI device.

    :param alias: its name in flavors
    :param vendor: PCI vendor id
    :param product: PCI product id
    :param count: how many of them each node has, by the node's architecture
    """

    alias: str
    vendor: str
    product: str
    count: dict[str, int]


GPUS = (
    # In the POWER9 machines (AC922) too, and the only one that a ppc64le machine can have.
    Gpu(alias="v100", vendor="10de", product="1db5", count={"x86_64": 8, "ppc64le": 8}),
    Gpu(alias="a100", vendor="10de", product="20b2", count={"x86_64": 8}),
    Gpu(alias="h100", vendor="10de", product="2330", count={"x86_64": 8}),
)
