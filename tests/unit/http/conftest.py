import pytest
from harness.daemon import running
from harness.http import client


@pytest.fixture
async def daemon(tmp_path):
    async with running(tmp_path, PFMOC_BODY_IDLE_S="0.5") as daemon:
        yield daemon


@pytest.fixture
async def api(daemon):
    async with client(daemon.url) as api:
        yield api


@pytest.fixture
def storebase(tmp_path):
    return tmp_path / "storeBase"
