"""Fixtures of a lab, for whoever has the fixture ``environment``, which tells how to open the compute environment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.lab import Environment, Lab
from pfmoc.compute.base import Compute


@pytest.fixture
async def lab(environment: Environment, tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(storebase=tmp_path, open=environment)
    yield lab
    await lab.clear()


@pytest.fixture
async def compute(lab: Lab) -> AsyncIterator[Compute]:
    async with lab.open() as compute:
        yield compute
