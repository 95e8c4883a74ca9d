"""Job ids, and the engine names made of them."""

from __future__ import annotations

import hashlib
import re

from pfmoc.errors import InvalidRequest

JID_MAX = 200
"""Characters. CUBE's own are below 30; a directory name may have 255 bytes and ``key-`` comes before it."""

JID_PATTERN = "[A-Za-z0-9][A-Za-z0-9_.-]*"

_JID = re.compile(JID_PATTERN)
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_DNS_LABEL_MAX = 63
_HASH_LENGTH = 10
_HASHED = re.compile(rf".*-[0-9a-f]{{{_HASH_LENGTH}}}")

RESERVED = frozenset(
    {"auth-token", "cmd", "copyjobs", "deletejobs", "health", "jobs", "openapi.json", "pluginjobs", "uploadjobs"}
)
"""Ids that the routes of some dialect would shadow (contract 0, URL collisions)."""


def check_jid(jid: str) -> str:
    """Return the job id when it is fit to name directories and runs.

    Upstream strips leading slashes, and nothing else; so do we, and then refuse what could leave its directory.

    :raises InvalidRequest: 400 that names the field
    """
    jid = jid.lstrip("/")
    if len(jid) > JID_MAX:
        raise InvalidRequest("jid", f"must have at most {JID_MAX} characters, has {len(jid)}")
    if not _JID.fullmatch(jid):
        raise InvalidRequest("jid", "must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'")
    if jid in RESERVED:
        raise InvalidRequest("jid", f"'{jid}' is the name of a route and cannot be a job id")
    return jid


def engine_name(jid: str, suffix: str = "") -> str:
    """Map a job id to a DNS label of at most 63 characters, one to one.

    An id that already is such a label stays as it is; any other is lowered, cleaned, cut, and told apart by a hash of the
    original. ``x.y`` and ``x_y`` get different names, and so do ``A`` and ``a``. One that ends as if it had been told apart that
    way is hashed too, or it could be chosen to be another's name.
    """
    plain = f"{jid}-{suffix}" if suffix else jid
    if len(plain) <= _DNS_LABEL_MAX and _DNS_LABEL.fullmatch(plain) and not _HASHED.fullmatch(plain):
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:_HASH_LENGTH]
    stem = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    return f"{stem[: _DNS_LABEL_MAX - _HASH_LENGTH - 1].rstrip('-')}-{digest}"
