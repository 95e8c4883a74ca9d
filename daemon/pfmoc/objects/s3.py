"""One bucket in S3, by path: ``https://endpoint/bucket/name``."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from xml.parsers import expat
from xml.sax.saxutils import escape

from yarl import URL

from pfmoc.errors import NoSuchData, StorageUnavailable
from pfmoc.objects.base import SMALL_MAX, Entry, ObjectStore, instant
from pfmoc.objects.sigv4 import Signer, quoted
from pfmoc.objects.transport import Patience, Request, Signature, Transport

_PAGE = 1000
"""Names of one page, and of one request to delete: S3's own most."""
_LIFETIME_S = 900
"""Of a signature of our own requests; clocks differ, and a large body takes its time."""


class S3Store(ObjectStore):
    """A bucket, as its owner.

    :param endpoint: with scheme, without the bucket
    :param page: names of one page of a listing
    """

    def __init__(
        self, *, endpoint: str, bucket: str, signer: Signer, page: int = _PAGE, patience: Patience | None = None
    ) -> None:
        self.container = bucket
        self.signer = signer
        self.base = f"{endpoint.rstrip('/')}/{bucket}"
        self._page = page
        self._transport = Transport(_Signed(self.base, signer), patience=patience)

    async def close(self) -> None:
        """Give connections back."""
        await self._transport.close()

    async def check(self) -> None:
        """:raises StorageUnavailable: the bucket is not there, or not ours"""
        try:
            await self._transport.call("HEAD")
        except NoSuchData:
            raise StorageUnavailable(f"Storage is unavailable: there is no bucket {self.container!r} in S3") from None

    async def pages(self, prefix: str, *, delimiter: str = "", limit: int | None = None) -> AsyncGenerator[Sequence[Entry]]:
        """Yield the objects whose names begin so, page by page."""
        words = {"list-type": "2", "prefix": prefix, "max-keys": str(min(limit or self._page, self._page))}
        words |= {"delimiter": delimiter} if delimiter else {}
        while True:
            told = _Listing((await self._transport.call("GET", query=words)).body)
            if found := [_entry(row) for row in told.rows if not row["Key"].endswith("/")]:
                yield found
            if not told.onward:
                return
            words["continuation-token"] = told.onward

    async def look(self, name: str) -> Entry | None:
        """Return what is known of an object; None when there is none."""
        answer = await self._transport.call("HEAD", f"/{quoted(name)}", fine=frozenset({404}))
        if answer.status == 404:
            return None
        headers = answer.headers
        etag = headers.get("ETag", "").strip('"')
        modified = parsedate_to_datetime(headers["Last-Modified"]) if "Last-Modified" in headers else datetime.now(UTC)
        return Entry(name, int(headers.get("Content-Length", 0)), etag, modified, "-" in etag)

    async def read(self, name: str, *, limit: int = SMALL_MAX) -> bytes:
        """Return the content of an object, or its beginning."""
        return (await self._transport.call("GET", f"/{quoted(name)}", limit=limit)).body

    def open(self, name: str, *, etag: str | None = None) -> AsyncGenerator[bytes]:
        """Yield the content of an object as it comes."""
        return self._transport.stream(f"/{quoted(name)}", etag=etag)

    async def write(self, name: str, content: bytes, *, kind: str = "application/json") -> None:
        """Write a small object; the store checks its digest."""
        headers = {"Content-Type": kind, "Content-MD5": _md5(content)}
        await self._transport.call("PUT", f"/{quoted(name)}", headers=headers, body=content)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object of up to 5 GiB, S3's own limit."""
        headers = {"x-amz-copy-source": f"/{self.container}/{quoted(source)}"}
        answer = await self._transport.call("PUT", f"/{quoted(target)}", headers=headers)
        if b"<Error>" in answer.body:
            raise StorageUnavailable("Storage is unavailable: it could not copy an object")

    async def delete(self, names: Iterable[str]) -> None:
        """Delete objects."""
        batch: list[str] = []
        for name in names:
            batch.append(name)
            if len(batch) == _PAGE:
                await self._delete(batch)
                batch = []
        if batch:
            await self._delete(batch)

    async def _delete(self, names: Sequence[str]) -> None:
        if len(names) == 1:
            await self._transport.call("DELETE", f"/{quoted(names[0])}", fine=frozenset({404}))
            return
        rows = "".join(f"<Object><Key>{escape(name)}</Key></Object>" for name in names)
        body = f"<Delete><Quiet>true</Quiet>{rows}</Delete>".encode()
        answer = await self._transport.call(
            "POST", query={"delete": ""}, headers={"Content-MD5": _md5(body), "Content-Type": "application/xml"}, body=body
        )
        if b"<Error>" in answer.body:
            raise StorageUnavailable("Storage is unavailable: it could not delete all objects")


class _Signed(Signature):
    """A signature in the query."""

    def __init__(self, base: str, signer: Signer) -> None:
        self._base = base
        self._signer = signer

    async def signed(self, request: Request) -> tuple[URL, dict[str, str]]:
        url = self._base + request.path
        amazon = {name: value for name, value in request.headers.items() if name.startswith("x-amz-")}
        query = self._signer.sign(
            request.method, url, at=datetime.now(UTC), lifetime_s=_LIFETIME_S, query=request.query, headers=amazon
        )
        return URL(f"{url}?{query}", encoded=True), dict(request.headers)


class _Listing:
    """A page of a listing, out of its XML. No entity but XML's own is known, so none can grow."""

    def __init__(self, body: bytes) -> None:
        self.rows: list[dict[str, str]] = []
        self.onward: str | None = None
        self._path: list[str] = []
        self._text: list[str] = []
        parser = expat.ParserCreate(namespace_separator=None)
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.EntityDeclHandler = _no_entities
        try:
            parser.Parse(body, True)  # noqa: FBT003 - how expat is told that this is all
        except expat.ExpatError as error:
            raise StorageUnavailable("Storage is unavailable: its answer is no XML") from error

    def _begin(self, name: str, attributes: object) -> None:  # noqa: ARG002 - expat's own signature
        self._path.append(name)
        self._text.clear()
        if self._path[1:] == ["Contents"]:
            self.rows.append({})

    def _end(self, name: str) -> None:
        text = "".join(self._text)
        self._text.clear()
        if len(self._path) == 3 and self._path[1] == "Contents":
            self.rows[-1][name] = text
        elif self._path[1:] == ["NextContinuationToken"]:
            self.onward = text
        self._path.pop()


def _no_entities(*_: object) -> None:
    raise StorageUnavailable("Storage is unavailable: its answer declares entities")


def _entry(row: dict[str, str]) -> Entry:
    etag = row["ETag"].strip('"')
    return Entry(row["Key"], int(row["Size"]), etag, instant(row["LastModified"]), "-" in etag)


def _md5(content: bytes) -> str:
    return b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
