import pytest
from fakes.compute import FakeCompute
from harness.daemon import running
from harness.http import client


@pytest.fixture
def compute():
    return FakeCompute()


@pytest.fixture
def storebase(tmp_path):
    root = tmp_path / "storeBase"
    root.mkdir()
    return root


@pytest.fixture
def serve(tmp_path, compute, storebase):
    """Start a daemon over some storage with a compute environment that the test controls."""
    return lambda storage="zipfile", **overrides: running(tmp_path, compute=compute, STORAGE_ENV=storage, **overrides)


@pytest.fixture(params=["zipfile", "filesystem", "fslink"])
async def daemon(request, serve):
    async with serve(request.param) as daemon:
        yield daemon


@pytest.fixture
async def api(daemon):
    async with client(daemon.url) as api:
        yield api
