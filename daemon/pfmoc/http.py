"""What every dialect has in common on the wire: JSON as upstream renders it, refusals, and errors mapped to statuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pfmoc import errors

_log = logging.getLogger(__name__)

SERVER = "pfmoc"
"""The ``Server`` header."""

MALFORMED = "The browser (or proxy) sent a request that this server could not understand."
NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again."
)
NOT_ALLOWED = "The method is not allowed for the requested URL."
TOO_LARGE = "The data value transmitted exceeds the capacity limit."
INTERNAL = "Internal Server Error"

_ENGINE_STATUS_MIN = 400


class Refusal(Exception):
    """An answer other than the one asked for, decided on the HTTP side.

    :param message: value of ``message`` in the body: a sentence, or a text for each field that is at fault
    :param cause: what the log is told besides; never sent
    """

    def __init__(
        self, status: int, message: str | Mapping[str, str], *, headers: Mapping[str, str] | None = None, cause: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.cause = cause


def malformed(cause: str) -> Refusal:
    """The refusal of a body that cannot be read."""
    return Refusal(400, MALFORMED, cause=cause)


def json_body(document: Any) -> bytes:
    """Render JSON byte for byte as upstream does: one blank after separators, ASCII only, a newline at the end (contract 1)."""
    return (json.dumps(document) + "\n").encode("ascii")


def json_response(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=json_body(document), status=status, headers=headers, content_type="application/json")


def no_content() -> web.Response:
    """The answer to a DELETE: empty, and yet labelled as JSON (contract 1)."""
    return web.Response(status=204, content_type="application/json")


def html_not_found() -> web.Response:
    """The page for a path that no route has (contract 1)."""
    page = f"<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>{NOT_FOUND}</p>\n"
    return web.Response(text=page, status=404, content_type="text/html")


def unavailable(reason: str, *, retry_after: int) -> web.Response:
    """503, with the seconds after which trying again makes sense."""
    return json_response({"message": reason}, status=503, headers={"Retry-After": str(retry_after)})


def error_response(error: errors.PfmocError) -> web.Response:
    """Map the daemon's family of errors to statuses."""
    headers: dict[str, str] = {}
    match error:
        case errors.InvalidRequest():
            status = 400
        case errors.NoSuchJob() | errors.NoSuchData():
            status = 404
        case errors.Conflict():
            status = 409
        case errors.TooLarge():
            status = 413
        case errors.Unavailable():
            status = 503
            headers["Retry-After"] = str(error.retry_after)
        case errors.StorageFull():
            status = 507
        case errors.ComputeRefused():
            status = _of_engine(error.engine_status)
        case _:
            status = 500
    return json_response({"message": error.message}, status=status, headers=headers)


def _of_engine(status: int) -> int:
    """An engine's status goes to the client as it is, but for its 500: that is an outage of ours (contract 2.4)."""
    if status == 500:
        return 503
    return status if status >= _ENGINE_STATUS_MIN else 500


async def answered(request: web.Request, handler: Any) -> web.StreamResponse:
    """Call a handler, and turn whatever it raises into an answer.

    :raises asyncio.CancelledError: the request was cancelled
    :raises ConnectionError: the client is gone
    """
    try:
        response: web.StreamResponse = await handler(request)
    except (Refusal, errors.PfmocError, web.HTTPException) as refusal:
        return _refused(refusal)
    except ConnectionError:
        raise
    except Exception:  # noqa: BLE001 - the one place where a bug, or a fault of the machine, becomes a bare 500
        _log.exception("request failed", extra={"method": request.method, "path": request.rel_url.raw_path})
        return json_response({"message": INTERNAL}, status=500)
    return response


def _refused(refusal: Refusal | errors.PfmocError | web.HTTPException) -> web.Response:
    match refusal:
        case Refusal():
            if refusal.cause:
                _log.info("request refused", extra={"status": refusal.status, "cause": refusal.cause})
            return json_response({"message": refusal.message}, status=refusal.status, headers=refusal.headers)
        case web.HTTPNotFound():
            return html_not_found()
        case web.HTTPMethodNotAllowed():
            allow = ", ".join(sorted(refusal.allowed_methods))
            return json_response({"message": NOT_ALLOWED}, status=405, headers={"Allow": allow})
        case web.HTTPException():
            return json_response({"message": refusal.reason}, status=refusal.status)
        case _:
            _note(refusal)
            return error_response(refusal)


def _note(error: errors.PfmocError) -> None:
    """Log what an operator should hear of: the cause of a 5xx."""
    if isinstance(error, errors.ComputeRefused) and error.engine_status < 500:
        return
    if isinstance(error, (errors.Unavailable, errors.StorageFull, errors.ComputeRefused)):
        _log.warning("request could not be served", extra={"cause": error.message, "kind": type(error).__name__}, exc_info=error)
