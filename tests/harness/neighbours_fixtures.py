"""The two tenants, made once for all tests that need them; a test module names this module in ``pytest_plugins``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.box import Box
from harness.neighbours import SITE
from harness.operators import Operator, operating


@pytest.fixture(scope="session")
def neighbours(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator of both, whose site is up. Who changes it puts it back."""
    assert box.kubeconfig
    with operating(box, tmp_path_factory.mktemp("neighbours"), SITE) as made:
        yield made
