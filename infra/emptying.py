"""Empty containers that somebody has given up by name: Swift deletes none that has objects.

Done only when the guards have let a plan through and the operator has agreed to it; all versions of all objects go.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import swiftclient

from infra.clients import openstack_connection, sentences, swift_connection
from infra.failures import OperatorError
from infra.guards import Risk
from infra.spec import Site

WORKERS = 8
PAGE = 2000
"""Objects that are asked for, deleted and told at a time."""
SETTLE_S = 60
"""Within this time Swift's listing has to follow: the container cannot be deleted before."""
VERSIONS = "versions=true"
"""Clusters without versions take no notice of it, and list the objects."""

Listed = list[Mapping[str, Any]]


def emptied(site: Site, containers: Iterable[Risk]) -> Iterator[str]:
    """Delete all objects of containers.

    :returns: how far it is, a sentence each
    :raises OperatorError: when not all of them are gone
    """
    connection = None
    for each in containers:
        connection = connection or openstack_connection(site)
        with sentences(each.resource):
            gone = 0
            for page in pages(swift_connection(connection, each.id), each.container):
                # A page has connections of its own: a token may end meanwhile, and threads share none.
                clients = [swift_connection(connection, each.id) for _ in range(WORKERS)]
                parts = [page[start::WORKERS] for start in range(WORKERS)]
                with ThreadPoolExecutor(WORKERS) as pool:
                    list(pool.map(delete, clients, [each.container] * WORKERS, parts))
                gone += len(page)
                yield f"{each.resource}: {gone} objects deleted"
            if gone:
                wait_until_empty(swift_connection(connection, each.id), each.container)


def pages(swift: Any, container: str) -> Iterator[Listed]:
    """All versions of all objects. None for a container that is not there."""
    marker: dict[str, str] = {}
    while True:
        try:
            page: Listed = swift.get_container(container, limit=PAGE, query_string=VERSIONS, **marker)[1]
        except swiftclient.ClientException as error:
            if error.http_status == 404:  # somebody has deleted it already
                return
            raise
        if not page:
            return
        yield page
        last = page[-1]
        marker = {"marker": last["name"]} | ({"version_marker": last["version_id"]} if "version_id" in last else {})


def delete(swift: Any, container: str, objects: Listed) -> None:
    """Delete objects, each in the version that was listed: without it Swift would only add a mark."""
    for each in objects:
        version = each.get("version_id")
        try:
            swift.delete_object(container, each["name"], query_string=f"version-id={version}" if version else None)
        except swiftclient.ClientException as error:
            if error.http_status != 404:
                raise


def wait_until_empty(swift: Any, container: str, *, deadline_s: float = SETTLE_S, pause_s: float = 1) -> None:
    """Wait until Swift lists nothing any more.

    :raises OperatorError: when it goes on to
    """
    end = time.monotonic() + deadline_s
    while next(pages(swift, container), None):
        if time.monotonic() > end:
            raise OperatorError(
                f"the container {container} fills again, or Swift is behind", "see who writes there; run it again"
            )
        time.sleep(pause_s)
