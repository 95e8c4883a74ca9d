"""What the daemon allows the mover: the file that a pod gets, and the rights that lie in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pfmoc.mover.report import BadTicket, Failed
from pfmoc.objects.sigv4 import Signer, quoted
from pfmoc.storage.layout import VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class PullTicket:
    """The right to read one object, which holds the other rights."""

    base: str
    """URL of the container."""
    target: str = field(repr=False)
    """Of that object: below the base, with its query."""
    authorities: str | None
    expires: float
    connections: int
    patience_s: float
    window_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Grants:
    """Rights in Swift: for each, what names begin with, and the query that goes with it."""

    rows: Sequence[tuple[str, str]] = field(repr=False)

    def target(self, method: str, name: str, query: Mapping[str, str]) -> str:  # noqa: ARG002 - a right is for one method, and HEAD
        """:raises Failed: there is no right to that name"""
        for prefix, words in self.rows:
            if name.startswith(prefix):
                return f"/{quote(name)}?{words}"
        raise Failed("the job's ticket gives no right to that name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A key of S3, for lack of rights that could be scoped to a prefix."""

    base: str
    signer: Signer
    lifetime_s: int = 3600

    def target(self, method: str, name: str, query: Mapping[str, str]) -> str:
        """Sign a request."""
        path = f"/{quoted(name)}"
        words = self.signer.sign(method, self.base + path, at=datetime.now(UTC), lifetime_s=self.lifetime_s, query=query)
        return f"{path}?{words}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishTicket:
    """The right to write a job's outputs and manifest."""

    base: str
    authorities: str | None
    jid: str
    root: str
    """What the outputs' names begin with."""
    segments: str
    ticket: str
    """Name of the job's ticket object."""
    rights: Grants | Credentials
    expires: float
    deadline_s: float
    segment_above: int
    segment_bytes: int
    max_bytes: int
    connections: int
    keep_s: int | None = None
    """Seconds after which the store deletes outputs; None where it keeps them."""

    @property
    def alive(self) -> str:
        """Asks for the job's ticket object: below the base, with its query.

        S3 honours no signature for longer than a week, and a plugin may run for longer: who has the key signs anew each time.
        """
        return self.rights.target("HEAD", self.ticket, {})

    @property
    def multipart(self) -> bool:
        """True where the store puts parts together for whoever uploads them."""
        return isinstance(self.rights, Credentials)


def read_pull(path: Path) -> PullTicket:
    """:raises BadTicket: it cannot be read"""
    return pull_ticket(_read(path))


def read_publish(path: Path) -> PublishTicket:
    """:raises BadTicket: it cannot be read"""
    return publish_ticket(_read(path))


def pull_ticket(text: bytes | str) -> PullTicket:
    """:raises BadTicket: it is none"""
    found = _parsed(text)
    with_query = f"/{quote(found['ticket']['name'])}?{found['ticket']['query']}"
    return PullTicket(
        base=found["base"],
        target=with_query,
        authorities=found["authorities"],
        expires=found["expires"],
        connections=found["connections"],
        patience_s=found["patience_s"],
        window_s=found["window_s"],
    )


def publish_ticket(text: bytes | str) -> PublishTicket:
    """:raises BadTicket: it is none"""
    found = _parsed(text)
    rights: Grants | Credentials
    ticket: str = found["ticket"]["name"]
    if found["kind"] == "s3":
        rights = Credentials(base=found["base"], signer=Signer(**found["s3"]))
    else:
        rows = [(ticket, found["ticket"]["query"]), *((grant["prefix"], grant["query"]) for grant in found["grants"])]
        rights = Grants(rows=rows)
    return PublishTicket(
        ticket=ticket,
        rights=rights,
        **{
            name: found[name]
            for name in (
                "base",
                "authorities",
                "jid",
                "root",
                "segments",
                "expires",
                "deadline_s",
                "segment_above",
                "segment_bytes",
                "max_bytes",
                "connections",
                "keep_s",
            )
        },
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadTicket(f"the ticket cannot be read: {error.strerror}") from error


def _parsed(text: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadTicket("the ticket is no JSON") from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise BadTicket(f"the ticket is not of version {VERSION}: daemon and mover must be of the same image")
    if urlsplit(found["base"]).scheme not in ("http", "https"):
        raise BadTicket("the ticket's address is none of HTTP")
    return found
