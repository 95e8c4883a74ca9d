"""Put files into the store: small ones at once, large ones as they are read, very large ones in segments."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from pfmoc.mover.report import Failed, shown
from pfmoc.mover.ticket import PublishTicket
from pfmoc.mover.wire import Answer, Broken, Wire
from pfmoc.storage import layout

_PIECE = 1 << 20
_ABORT_S = 2.0
"""Silence after which an upload is not given up in due form: the pod's own end may be near, and it still has to say why."""
_UPLOAD = re.compile(rb"<UploadId>([^<]+)</UploadId>")


class Segment(NamedTuple):
    """A part of a large object."""

    name: str
    size: int
    etag: str


class Sent(NamedTuple):
    """A file that is in the store."""

    size: int
    md5: str
    sha256: str
    segments: tuple[Segment, ...] = ()
    """Where the store cannot put them together for us: the daemon does."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def copy(self) -> _Hash: ...

    def hexdigest(self) -> str: ...


class Digests:
    """Of the whole file, while it is read piece by piece, some pieces more than once."""

    def __init__(self) -> None:
        self._md5: _Hash = hashlib.md5(usedforsecurity=False)
        self._sha256: _Hash = hashlib.sha256()

    def update(self, piece: bytes) -> None:
        """Add a piece."""
        self._md5.update(piece)
        self._sha256.update(piece)

    def copy(self) -> Digests:
        """Return the state so far."""
        other = Digests()
        other._md5, other._sha256 = self._md5.copy(), self._sha256.copy()
        return other

    def sent(self, size: int, segments: tuple[Segment, ...] = ()) -> Sent:
        """Return the result."""
        return Sent(size, self._md5.hexdigest(), self._sha256.hexdigest(), segments)


def stretches(size: int, usual: int) -> Iterator[tuple[int, int]]:
    """Cut a file: where each piece begins, and its length.

    :param usual: length; pieces are longer where there would be more of them than a store puts together
    """
    step = max(usual, -(-size // layout.SEGMENTS_MAX))
    return ((at, min(step, size - at)) for at in range(0, size, step))


class Depot:
    """The place of one job's output.

    :param index: of this worker: all of a job's have the same ticket
    """

    def __init__(self, wire: Wire, ticket: PublishTicket, *, index: int) -> None:
        self._wire = wire
        self._ticket = ticket
        self._index = index

    def write(self, name: str, content: bytes) -> None:
        """Write a document."""
        digest = hashlib.md5(content, usedforsecurity=False)
        headers = {**self._checked(digest.digest()), "Content-Type": "application/json"}
        self._wire.call("PUT", self._target("PUT", name), headers=headers, body=content)

    def send(self, file: int, size: int, name: str) -> Sent:
        """Put a file there, until it is there.

        :raises OSError: it cannot be read, or changes while it is
        :raises Failed: the store refuses it
        """
        if size <= _PIECE:
            return self._send_small(file, size, name)
        if size <= self._ticket.segment_above:
            return self._stream(file, 0, size, name, Digests())[1].sent(size)
        if self._ticket.multipart:
            return self._send_parts(file, size, name)
        return self._send_segments(file, size, name)

    def _send_small(self, file: int, size: int, name: str) -> Sent:
        content = _read(file, size, 0)
        digests = Digests()
        digests.update(content)
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        self._wire.call("PUT", self._target("PUT", name), headers={**self._checked(digest), **self._kept()}, body=content)
        return digests.sent(size)

    def _send_segments(self, file: int, size: int, name: str) -> Sent:
        # The same file has the same place whenever it is sent, so that sending it again leaves nothing behind.
        place = hashlib.sha256(name.encode()).hexdigest()[:16]
        prefix = f"{self._ticket.segments}{self._index}/{place}/"
        digests = Digests()
        segments: list[Segment] = []
        for at, length in stretches(size, self._ticket.segment_bytes):
            part = f"{prefix}{len(segments):05}"
            etag, digests = self._stream(file, at, length, part, digests)
            segments.append(Segment(part, length, etag))
        return digests.sent(size, tuple(segments))

    def _send_parts(self, file: int, size: int, name: str) -> Sent:
        answer = self._wire.call("POST", self._target("POST", name, {"uploads": ""}))
        found = _UPLOAD.search(answer.body)
        if found is None:
            raise Failed("the store does not take large objects in parts")
        upload = found[1].decode()
        try:
            return self._put_together(file, size, name, upload)
        except BaseException:
            # The store would keep the parts for ever, where nobody sees them, and count them.
            self._wire.venture("DELETE", self._target("DELETE", name, {"uploadId": upload}), silence_s=_ABORT_S)
            raise

    def _put_together(self, file: int, size: int, name: str, upload: str) -> Sent:
        digests, rows = Digests(), []
        for number, (at, length) in enumerate(stretches(size, self._ticket.segment_bytes), 1):
            query = {"partNumber": str(number), "uploadId": upload}
            etag, digests = self._stream(file, at, length, name, digests, query)
            rows.append(f'<Part><PartNumber>{number}</PartNumber><ETag>"{etag}"</ETag></Part>')
        whole = f"<CompleteMultipartUpload>{''.join(rows)}</CompleteMultipartUpload>".encode()
        done = self._wire.call("POST", self._target("POST", name, {"uploadId": upload}), body=whole)
        if b"<Error>" in done.body:
            raise Failed(f"the store cannot put {shown(name)} together")
        return digests.sent(size)

    def _stream(
        self, file: int, at: int, length: int, name: str, before: Digests, query: Mapping[str, str] | None = None
    ) -> tuple[str, Digests]:
        """Send a stretch of the file as an object.

        :param before: digests of what comes before it in the file
        :returns: MD5 of the stretch, and the digests up to its end
        """
        own: list[tuple[str, Digests]] = []

        def attempt() -> Answer:
            digests, stretch = before.copy(), hashlib.md5(usedforsecurity=False)

            def pieces() -> Iterator[bytes]:
                for offset in range(at, at + length, _PIECE):
                    piece = _read(file, min(_PIECE, at + length - offset), offset)
                    digests.update(piece)
                    stretch.update(piece)
                    yield piece
                    self._wire.patience.encourage()

            with self._wire.request("PUT", self._target("PUT", name, query), self._kept(), pieces(), length) as response:
                answer = Answer(response.status, response.headers, b"".join(self._wire.body(response)))
            if answer.status // 100 == 2:
                if not self._same(answer, stretch.hexdigest()):
                    raise Broken(f"{shown(name)} arrived damaged: its digest is not the one sent")
                own[:] = [(stretch.hexdigest(), digests)]
            return answer

        self._wire.insist(attempt)
        return own[0]

    def _same(self, answer: Answer, digest: str) -> bool:
        if "aws:kms" in answer.headers.get("x-amz-server-side-encryption", ""):
            return True  # then the tag is no digest
        return answer.headers.get("ETag", "").strip('"') == digest

    def _kept(self) -> dict[str, str]:
        """The header by which Swift deletes an output in time; S3 has rules of its own for that."""
        return {} if self._ticket.keep_s is None else {"X-Delete-After": str(self._ticket.keep_s)}

    def _checked(self, digest: bytes) -> dict[str, str]:
        """The header by which the store itself checks what arrives."""
        return {"Content-MD5": base64.b64encode(digest).decode()} if self._ticket.multipart else {"ETag": digest.hex()}

    def _target(self, method: str, name: str, query: Mapping[str, str] | None = None) -> str:
        return self._ticket.rights.target(method, name, query or {})


def _read(file: int, count: int, offset: int) -> bytes:
    piece = os.pread(file, count, offset)
    if len(piece) != count:
        raise OSError(errno.ESTALE, "it changed meanwhile")
    return piece
