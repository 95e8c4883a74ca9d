"""The environment whose runs are containers, of a Podman of our own. Skips where podman runs none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.lab import Lab, make_directories, settings_for
from harness.podman import PodmanDoesNotWork, PodmanService

from pfmoc.compute.base import Compute
from pfmoc.compute.podman import PodmanCompute
from pfmoc.settings import Settings

pytest.register_assert_rewrite("harness.conformance")


@pytest.fixture(scope="session")
def podman_service() -> Iterator[PodmanService]:
    try:
        service = PodmanService()
    except PodmanDoesNotWork as reason:
        pytest.skip(str(reason))
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture
def podman_settings(podman_service: PodmanService, tmp_path: Path) -> Settings:
    make_directories(tmp_path)
    return settings_for(
        tmp_path,
        CONTAINER_ENV="podman",
        COMPUTE_VOLUME_TYPE="host",
        STOREBASE=str(tmp_path),
        DOCKER_HOST=podman_service.url,
    )


@pytest.fixture
async def lab(podman_settings: Settings, tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(storebase=tmp_path, open=lambda: PodmanCompute(podman_settings))
    yield lab
    await lab.clear()


@pytest.fixture
async def compute(lab: Lab) -> AsyncIterator[Compute]:
    async with lab.open() as compute:
        yield compute
