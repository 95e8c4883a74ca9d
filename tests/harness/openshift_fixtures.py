"""The users of the box's OpenShift and its router, as fixtures; a test module names this module in ``pytest_plugins``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.box import Box
from harness.openshift import Router, User


@pytest.fixture(scope="session")
def admin(box: Box) -> Iterator[User]:
    """The cluster's administrator."""
    yield from _user(box.kubeconfig)


@pytest.fixture(scope="session")
def alice(box: Box) -> Iterator[User]:
    """An ordinary user of the cluster."""
    yield from _user(box.kubeconfig.parent / "users" / "alice.kubeconfig")


@pytest.fixture(scope="session")
def bob(box: Box) -> Iterator[User]:
    """Another ordinary user."""
    yield from _user(box.kubeconfig.parent / "users" / "bob.kubeconfig")


@pytest.fixture(scope="session")
def router(box: Box) -> Router:
    """The router's ports."""
    return Router.of(box.kubeconfig, box.port(11), box.port(12))


def _user(kubeconfig: Path) -> Iterator[User]:
    user = User(kubeconfig)
    yield user
    user.close()
