"""Containers that are given up, against an object store in this process."""

from __future__ import annotations

import pytest
import swiftclient

from infra import emptying
from infra.failures import OperatorError
from infra.guards import Risk
from infra.spec import Site

DATA = Risk(resource="container/chris/data", tenant="chris", subject="container", id="p", container="data")


class Swift:
    """A container that keeps versions, listed a few at a time."""

    def __init__(self, objects: int, *, versions: int = 1) -> None:
        self.held = [(f"o{index:03}", str(version)) for index in range(objects) for version in range(versions)]

    def get_container(self, container, *, limit, query_string, marker="", version_marker=""):
        if container != "data":
            raise swiftclient.ClientException("no such container", http_status=404)
        assert query_string == "versions=true"
        after = [each for each in self.held if each > (marker, version_marker)]
        return {}, [{"name": name, "version_id": version} for name, version in after[:limit]]

    def delete_object(self, _container, name, *, query_string):
        version = query_string.removeprefix("version-id=")
        if (name, version) not in self.held:
            raise swiftclient.ClientException("gone already", http_status=404)
        self.held.remove((name, version))


@pytest.fixture
def swift(monkeypatch):
    """Have the store in the place of the site's."""

    def put(store):
        monkeypatch.setattr(emptying, "openstack_connection", lambda _: None)
        monkeypatch.setattr(emptying, "swift_connection", lambda *_: store)
        return store

    return put


def test_all_versions_of_all_objects_go(swift, monkeypatch):
    monkeypatch.setattr(emptying, "PAGE", 7)
    store = swift(Swift(10, versions=3))
    told = list(emptying.emptied(Site(name="small"), [DATA]))
    assert store.held == []
    assert told[-1] == "container/chris/data: 30 objects deleted"
    assert len(told) == 5


def test_what_is_empty_or_gone_needs_nothing(swift):
    swift(Swift(0))
    assert list(emptying.emptied(Site(name="small"), [DATA])) == []
    (gone,) = [Risk(resource="container/chris/x", tenant="chris", subject="container", id="p", container="x")]
    assert list(emptying.emptied(Site(name="small"), [gone])) == []
    assert list(emptying.emptied(Site(name="small"), [])) == []


def test_what_cannot_be_deleted_ends_it(swift):
    class SwiftThatForbids(Swift):
        def delete_object(self, *_, **__):
            raise swiftclient.ClientException("Forbidden", http_status=403)

    swift(SwiftThatForbids(1))
    with pytest.raises(OperatorError, match="container/chris/data"):
        list(emptying.emptied(Site(name="small"), [DATA]))


def test_a_container_that_fills_again_is_told():
    with pytest.raises(OperatorError, match="the container data fills again"):
        emptying.wait_until_empty(Swift(1), "data", deadline_s=0, pause_s=0)
