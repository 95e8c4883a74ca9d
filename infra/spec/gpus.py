"""Which GPU works in which machine, with which driver, up to which CUDA.

Sources, all of NVIDIA unless said otherwise:

- *CUDA Toolkit, Driver, and Architecture Matrix* (docs.nvidia.com/datacenter/tesla/drivers): the first and last CUDA and the
  last driver branch of each architecture. Volta and Pascal end with CUDA 12.x and R580; Hopper starts at 11.8, Blackwell at 12.8.
- *CUDA 12.9 Release Notes*: 12.9 is the last 12.x; "offline compilation and library support" for Maxwell, Pascal and Volta is
  gone in the next major release, 13.0.
- *CUDA 12.4 Update 1* and *12.5 Update 1 Release Notes*, Component Versions: POWER is listed up to 12.4 and gone in 12.5.
  Container images agree: "Delete ppc64le arch for cuda 12.5 and above" (gitlab.com/nvidia/container-images/cuda, aa9b59ee,
  2024-03-26). The driver that came with 12.4 is of branch R550.
- *CUDA Release Notes*, CUDA Toolkit and Corresponding Driver Versions: the newest CUDA of each driver branch.
- POWER9 machines with GPUs are IBM's AC922 (V100 SXM2; Redpaper REDP-5494) and IC922 (T4, V100), before them the S822LC (P100):
  no later GPU was sold or supported in a ppc64le machine.
- Names are as GPU Feature Discovery writes them into `nvidia.com/gpu.product`; A100-SXM4-40GB, H100-80GB-HBM3 and V100-PCIE-32GB
  are NERC's (nerc-docs, Introduction to GPUs on NERC OpenShift).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["amd64", "ppc64le"]
Version = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A GPU architecture.

    :param first_cuda: the first CUDA that knows it
    :param first_driver: the first driver branch that knows it
    :param last_cuda: the last CUDA that builds for it; None while it goes on
    :param last_driver: the last driver branch that knows it; None while it goes on
    :param machines: where it can be
    """

    name: str
    first_cuda: Version
    first_driver: int
    last_cuda: Version | None = None
    last_driver: int | None = None
    machines: tuple[Architecture, ...] = ("amd64",)


_BOTH: tuple[Architecture, ...] = ("amd64", "ppc64le")
PASCAL = Family(name="Pascal", first_cuda=(8, 0), first_driver=375, last_cuda=(12, 9), last_driver=580, machines=_BOTH)
VOLTA = Family(name="Volta", first_cuda=(9, 0), first_driver=384, last_cuda=(12, 9), last_driver=580, machines=_BOTH)
TURING = Family(name="Turing", first_cuda=(10, 0), first_driver=410, machines=_BOTH)
AMPERE = Family(name="Ampere", first_cuda=(11, 0), first_driver=450)
ADA = Family(name="Ada", first_cuda=(11, 8), first_driver=520)
HOPPER = Family(name="Hopper", first_cuda=(11, 8), first_driver=520)
BLACKWELL = Family(name="Blackwell", first_cuda=(12, 8), first_driver=570)

PRODUCTS: dict[str, Family] = {
    "Tesla-P100-PCIE-16GB": PASCAL,
    "Tesla-P100-SXM2-16GB": PASCAL,
    "Tesla-V100-PCIE-16GB": VOLTA,
    "Tesla-V100-PCIE-32GB": VOLTA,
    "Tesla-V100-SXM2-16GB": VOLTA,
    "Tesla-V100-SXM2-32GB": VOLTA,
    "Tesla-V100-SXM3-32GB": VOLTA,
    "Tesla-T4": TURING,
    "NVIDIA-A10": AMPERE,
    "NVIDIA-A30": AMPERE,
    "NVIDIA-A40": AMPERE,
    "NVIDIA-A100-PCIE-40GB": AMPERE,
    "NVIDIA-A100-80GB-PCIe": AMPERE,
    "NVIDIA-A100-SXM4-40GB": AMPERE,
    "NVIDIA-A100-SXM4-80GB": AMPERE,
    "NVIDIA-L4": ADA,
    "NVIDIA-L40": ADA,
    "NVIDIA-L40S": ADA,
    "NVIDIA-H100-80GB-HBM3": HOPPER,
    "NVIDIA-H100-NVL": HOPPER,
    "NVIDIA-H100-PCIe": HOPPER,
    "NVIDIA-H200": HOPPER,
    "NVIDIA-H200-NVL": HOPPER,
    "NVIDIA-B200": BLACKWELL,
}
"""What `nvidia.com/gpu.product` may say."""

