"""What controllers stand on: a copy kept up to date by a watch, and a queue of keys."""

from __future__ import annotations

import threading
import time

import pytest
from box_openshift import controller, informer
from box_openshift.cluster import ClusterError, ExpiredError
from box_openshift.controller import Controller, Queue
from box_openshift.informer import Informer
from harness.waiting import until


class Over(BaseException):
    """Ends what runs for ever."""


def thing(name, version):
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


class ClusterWithAScript:
    """Lists and watches as it was told: each watch is a list of events, and then an error or a quiet end."""

    def __init__(self, lists, watches) -> None:
        self._lists, self._watches = list(lists), list(watches)
        self.watched_from = []

    def list(self, _resource):
        found = self._lists.pop(0)
        if isinstance(found, Exception):
            raise found
        return found, str(max((int(item["metadata"]["resourceVersion"]) for item in found), default=0))

    def watch(self, _resource, version):
        self.watched_from.append(version)
        if not self._watches:
            raise Over
        for event in self._watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


def followed(monkeypatch, lists, watches):
    monkeypatch.setattr(informer, "FIRST_PAUSE_S", 0.001)
    cluster = ClusterWithAScript(lists, watches)
    found = Informer(cluster, None)
    seen = []
    found.listeners.append(lambda item: seen.append((item["metadata"]["name"], found.get(item["metadata"]["name"]) is not None)))
    with pytest.raises(Over):
        found.run()
    return found, seen, cluster


def test_a_watch_goes_on_where_the_last_one_ended(monkeypatch):
    events = [[("ADDED", thing("b", 2)), ("BOOKMARK", thing("", 5))], [("MODIFIED", thing("a", 6)), ("DELETED", thing("b", 7))]]
    found, seen, cluster = followed(monkeypatch, [[thing("a", 1)]], events)
    assert cluster.watched_from == ["1", "5", "7"]
    assert seen == [("a", True), ("b", True), ("a", True), ("b", False)]
    assert [item["metadata"]["resourceVersion"] for item in found.all()] == ["6"]


def test_what_went_unseen_is_told_after_listing_anew(monkeypatch):
    lists = [[thing("a", 1), thing("b", 2), thing("c", 3)], [thing("b", 2), thing("c", 8), thing("d", 9)]]
    found, seen, _ = followed(monkeypatch, lists, [[ExpiredError(410, "Gone", "too old")]])
    assert {item["metadata"]["name"] for item in found.all()} == {"b", "c", "d"}
    assert sorted(seen[3:]) == [("a", False), ("c", True), ("d", True)]


def test_an_unreachable_server_is_asked_again(monkeypatch):
    away = ClusterError(0, "Unreachable", "connection refused")
    found, seen, _ = followed(monkeypatch, [away, away, [thing("a", 1)], [thing("a", 1)]], [[away]])
    assert found.synced.is_set()
    assert seen == [("a", True)]


def test_a_key_waits_in_the_queue_once_and_comes_at_its_earliest_time():
    queue = Queue()
    queue.add("later", 0.05)
    queue.add("twice", 30)
    queue.add("twice")
    queue.add("twice", 30)
    assert [queue.take(), queue.take()] == ["twice", "later"]
    queue.add("twice")
    assert queue.take() == "twice"


class Failing(Controller):
    """Fails as often as it is told."""

    def __init__(self, *errors) -> None:
        super().__init__()
        self.errors = list(errors)
        self.calls = []

    def reconcile(self, key):
        self.calls.append((key, time.monotonic()))
        if self.errors:
            raise self.errors.pop(0)


def test_a_key_that_fails_comes_again_and_does_not_stop_others(monkeypatch):
    monkeypatch.setattr(controller, "FIRST_PAUSE_S", 0.01)
    failing = Failing(ClusterError(500, "", "no"), KeyError("bad object"))
    threading.Thread(target=failing.run, daemon=True).start()
    failing.enqueue("a")
    until(lambda: len(failing.calls) == 3)
    failing.enqueue("b")
    until(lambda: failing.calls[-1][0] == "b")
    assert [key for key, _ in failing.calls] == ["a", "a", "a", "b"]
