"""One container in Swift."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from yarl import URL

from pfmoc.errors import NoSuchData, StorageRefused, StorageUnavailable
from pfmoc.objects.base import SMALL_MAX, Entry, ObjectStore, instant
from pfmoc.objects.identity import Identity
from pfmoc.objects.transport import AGAIN, FULL, Patience, Request, Signature, Transport, Unsigned

_PAGE = 10_000
"""Names of one page: Swift's own most."""
_DOOMED = 1000
"""Names of one request to delete many."""
_FINAL = frozenset(range(400, 500)) - AGAIN - FULL - {401, 403, 404}
"""Answers that say that the request itself is wrong."""
_JSON = {"Accept": "application/json"}
_TOKEN = "X-Auth-Token"  # noqa: S105 - the name of the header
KEPT_DAYS = "X-Container-Meta-Pfmoc-Expire-After-Days"
_DAY_S = 86_400
SLOTS = ("X-{}-Meta-Temp-Url-Key", "X-{}-Meta-Temp-Url-Key-2")
"""Headers of the two keys of temporary URLs that a container, or an account, may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A part of a large object."""

    name: str
    size: int
    etag: str


class SwiftStore(ObjectStore):
    """A container, as its owner.

    :param interface: of the catalogue, that this daemon reaches
    :param pod_interface: of the catalogue, that pods reach
    :param page: names of one page of a listing
    """

    def __init__(
        self,
        *,
        identity: Identity,
        container: str,
        interface: str = "public",
        pod_interface: str | None = None,
        page: int = _PAGE,
        patience: Patience | None = None,
        connections: int = 64,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.container = container
        self.identity = identity
        self._interface = interface
        self._pod_interface = pod_interface or interface
        self._page = page
        self._bulk = True
        self._transport = Transport(_Token(identity, interface), patience=patience, connections=connections, trust=trust)
        self._unsigned = Transport(Unsigned(), patience=patience, connections=2, trust=trust)

    async def close(self) -> None:
        """Give connections back."""
        await self._transport.close()
        await self._unsigned.close()
        await self.identity.close()

    async def check(self) -> None:
        """:raises StorageUnavailable: the container is not there, or not ours"""
        try:
            await self._transport.call("HEAD", self._path())
        except NoSuchData:
            raise StorageUnavailable(f"Storage is unavailable: there is no container {self.container!r} in Swift") from None

    async def pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> AsyncGenerator[Sequence[Entry]]:
        """Yield the objects whose names begin so, page by page."""
        count = min(limit or self._page, self._page)
        words = {"format": "json", "prefix": prefix, "limit": str(count)} | ({"delimiter": delimiter} if delimiter else {})
        while True:
            answer = await self._transport.call("GET", self._path(), query=words, headers=_JSON)
            rows = answer.json() if answer.body else []
            if found := [_entry(row) for row in rows if "name" in row and not _is_directory(row)]:
                yield found
            # A page may be shorter than asked for where the cluster's own limit is lower: only an empty one is the end. But who
            # asked for a few need not ask again to learn that there were fewer.
            if not rows or (limit and len(rows) < count):
                return
            words["marker"] = rows[-1].get("name") or rows[-1]["subdir"]

    async def look(self, name: str) -> Entry | None:
        """Return what is known of an object; None when there is none."""
        answer = await self._transport.call("HEAD", self._path(name), fine=frozenset({404}))
        if answer.status == 404:
            return None
        headers = answer.headers
        return Entry(
            name=name,
            size=int(headers.get("Content-Length", 0)),
            etag=headers.get("ETag", "").strip('"'),
            modified=datetime.fromtimestamp(float(headers.get("X-Timestamp", "0")), UTC),
            segmented="X-Static-Large-Object" in headers or "X-Object-Manifest" in headers,
        )

    async def read(self, name: str, *, limit: int = SMALL_MAX) -> bytes:
        """Return the content of an object, or its beginning."""
        return (await self._transport.call("GET", self._path(name), limit=limit)).body

    def open(self, name: str, *, etag: str | None = None) -> AsyncGenerator[bytes]:
        """Yield the content of an object as it comes."""
        return self._transport.stream(self._path(name), etag=etag)

    async def write(self, name: str, content: bytes, *, kind: str = "application/json") -> None:
        """Write a small object; Swift checks its digest."""
        headers = {"Content-Type": kind, "ETag": hashlib.md5(content, usedforsecurity=False).hexdigest()}
        await self._transport.call("PUT", self._path(name), headers=headers, body=content)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object. One in segments shares them afterwards; see ``join`` to have it otherwise."""
        headers = {"X-Copy-From": self._path(source)[1:], "Content-Length": "0"}
        await self._transport.call("PUT", self._path(target), query={"multipart-manifest": "get"}, headers=headers)

    async def join(self, name: str, segments: Sequence[Segment], *, keep_s: int | None = None) -> None:
        """Make a large object of segments that are there. Swift checks size and digest of each.

        :param keep_s: seconds after which Swift deletes it; None: it stays
        :raises StorageRefused: a segment is not there, or another
        """
        rows = [{"path": f"/{self.container}/{each.name}", "size_bytes": each.size, "etag": each.etag} for each in segments]
        answer = await self._transport.call(
            "PUT",
            self._path(name),
            query={"multipart-manifest": "put"},
            headers={"Content-Type": "", **({} if keep_s is None else {"X-Delete-After": str(keep_s)})},
            body=json.dumps(rows).encode(),
            fine=_FINAL,
        )
        if answer.status in _FINAL:
            raise StorageRefused(
                f"the store does not put {ascii(name)[1:-1]} together ({answer.status}): a segment of it is gone, or another"
            )

    async def delete(self, names: Iterable[str]) -> None:
        """Delete objects. Segments of large ones are objects of their own."""
        batch: list[str] = []
        for name in names:
            batch.append(name)
            if len(batch) == _DOOMED:
                await self._delete(batch)
                batch = []
        if batch:
            await self._delete(batch)

    async def _delete(self, names: Sequence[str]) -> None:
        if len(names) > 1 and self._bulk and await self._deleted_at_once(names):
            return
        for name in names:
            await self._transport.call("DELETE", self._path(name), fine=frozenset({404, 409}))

    async def _deleted_at_once(self, names: Sequence[str]) -> bool:
        """Delete by one request. False when something is left, or the cluster has no such request."""
        body = "\n".join(self._path(name)[1:] for name in names).encode()
        answer = await self._transport.call(
            "POST",
            query={"bulk-delete": "true"},
            headers={**_JSON, "Content-Type": "text/plain"},
            body=body,
            fine=frozenset({405}),
        )
        told: dict[str, Any] = answer.json() if answer.body.strip().startswith(b"{") else {}
        self._bulk = "Number Deleted" in told
        return bool(self._bulk and not told["Errors"] and told["Response Status"].startswith("200"))

    async def keys(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return the keys of temporary URLs that the container and the account have, by the names of their headers."""
        own = await self._transport.call("HEAD", self._path())
        account = await self._transport.call("HEAD")
        return _keys("Container", own.headers), _keys("Account", account.headers)

    async def keep_s(self) -> int | None:
        """Return how long outputs are kept in the container, in seconds; None where nothing says so.

        Swift has no such rule for a container. The deployment kit writes the site file's days into its metadata.
        """
        days = (await self._transport.call("HEAD", self._path())).headers.get(KEPT_DAYS, "")
        return int(days) * _DAY_S if days.isascii() and days.isdigit() else None

    async def set_key(self, header: str, key: str) -> None:
        """Give the container a key of temporary URLs."""
        await self._transport.call("POST", self._path(), headers={header: key})

    async def opens(self, name: str, query: str) -> bool:
        """True when a temporary URL is honoured, whether or not there is such an object. No token is sent."""
        account = (await self.identity.session()).account(self._interface)
        path = f"{URL(account, encoded=True).raw_path}{self._path(name)}?{query}"
        answer = await self._unsigned.call("HEAD", str(URL(account, encoded=True).origin()) + path, fine=frozenset({401, 404}))
        return answer.status != 401

    async def address(self) -> str:
        """Return the container's URL, as pods reach it."""
        return (await self.identity.session()).account(self._pod_interface) + self._path()

    def _path(self, name: str | None = None) -> str:
        return f"/{quote(self.container, safe='')}" + ("" if name is None else f"/{quote(name)}")


class _Token(Signature):
    """A token in a header."""

    def __init__(self, identity: Identity, interface: str) -> None:
        self._identity = identity
        self._interface = interface

    async def signed(self, request: Request) -> tuple[URL, dict[str, str]]:
        session = await self._identity.session()
        words = f"?{urlencode(request.query, quote_via=quote)}" if request.query else ""
        url = URL(f"{session.account(self._interface)}{request.path}{words}", encoded=True)
        return url, {**request.headers, _TOKEN: session.token}

    async def renew(self, headers: Mapping[str, str]) -> bool:
        await self._identity.renew(headers[_TOKEN])
        return True


def _keys(level: str, headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in (slot.format(level) for slot in SLOTS) if headers.get(name)}


def _is_directory(row: Mapping[str, Any]) -> bool:
    """True for what some clients make in place of an empty directory."""
    return bool(row["bytes"] == 0 and (row["name"].endswith("/") or row["content_type"] == "application/directory"))


def _entry(row: Mapping[str, Any]) -> Entry:
    segmented = "slo_etag" in row
    return Entry(
        name=row["name"],
        size=row["bytes"],
        etag=str(row["slo_etag"] if segmented else row["hash"]).strip('"'),
        modified=instant(row["last_modified"]),
        segmented=segmented,
    )
