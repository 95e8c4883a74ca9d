"""What holds for every test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# How long an example takes is no matter of right or wrong.
settings.register_profile("pfmoc", deadline=None)
settings.load_profile("pfmoc")

TOLD = "told"


class Groups(LoadScopeScheduling):
    """Has one worker run what must not run beside each other: the tests of a file, the scenarios of a role.

    ``--dist loadgroup`` would be the way, but pytest 9 keeps a node's id to itself, and xdist 3.8 writes the group into it.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        return name.rpartition("-")[0] if name.startswith("test_the_scenario[") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups | None:
    """Each worker has a box of its own, and so takes whole files (`make test`)."""
    return Groups(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say something that is printed at the end, whether the test passes or not: times, the seed of what is drawn."""
    return lambda text: record_property(TOLD, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests told. A worker's own output goes nowhere."""
    reports = [each for found in terminalreporter.stats.values() for each in found if isinstance(each, pytest.TestReport)]
    told = [(each, text) for each in reports if each.when == "call" for name, text in each.user_properties if name == TOLD]
    if told:
        terminalreporter.section("told by tests")
    for report, text in told:
        terminalreporter.write_line(f"{report.location[2]}: {text}")
