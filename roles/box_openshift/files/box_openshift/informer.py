"""A copy in memory of all objects of a resource, kept up to date by a watch."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from .cluster import Cluster, ClusterError, ExpiredError, Object, Resource

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0

_log = logging.getLogger(__name__)


def key_of(thing: Object) -> str:
    """``namespace/name``, or ``name`` of what has no namespace."""
    metadata = thing["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata["name"])


class Informer:
    """Lists, then watches, lists again when the watch is too old, and tries again, later each time, when it fails.

    :param listeners: called from the informer's thread with each object that came, changed or went, after the copy has changed
    """

    def __init__(self, cluster: Cluster, resource: Resource) -> None:
        self._cluster = cluster
        self._resource = resource
        self._objects: dict[str, Object] = {}
        self._lock = threading.Lock()
        self.listeners: list[Callable[[Object], None]] = []
        self.synced = threading.Event()

    def get(self, key: str) -> Object | None:
        """The object of a key, or None. It is shared: not to be changed."""
        with self._lock:
            return self._objects.get(key)

    def all(self) -> list[Object]:
        """All objects. They are shared: not to be changed."""
        with self._lock:
            return list(self._objects.values())

    def run(self) -> None:
        """Run for ever."""
        version = ""
        failures = 0
        while True:
            try:
                if not version:
                    version = self._list()
                for kind, thing in self._cluster.watch(self._resource, version):
                    version = thing["metadata"]["resourceVersion"]
                    failures = 0
                    if kind != "BOOKMARK":
                        self._take(thing, gone=kind == "DELETED")
            except ExpiredError:
                version = ""
            except ClusterError as error:
                pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                failures = min(failures + 1, 10)
                _log.warning("%s; again in %.1f s", error, pause)
                # Another server may answer next, or one with another history: what was missed is found by listing.
                version = ""
                time.sleep(pause)

    def _list(self) -> str:
        things, version = self._cluster.list(self._resource)
        now = {key_of(thing): thing for thing in things}
        with self._lock:
            before, self._objects = self._objects, now
        for key in before.keys() | now.keys():
            old, new = before.get(key), now.get(key)
            if old is None or new is None or old["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"]:
                self._tell(new or old or {})
        self.synced.set()
        return version

    def _take(self, thing: Object, *, gone: bool) -> None:
        with self._lock:
            if gone:
                self._objects.pop(key_of(thing), None)
            else:
                self._objects[key_of(thing)] = thing
        self._tell(thing)

    def _tell(self, thing: Object) -> None:
        for listener in self.listeners:
            listener(thing)
