"""Documents off the wire, and answers onto it (contract 5.1).

pfurl labels its JSON as a form, sends a Python literal in the query of a GET, and reads the body of whatever comes back without a
look at the status. So documents are read from the raw body, whatever its label, and refusals are answers like any other:
``status: false``, and why in ``msg``.
"""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from pfmoc.body import Body
from pfmoc.dialects import forms
from pfmoc.dialects.cmd.documents import Document, check_shape, refuse_control, section, words
from pfmoc.dialects.fields import Field, FieldSet
from pfmoc.dialects.routes import Handler
from pfmoc.errors import InvalidRequest, PfmocError
from pfmoc.http import INTERNAL, Refusal, error_response, json_response
from pfmoc.spool import Spool

_log = logging.getLogger(__name__)

WRAPPER = "payload"
"""The one key of a wrapped document (``pfurl --jsonwrapper payload``)."""
LITERAL_MAX = 64 << 10
"""Characters of ``meta`` in a query: more than the head of a request may have."""

FORM = FieldSet(
    name="cmd",
    fields=(
        Field(name="d_msg", required=True, help="the document, as JSON text"),
        Field(name="filename", help="the file's path on the client"),
    ),
)
UPLOAD = "local"
"""The part that is the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A document that was read, and what it came with."""

    action: str
    document: Document
    size: int
    """Bytes of the body."""
    payload: str = ""
    """The document as it was sent."""
    upload: Path | None = field(default=None, repr=False)
    filename: str = ""

    @property
    def meta(self) -> Document:
        """The object ``meta``; empty where there is none.

        :raises InvalidRequest: it is something else
        """
        return section(self.document, "meta")


@asynccontextmanager
async def received(request: web.Request, body: Body, *, spool: Spool, max_form_bytes: int) -> AsyncIterator[Message]:
    """Read a request; the file it may bring lives as long as the context.

    :raises InvalidRequest: there is no document in it, or none that may be looked at
    :raises Refusal: the body is too large, too slow, or broken
    """
    if request.method != "POST":
        yield message(from_query(request), payload=request.query_string, size=0)
    elif request.content_type == "multipart/form-data":
        async with forms.received(request, body, FORM, max_form_bytes=max_form_bytes, spool=spool, file_field=UPLOAD) as form:
            values = FORM.parse(form.values)
            text = values["d_msg"]
            yield message(from_text(text), payload=text, size=len(text), upload=form.upload, filename=values["filename"] or "")
    else:
        data = await body.read(max_form_bytes)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise InvalidRequest("document", "is not UTF-8 text") from None
        yield message(from_text(text), payload=text, size=len(data))


def from_text(text: str) -> Document:
    """Read a document, wrapped or bare.

    :raises InvalidRequest: it is no JSON object
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("document", f"is no JSON: {error}") from None
    if isinstance(document, dict) and isinstance(document.get(WRAPPER), dict):
        document = document[WRAPPER]
    return _checked(document)


def from_query(request: web.Request) -> Document:
    """Read the document of a GET: each of its keys is a parameter, and what is no text is a Python literal.

    :raises InvalidRequest: it cannot be read
    """
    document: dict[str, Any] = dict(request.query)
    for name in ("meta", "meta-data", "meta-compute", "meta-store"):
        if name in document:
            document[name] = _literal(name, document[name])
    return _checked(document)


def message(document: Document, *, payload: str, size: int, upload: Path | None = None, filename: str = "") -> Message:
    """Put a document and what came with it together.

    :raises InvalidRequest: it does not say what is wanted, or wants what no client gets
    """
    action = words(document, "action")
    section(document, "meta")
    refuse_control(document)
    return Message(action=action, document=document, size=size, payload=payload, upload=upload, filename=filename)


def answering(handler: Handler) -> Handler:
    """Wrap a handler: whatever goes wrong becomes the old services' negative answer.

    What is wrong with the request has status 200, as they had it. A token that is missing, a body that was not read to its end,
    and what is wrong with this server keep their own status beside it.
    """

    async def answered(request: web.Request) -> web.StreamResponse:
        return await _answered(request, handler)

    return answered


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        reason = (
            refusal.message if isinstance(refusal.message, str) else "; ".join(f"{k}: {v}" for k, v in refusal.message.items())
        )
        status = 200 if refusal.status == 400 else refusal.status
        return negative(reason, status=status, headers=refusal.headers)
    except PfmocError as error:
        response = error_response(error)
        headers = {name: value for name, value in response.headers.items() if name == "Retry-After"}
        if response.status < 500:
            return negative(_named(error.message))
        _log.warning("request could not be served", extra={"cause": error.message}, exc_info=error)
        return negative(error.message, status=response.status, headers=headers)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:  # noqa: BLE001 - a bug, or a fault of the machine: the client hears of it in its own manner
        _log.exception("request failed", extra={"method": request.method, "path": request.rel_url.raw_path})
        return negative(INTERNAL, status=500)


def negative(reason: str, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """``status: false``, with the reason, and the empty objects in which clients look for more."""
    return json_response({"status": False, "msg": reason, "d_ret": {}}, status=status, headers=headers)


def _literal(name: str, text: str) -> Any:
    """Read a Python literal, or JSON."""
    if len(text) > LITERAL_MAX:
        raise InvalidRequest(name, f"has more than {LITERAL_MAX} characters")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest(name, "is neither a Python literal nor JSON") from None


def _checked(document: Any) -> Document:
    if not isinstance(document, dict):
        raise InvalidRequest("document", "must be an object")
    check_shape(document)
    return document


def _named(text: str) -> str:
    """Name the part as it is called here: storage knows the upload by pfcon's name for it."""
    return UPLOAD + text.removeprefix(forms.FILE_FIELD) if text.startswith(f"{forms.FILE_FIELD}:") else text
