"""What the API's description says of a route beyond what the route itself is made of: the shapes of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pfmoc.dialects.fields import Field

JSON = "application/json"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
ZIP = "application/zip"
TEXT = "text/plain"
FORMS = (URLENCODED, MULTIPART, JSON)
"""In which a form may be written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A JSON object of an answer. Every key is always there, and no other is."""

    name: str
    """Under which the description has it; one name, one shape."""
    keys: Mapping[str, Any]
    """JSON Schema of each key's value; another shape may stand wherever a schema may."""
    help: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation as its clients see it."""

    help: str
    """What there is to know beyond the summary."""
    shape: Shape | None = None
    """The body of the answer; None where there is none, or where it is an archive."""
    status: int = 200
    """Of the answer that was asked for."""
    archive: bool = False
    """True: the answer is a zip, in parts if the client likes."""
    or_archive: bool = False
    """True: the answer may be a zip as well, whole."""
    text: bool = False
    """True: the answer is plain text, as it comes."""
    query: Sequence[Field] = ()
    media: Sequence[str] = FORMS
    """In which the body may be written."""
    upload: bool = False
    """True: the body must bring the input, as a zip."""
    needed: Sequence[str] = ()
    """Fields of the form that this server's storage makes mandatory, and not empty."""
    bounds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """JSON Schema keywords of fields, by name, that depend on this server."""
    refusals: Sequence[int] = ()
    """Statuses of refusals, beside those that every route, token or form brings with it."""
    engine: bool = False
    """True: a container engine's refusal goes to the client with the status that the engine gave it."""
