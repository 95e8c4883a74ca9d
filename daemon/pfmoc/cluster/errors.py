"""What the API server's answers mean, each on its own.

All are errors of the compute environment (``pfmoc.errors``), so each has its status for a client whoever lets it through. Only
``Absent`` says that something is not there, and only an API server that is well says it.
"""

from __future__ import annotations

import json
from typing import Any

from pfmoc.errors import ComputeRefused, ComputeUnavailable

_TEXT_MAX = 1000
"""Characters of an answer that are passed on."""
_RETRY_AFTER_S = 5
"""Seconds, where the server does not say how long to wait."""


class ClusterUnavailable(ComputeUnavailable):
    """No answer, or one that says "not now": 429, 5xx, rejected credentials, or an answer that is not the API server's."""


class TooBusy(ClusterUnavailable):
    """429: it has not begun with this, and says after how many seconds it may (``retry_after``)."""


class ServerError(ClusterUnavailable):
    """5xx, said by the API server itself: it answers, and something behind it (etcd, a webhook, a kubelet) does not."""


class WatchStalled(ClusterUnavailable):
    """A watch that the server should have ended by now, and has not."""


class ClusterRefused(ComputeRefused):
    """The API server refused. ``engine_status`` is its status."""


class Forbidden(ClusterRefused):
    """403: this daemon may not, or a quota or an admission controller does not allow it."""


class Absent(ClusterRefused):
    """404, said by the API server itself."""


class AlreadyThere(ClusterRefused):
    """409 to a create: there is one of that name."""


class Outdated(ClusterRefused):
    """409 to a change: somebody else has changed it since it was read."""


class Gone(ClusterRefused):
    """410: the resource version, or the place in a listing, is too old."""


class Unfit(ClusterRefused):
    """400 or 422: the object is not valid. The message names the field."""


_BY_STATUS: dict[int, type[ClusterRefused]] = {400: Unfit, 403: Forbidden, 404: Absent, 410: Gone, 422: Unfit}


def of_answer(status: int, body: bytes, *, retry_after: str | None = None) -> ClusterUnavailable | ClusterRefused:
    """The error for an answer of 400 or more.

    :param retry_after: the header, which is in seconds
    """
    told = _status_object(body)
    if told is None:
        # A proxy on the way says 404, 403 or 503 as well. Nothing follows from that for what is in the cluster.
        text = body[:_TEXT_MAX].decode(errors="replace").strip()
        return ClusterUnavailable(f"not the cluster's API server answered {status}: {text}")
    message = str(told.get("message") or told.get("reason") or f"status {status}")[:_TEXT_MAX]
    if status == 401:
        return ClusterUnavailable(f"the cluster does not accept this daemon's credentials: {message}")
    if status == 429 or status >= 500:
        # The header says so; of a watch that has begun, the object.
        wait = retry_after or str((told.get("details") or {}).get("retryAfterSeconds", ""))
        refusal = TooBusy if status == 429 else ServerError
        text = f"the cluster's API server answered {status}: {message}"
        return refusal(text, retry_after=int(wait) if wait.isdecimal() else _RETRY_AFTER_S)
    if status == 409:
        kind: type[ClusterRefused] = AlreadyThere if told.get("reason") == "AlreadyExists" else Outdated
    else:
        kind = _BY_STATUS.get(status, ClusterRefused)
    return kind(message, engine_status=status)


def of_event(told: dict[str, Any]) -> ClusterUnavailable | ClusterRefused:
    """The error for the object of an ERROR event of a watch."""
    code = told.get("code")
    return of_answer(code if isinstance(code, int) and code >= 400 else 500, json.dumps(told).encode())


def _status_object(body: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) and told.get("kind") == "Status" else None
