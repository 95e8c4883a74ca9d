from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from fakes.compute import FakeCompute
from harness.zips import zip_file

from pfmoc.compute.base import Limits
from pfmoc.jobs.model import CopySpec, PluginSpec, PluginType
from pfmoc.jobs.service import Jobs
from pfmoc.settings import Settings, load
from pfmoc.storage.registry import open_storage

Opener = Callable[[], AbstractAsyncContextManager[Jobs]]


@pytest.fixture
def storebase(tmp_path: Path) -> Path:
    base = tmp_path / "storeBase"
    (base / "home/bob/in").mkdir(parents=True)
    (base / "home/bob/out").mkdir()
    (base / "home/bob/in/scan.dcm").write_bytes(b"DICM")
    return base


def settings_for(tmp_path: Path, **variables: str) -> Settings:
    return load(
        {
            "APPLICATION_MODE": "development",
            "CONTAINER_ENV": "process",
            "STOREBASE_MOUNT": str(tmp_path / "storeBase"),
            "PFMOC_STATE_DIR": str(tmp_path / "state"),
            **variables,
        }
    )


@pytest.fixture
def compute() -> FakeCompute:
    return FakeCompute()


def opener(settings: Settings, compute: FakeCompute) -> Opener:
    @asynccontextmanager
    async def open_jobs() -> AsyncIterator[Jobs]:
        async with compute, Jobs(settings=settings, storage=open_storage(settings), compute=compute) as jobs:
            yield jobs

    return open_jobs


@pytest.fixture
def open_zip_jobs(tmp_path: Path, storebase: Path, compute: FakeCompute) -> Opener:
    return opener(settings_for(tmp_path), compute)


@pytest.fixture
def open_link_jobs(tmp_path: Path, storebase: Path, compute: FakeCompute) -> Opener:
    return opener(settings_for(tmp_path, PFCON_INNETWORK="true", STORAGE_ENV="fslink"), compute)


@pytest.fixture
def make_jobs(tmp_path: Path, storebase: Path, compute: FakeCompute) -> Callable[..., AbstractAsyncContextManager[Jobs]]:
    return lambda **variables: opener(settings_for(tmp_path, **variables), compute)()


@pytest.fixture
async def zip_jobs(open_zip_jobs: Opener) -> AsyncIterator[Jobs]:
    async with open_zip_jobs() as jobs:
        yield jobs


@pytest.fixture
async def link_jobs(open_link_jobs: Opener) -> AsyncIterator[Jobs]:
    async with open_link_jobs() as jobs:
        yield jobs


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return zip_file(tmp_path / "upload.zip", {"a.txt": b"a", "d/b.txt": b"b"})


@pytest.fixture
def spec() -> PluginSpec:
    return PluginSpec(
        image="fnndsc/pl-simpledsapp",
        entrypoint=["simpledsapp"],
        args=["--prefix", "x"],
        type=PluginType.DS,
        limits=Limits(cpu_millicores=1000, memory_mib=200),
        auid="cube",
        env=["CHRIS_USER_TOKEN=hush"],
    )


@pytest.fixture
def copy_spec() -> CopySpec:
    return CopySpec(input_dirs=["home/bob/in"], output_dir="home/bob/out")
