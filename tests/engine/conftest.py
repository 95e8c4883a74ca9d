"""The environment whose runs are containers, of a Podman of our own. Skips where podman runs none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.lab import Environment, make_directories, settings_for
from harness.lab_fixtures import compute, lab
from harness.podman import PodmanDoesNotWork, PodmanService

from pfmoc.compute.podman import PodmanCompute
from pfmoc.settings import Settings

pytest.register_assert_rewrite("harness.conformance")

__all__ = ["compute", "lab"]


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
def environment(podman_settings: Settings) -> Environment:
    return lambda: PodmanCompute(podman_settings)
