import pytest
from harness.daemon import running


@pytest.fixture
def serve(tmp_path, compute):
    """Start a daemon over some storage with the compute environment of the test."""
    return lambda storage="zipfile", **overrides: running(tmp_path, compute=compute, STORAGE_ENV=storage, **overrides)
