"""Which GPU works where."""

from __future__ import annotations

import pytest

from infra.spec import gpus

V100, POWER_V100 = "Tesla-V100-PCIE-32GB", "Tesla-V100-SXM2-32GB"
A100, H100, B200 = "NVIDIA-A100-SXM4-40GB", "NVIDIA-H100-80GB-HBM3", "NVIDIA-B200"


@pytest.mark.parametrize(
    ("arch", "product", "driver", "newest"),
    [
        ("amd64", V100, "580.65.06", (12, 9)),
        ("amd64", V100, "535", (12, 2)),
        ("ppc64le", POWER_V100, "550", (12, 4)),
        ("ppc64le", POWER_V100, "470", (11, 4)),
        ("amd64", A100, "580", (13, 0)),
        ("amd64", H100, "550", (12, 4)),
        ("amd64", B200, "570", (12, 8)),
        ("amd64", A100, "999", (13, 2)),
    ],
)
def test_the_newest_cuda(arch, product, driver, newest):
    assert gpus.judge(arch, product, driver) == gpus.Verdict(problems=(), cuda=newest)


@pytest.mark.parametrize(
    ("arch", "product", "driver", "cuda", "field", "cause"),
    [
        ("amd64", V100, "590", None, "driver", "the driver R590 has dropped Volta"),
        ("ppc64le", POWER_V100, "560", None, "driver", "the driver R560 has dropped ppc64le"),
        ("amd64", H100, "515", None, "driver", "the driver R515 does not know Hopper GPUs"),
        ("amd64", B200, "550", None, "driver", "the driver R550 does not know Blackwell GPUs"),
        ("ppc64le", A100, "550", None, "product", "no ppc64le machine has Ampere GPUs such as NVIDIA-A100-SXM4-40GB"),
        ("ppc64le", POWER_V100, None, "12.5", "cuda", "12.5 is promised, and CUDA for ppc64le ends at 12.4"),
        ("amd64", V100, None, "13.0", "cuda", "13.0 is promised, and CUDA for Volta ends at 12.9"),
        ("amd64", A100, "535", "12.4", "cuda", "12.4 is promised, and the driver R535 ends at 12.2"),
        ("amd64", H100, None, "11.4", "cuda", "Hopper GPUs need CUDA 11.8"),
    ],
)
def test_what_cannot_be(arch, product, driver, cuda, field, cause):
    verdict = gpus.judge(arch, product, driver, cuda)
    assert [(where, why) for where, why, _ in verdict.problems] == [(field, cause)]
    assert verdict.cuda is None


def test_products_are_different_names_to_kueue():
    assert len({name.lower() for name in gpus.PRODUCTS}) == len(gpus.PRODUCTS)
