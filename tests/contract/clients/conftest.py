from contextlib import AbstractAsyncContextManager

import pytest
from harness.daemon import running, settings_for

from pfmoc.app import Daemon
from pfmoc.compute.registry import open_compute


@pytest.fixture
def real(tmp_path, storebase):
    """Start a daemon whose jobs are real processes."""

    def start(storage="zipfile", **overrides) -> AbstractAsyncContextManager[Daemon]:
        return running(tmp_path, compute=open_compute(settings_for(tmp_path)), STORAGE_ENV=storage, **overrides)

    return start
