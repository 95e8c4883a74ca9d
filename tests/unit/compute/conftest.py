"""The environment whose runs are processes of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.lab import Environment, install_tools, make_directories, settings_for
from harness.lab_fixtures import compute, lab

from pfmoc.compute.process import ProcessCompute
from pfmoc.settings import Settings

pytest.register_assert_rewrite("harness.conformance")

__all__ = ["compute", "lab"]


@pytest.fixture
def process_settings(tmp_path: Path) -> Settings:
    make_directories(tmp_path)
    install_tools(tmp_path / "images")
    return settings_for(tmp_path, CONTAINER_ENV="process", PFMOC_PROCESS_IMAGES=str(tmp_path / "images"))


@pytest.fixture
def environment(process_settings: Settings) -> Environment:
    return lambda: ProcessCompute(process_settings)
