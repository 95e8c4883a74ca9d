"""What stands in a document, and what is wrong with it. Unknown keys are ignored: the seeds put ``comment`` everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pfmoc.compute.base import Limits
from pfmoc.dialects.fields import BadValue, text
from pfmoc.errors import InvalidRequest
from pfmoc.jobs.names import check_jid

Document = Mapping[str, Any]

DEPTH_MAX = 32
"""Levels of nesting. The deepest message that a client ever sent has six."""

_MILLICORES = re.compile(r"(\d{1,9})(m?)", re.ASCII)
_MEMORY = re.compile(r"(\d{1,12})\s*([KMGT]?)(i?)B?", re.ASCII)
_MIB_OF = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)


def check_shape(value: Any) -> None:
    """Check that a value is one that JSON can hold, and no deeper than sense.

    :raises InvalidRequest: it is not
    """
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [below for one in level for below in _below(one)]
        if not level:
            break
    else:
        raise InvalidRequest("document", f"is nested more than {DEPTH_MAX} levels deep")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest("document", f"holds what JSON cannot: {error}") from None


def find(document: Document, *path: str) -> Any:
    """Return what is at a path, None where there is nothing."""
    found: Any = document
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def section(document: Document, *path: str) -> Document:
    """Return the object at a path; an absent one is empty.

    :raises InvalidRequest: something else is there
    """
    found = find(document, *path)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise InvalidRequest(".".join(path), "must be an object")
    return found


def words(document: Document, *path: str, default: str | None = None) -> str:
    """Return the text at a path; a number counts as its digits.

    :param default: what an absent or null one is; None where it is required
    :raises InvalidRequest: it is required and absent, or no text
    """
    found = find(document, *path)
    if found is None and default is not None:
        return default
    if found is None:
        raise InvalidRequest(".".join(path), "is required")
    try:
        return text(found)
    except BadValue as bad:
        raise InvalidRequest(".".join(path), str(bad)) from None


def key_at(document: Document, *path: str) -> str:
    """Return the key at a path: the name of a job, and of its data.

    :raises InvalidRequest: it is absent, or not fit to be one
    """
    given = words(document, *path)
    try:
        return check_jid(given)
    except InvalidRequest as bad:
        raise InvalidRequest(".".join(path), bad.message.partition(": ")[2]) from None


def truth(value: Any) -> bool:
    """Read a flag as the old services did, which asked for truth and not for a type; texts by their meaning."""
    return value.strip().lower() in ("1", "true", "yes") if isinstance(value, str) else bool(value)


def replaced(value: Any, old: str, new: str) -> Any:
    """Return a copy in which every text has ``new`` for ``old``; names of keys stay."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Mapping):
        return {name: replaced(below, old, new) for name, below in value.items()}
    if isinstance(value, list):
        return [replaced(below, old, new) for below in value]
    return value


def refuse_control(document: Document) -> None:
    """Refuse what would control the server itself, wherever it stands beside the action.

    :raises InvalidRequest: ``meta.ctl`` (quit), or a server path instead of a key
    """
    for name in ("meta", "meta-data"):
        if find(document, name, "ctl") is not None:
            raise InvalidRequest(f"{name}.ctl", "this server is not controlled by its clients")
        if find(document, name, "remote", "path") is not None:
            raise InvalidRequest(f"{name}.remote.path", "clients name data by remote.key, never by a path of the server")


def limits(meta: Document, where: str) -> Limits:
    """Read the four limits, as numbers or as texts such as ``2000m`` and ``1024Mi``; absent ones are those of pman on OpenShift.

    :param where: the name of ``meta``, for complaints
    :raises InvalidRequest: names the field
    """
    return Limits(
        number_of_workers=_whole(meta, where, "number_of_workers", default=1),
        cpu_millicores=_cpu(meta, where),
        memory_mib=_memory(meta, where),
        gpus=_whole(meta, where, "gpu_limit", default=0),
    )


def _below(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise InvalidRequest("document", "has a key that is no text")
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def _whole(meta: Document, where: str, name: str, *, default: int) -> int:
    given = _given(meta, where, name)
    if not given:
        return default
    if not _WHOLE.fullmatch(given):
        raise InvalidRequest(f"{where}.{name}", "must be a whole number")
    return int(given)


def _cpu(meta: Document, where: str) -> int:
    given = _given(meta, where, "cpu_limit")
    if not given:
        return 2000
    match = _MILLICORES.fullmatch(given)
    if match is None:
        raise InvalidRequest(f"{where}.cpu_limit", "must be millicores, such as 1000 or 2000m")
    return int(match[1])


def _memory(meta: Document, where: str) -> int:
    given = _given(meta, where, "memory_limit")
    if not given:
        return 1024
    match = _MEMORY.fullmatch(given)
    if match is None:
        raise InvalidRequest(f"{where}.memory_limit", "must be MiB, such as 200, 1024Mi or 4Gi")
    return max(1, round(int(match[1]) * _MIB_OF[match[2]]))


def _given(meta: Document, where: str, name: str) -> str:
    value = meta.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidRequest(f"{where}.{name}", "must be a number")
    return str(value).strip()