DRIVERS: dict[int, Version] = {
    418: (10, 1),
    450: (11, 0),
    460: (11, 2),
    470: (11, 4),
    510: (11, 6),
    515: (11, 7),
    520: (11, 8),
    525: (12, 0),
    530: (12, 1),
    535: (12, 2),
    545: (12, 3),
    550: (12, 4),
    555: (12, 5),
    560: (12, 6),
    565: (12, 7),
    570: (12, 8),
    575: (12, 9),
    580: (13, 0),
    590: (13, 1),
    595: (13, 2),
}
"""The newest CUDA of each driver branch. A newer branch is taken to know at least what the last of these knows."""

NEWEST_CUDA: dict[str, Version | None] = {"amd64": None, "ppc64le": (12, 4)}
"""Where CUDA ended for a kind of machine; None while it goes on."""
NEWEST_DRIVER: dict[str, int | None] = {"amd64": None, "ppc64le": 550}
"""Where drivers ended for a kind of machine; None while they go on."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a pool's GPUs can work.

    :param problems: (field, cause, fix) of what speaks against it
    :param cuda: the newest CUDA that works there; None when the driver is not known, or something speaks against it
    """

    problems: tuple[tuple[str, str, str], ...]
    cuda: Version | None


def branch(driver: str) -> int:
    """The branch of a driver's version: 580 of ``580.65.06``."""
    return int(driver.partition(".")[0])


def judge(arch: str, product: str, driver: str | None, cuda: str | None = None) -> Verdict:
    """Say whether machines of an architecture can use a GPU with a driver, and up to which CUDA.

    :param driver: the driver's version or its branch; None: the operator's choice is not known
    :param cuda: what images are promised, ``12.4``; None: whatever works
    """
    family = PRODUCTS.get(product)
    if family is None:
        names = ", ".join(sorted(PRODUCTS))
        return Verdict(
            problems=(("product", f"'{product}' is no GPU that this table knows", f"write one of: {names}"),), cuda=None
        )
    problems = []
    if arch not in family.machines:
        others = ", ".join(sorted(name for name, other in PRODUCTS.items() if arch in other.machines))
        problems.append(("product", f"no {arch} machine has {family.name} GPUs such as {product}", f"{arch} may have: {others}"))
    ceilings = [(family.last_cuda, f"CUDA for {family.name}"), (NEWEST_CUDA[arch], f"CUDA for {arch}")]
    if driver is not None:
        number = branch(driver)
        problems += _driver(arch, family, number)
        known = [newest for known, newest in sorted(DRIVERS.items()) if known <= number]
        ceilings.append((known[-1] if known else None, f"the driver R{number}"))
    limits = [(version, what) for version, what in ceilings if version is not None]
    newest = min(limits, default=(None, ""))
    if cuda is not None:
        wanted = parse(cuda)
        if newest[0] is not None and wanted > newest[0]:
            problems.append(
                ("cuda", f"{cuda} is promised, and {newest[1]} ends at {text(newest[0])}", f"write {text(newest[0])} or less")
            )
        elif wanted < family.first_cuda:
            problems.append(
                ("cuda", f"{family.name} GPUs need CUDA {text(family.first_cuda)}", f"write {text(family.first_cuda)} or more")
            )
    return Verdict(problems=tuple(problems), cuda=None if problems or driver is None else newest[0])


def _driver(arch: str, family: Family, number: int) -> list[tuple[str, str, str]]:
    lasts = [(last, why) for last, why in ((family.last_driver, family.name), (NEWEST_DRIVER[arch], arch)) if last is not None]
    last, why = min(lasts, default=(None, ""))
    if number < family.first_driver:
        return [("driver", f"the driver R{number} does not know {family.name} GPUs", f"use R{family.first_driver} or later")]
    if last is not None and number > last:
        return [("driver", f"the driver R{number} has dropped {why}", f"use R{last}, the last one that supports it, or earlier")]
    return []


def parse(cuda: str) -> Version:
    """Read ``12.4``."""
    major, _, minor = cuda.partition(".")
    return int(major), int(minor or 0)


def text(cuda: Version) -> str:
    """Write ``12.4``."""
    return f"{cuda[0]}.{cuda[1]}"
