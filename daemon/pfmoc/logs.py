"""Logs: one JSON object per event on standard error, with what is secret taken out on the way.

Call sites say ``log.info("job started", extra={...})``. The ids of the request and job at hand come from context variables, so
they are in every record made on a request's behalf, whichever module makes it. Redaction sits in the one formatter that every
record passes, not in calls that one must remember.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request at hand."""
jid: ContextVar[str | None] = ContextVar("jid", default=None)
"""Job id of the request at hand."""

REDACTED = "[redacted]"

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_SECRET_MIN = 4
"""A configured secret shorter than this would redact half of all ordinary text."""
_TEXT_MAX = 16 << 10
"""Characters of one value in a record. A megabyte of a client's text is no use to a reader of logs."""
_TOKEN_MAX = 4 << 10
"""Characters of the longest credential that is looked for."""
_PATTERNS = (
    (re.compile(r"\bBearer\s++[^\s\"',;]++", re.IGNORECASE), "Bearer " + REDACTED),
    (re.compile(r"\beyJ[\w-]{5,2048}+\.[\w-]++\.?[\w-]*+"), REDACTED),
    (
        re.compile(r"\b((?=\w*?(?:TOKEN|PASSWORD|PASSWD|SECRET))\w++[\"']?\s*+[=:]\s*+)[\"']?[^\s\"',}]++", re.IGNORECASE),
        r"\1" + REDACTED,
    ),
)
"""What looks like a credential, whoever's it is: an authorization header, a JWT, and ``CHRIS_USER_TOKEN=...`` and the like.
The quantifiers are possessive, so that hostile text costs no more than any other."""


def name_request(given: str = "") -> str:
    """Give the request at hand an id, the client's own if that is a sane one, and return it."""
    name = given if _SANE_ID.fullmatch(given) else secrets.token_hex(8)
    request_id.set(name)
    return name


class Redaction:
    """Takes secrets out of text.

    :param configured: values never to be shown, besides what looks like a credential anyway
    """

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self._secrets = sorted({secret for secret in configured if len(secret) >= _SECRET_MIN}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return the text without its secrets, and no longer than a record should hold."""
        length = len(text)
        text = text[: _TEXT_MAX + _TOKEN_MAX]  # so that no credential is cut in two before it is looked for
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text if length <= _TEXT_MAX else f"{text[:_TEXT_MAX]}... ({length} characters)"

    def value(self, value: Any) -> Any:
        """Return any value of a record redacted; what JSON does not know becomes text."""
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(key)): self.value(item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(item) for item in value]
            case _:
                return self.text(str(value))


class Formatter(JsonFormatter):
    """Renders a record as one line of JSON; control characters come out as escapes, so a record cannot forge another."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__(rename_fields={"message": "event"})
        self._redaction = redaction

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Put what every record has in front of what this one has besides."""
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        log_data["level"] = record.levelname.lower()
        log_data["event"] = ""
        log_data["logger"] = record.name
        log_data["request_id"] = request_id.get()
        log_data["jid"] = jid.get()
        super().add_fields(log_data, record, message_dict)
        for name in ("request_id", "jid"):
            if log_data[name] is None:
                del log_data[name]

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Redact every value."""
        return {key: self._redaction.value(value) for key, value in log_data.items()}


def configure(*, redact: Iterable[str] = (), stream: TextIO | None = None, level: int = logging.INFO) -> logging.Handler:
    """Send every logger's records to one JSON handler, Python's own warnings included.

    :param redact: values never to be shown
    :param stream: where to; standard error by default
    :returns: the handler, which replaces all others of the root logger
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Formatter(Redaction(redact)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    return handler
