"""The environment whose runs are processes of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.lab import Lab, install_tools, make_directories, settings_for

from pfmoc.compute.base import Compute
from pfmoc.compute.process import ProcessCompute
from pfmoc.settings import Settings

pytest.register_assert_rewrite("harness.conformance")


@pytest.fixture
def process_settings(tmp_path: Path) -> Settings:
    make_directories(tmp_path)
    install_tools(tmp_path / "images")
    return settings_for(tmp_path, CONTAINER_ENV="process", PFMOC_PROCESS_IMAGES=str(tmp_path / "images"))


@pytest.fixture
async def lab(process_settings: Settings, tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(storebase=tmp_path, open=lambda: ProcessCompute(process_settings))
    yield lab
    await lab.clear()


@pytest.fixture
async def compute(lab: Lab) -> AsyncIterator[Compute]:
    async with lab.open() as compute:
        yield compute
