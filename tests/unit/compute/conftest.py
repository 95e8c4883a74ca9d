"""Environments to test, with the real thing behind each: processes of this machine, containers of a Podman of our own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.podman import IMAGE, TOOLS, PodmanDoesNotWork, PodmanService

from pfmoc.compute.base import INCOMING, OUTGOING, Compute, Limits, Run
from pfmoc.compute.podman import PodmanCompute
from pfmoc.compute.process import ProcessCompute
from pfmoc.settings import Settings, load


@dataclass(kw_only=True)
class Lab:
    """An environment, and directories for its runs.

    :param open: a daemon's hold on the environment; to be opened again and again, as daemons come and go
    """

    storebase: Path
    open: Callable[[], AbstractAsyncContextManager[Compute]]

    @property
    def incoming(self) -> Path:
        return self.storebase / "in"

    @property
    def outgoing(self) -> Path:
        return self.storebase / "out"

    def run(self, script: str = "true", *, name: str = "job", **changes: object) -> Run:
        """A run of a shell script, to which $1 is the input directory and $2 the output directory."""
        run: dict[str, object] = {
            "name": name,
            "jid": name,
            "image": IMAGE,
            "argv": ["sh", "-c", script, "sh", INCOMING, OUTGOING],
            "incoming": self.incoming,
            "outgoing": self.outgoing,
            "limits": Limits(cpu_millicores=1000, memory_mib=64),
        }
        return Run(**(run | changes))  # type: ignore[arg-type]  # the dictionary has the types of the fields


def settings_for(storebase: Path, **environ: str) -> Settings:
    """Settings of a daemon whose whole world is below ``storebase``."""
    return load(
        {
            "APPLICATION_MODE": "development",
            "STOREBASE_MOUNT": str(storebase),
            "PFMOC_STATE_DIR": str(storebase / "state"),
            "PFMOC_ENGINE_DEADLINE_S": "20",
            **environ,
        }
    )


def make_directories(storebase: Path) -> Path:
    for name in ("in", "out", "state"):
        (storebase / name).mkdir()
    return storebase


def install_tools(images: Path, tools: Sequence[str] = TOOLS) -> None:
    """Make the process environment's image of the same tools that the container image has."""
    programs = images / "localhost/test/tools/1/bin"
    programs.mkdir(parents=True)
    for tool in tools:
        found = shutil.which(tool)
        assert found is not None
        (programs / tool).symlink_to(found)


@pytest.fixture
def process_settings(tmp_path: Path) -> Settings:
    make_directories(tmp_path)
    install_tools(tmp_path / "images")
    return settings_for(tmp_path, CONTAINER_ENV="process", PFMOC_PROCESS_IMAGES=str(tmp_path / "images"))


@pytest.fixture
async def process_lab(process_settings: Settings, tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(storebase=tmp_path, open=lambda: ProcessCompute(process_settings))
    yield lab
    await _remove_all(lab)


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
async def podman_lab(podman_settings: Settings, tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(storebase=tmp_path, open=lambda: PodmanCompute(podman_settings))
    yield lab
    await _remove_all(lab)


@pytest.fixture(params=["process", "podman"])
def lab(request: pytest.FixtureRequest) -> Lab:
    """Each environment in turn."""
    chosen: Lab = request.getfixturevalue(f"{request.param}_lab")
    return chosen


@pytest.fixture
async def compute(lab: Lab) -> AsyncIterator[Compute]:
    async with lab.open() as compute:
        yield compute


async def _remove_all(lab: Lab) -> None:
    async with lab.open() as compute:
        for seen in await compute.runs():
            await compute.remove(seen.name)
