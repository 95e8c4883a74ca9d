"""The box, made once for all tests, and left up: the next session finds it there. A second worker's goes with the worker."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from harness.box import Box, own_box
from harness.cluster import Cluster
from harness.store_proxy import StoreProxy, proxied


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    box = own_box()
    if box.is_extra:
        box.prepare()
    try:
        box.up()
        yield box
    finally:
        if box.is_extra:
            box.remove()


@pytest.fixture(scope="session")
def images(box: Box) -> None:
    """The box's cluster has the image of the daemon and the mover."""
    assert box.kubeconfig
    box.images()


@pytest.fixture(scope="session")
def root() -> None:
    if os.getuid():
        pytest.skip("namespaces and containers need root")


@pytest.fixture(scope="module")
def cluster(box: Box) -> Iterator[Cluster]:
    """The box's Kubernetes, as its administrator."""
    cluster = Cluster(box.kubeconfig)
    yield cluster
    cluster.close()


@pytest.fixture
async def proxy(box: Box) -> AsyncIterator[StoreProxy]:
    """The box's Swift, through a proxy that fails as a test tells it to."""
    async with proxied(f"http://127.0.0.1:{box.port(6)}") as made:
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    with cluster.namespace() as name:
        yield name
