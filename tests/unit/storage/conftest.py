"""Storage on a directory of its own, and archives to feed it with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from harness.zips import zip_file
from storage_kit import MakeSettings, MakeZip

from pfmoc.settings import Settings
from pfmoc.storage.handover import Handover
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.workers import Stop
from pfmoc.storage.zip_in import Limits
from pfmoc.storage.zipfile import ZipfileStorage


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "storeBase"
    path.mkdir()
    return path


@pytest.fixture
def settings(tmp_path: Path, base: Path) -> MakeSettings:
    def make(**changes: object) -> Settings:
        plain: dict[str, object] = {
            "application_mode": "test",
            "storebase_mount": base,
            "state_dir": tmp_path / "state",
            "container_env": "process",
        }
        return Settings.model_validate(plain | changes)

    return make


@pytest.fixture
def zip_storage(base: Path) -> ZipfileStorage:
    return ZipfileStorage(
        storebase=StoreBase(base),
        handover=Handover(same_user=True),
        limits=Limits(entries=1000, size=1 << 30, ratio=200),
    )


@pytest.fixture
def make_zip(tmp_path: Path) -> MakeZip:
    def make(files: Mapping[str, bytes]) -> Path:
        return zip_file(tmp_path / "upload.zip", files)

    return make
