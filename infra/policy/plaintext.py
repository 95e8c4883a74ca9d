"""Secrets that are not marked as such, in what the engine is given and in the state that it keeps.

The engine encrypts what is marked as secret, and only that. A value is taken for a secret by the key that it stands under, and
by what it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import Secret

SIGNATURE, SECRET_MARK = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
"""How the engine marks a secret in JSON: an object with this key and this value."""
_KEY = re.compile(
    r"(^|[-_.])(pass(word|wd|phrase)?s?|secret|token|(private|secret|access)[-_]?key|temp[-_]?url[-_]?key([-_]2)?)$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CONTENT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|client-key-data:|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.")
_KUBERNETES_SECRET = "kubernetes:core/v1:Secret"  # noqa: S105 - the name of a type
_SECRET_FIELDS = ("data", "stringData")


def exposed(kind: str, value: Any) -> Iterator[str]:
    """Find what is not marked and should be.

    :param kind: the resource's type
    :param value: its inputs or outputs, with the marks of what is secret
    :returns: where each stands, ``metadata.Temp-Url-Key``
    """
    for path, key, text in _leaves(value, ()):
        in_secret = kind == _KUBERNETES_SECRET and path[0] in _SECRET_FIELDS
        if text and (in_secret or _CONTENT.search(text) or _KEY.search(_CAMEL.sub("_", key))):
            yield ".".join(path)


def in_state(deployment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find what the state holds in the clear.

    :param deployment: what ``pulumi stack export`` prints, below ``deployment``
    :returns: the resource's URN, and where in it
    """
    for resource in deployment.get("resources") or ():
        for part in ("inputs", "outputs"):
            for path in exposed(resource["type"], resource.get(part) or {}):
                yield resource["urn"], f"{part}.{path}"


def raw(value: Any) -> Any:
    """Inputs as the policy SDK hands them to a remediation, with the marks that its proxies hide at every level."""
    if isinstance(value, Mapping):
        return {key: raw(below) for key, below in (value if isinstance(value, dict) else value["__target"]).items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [raw(below) for below in (value if isinstance(value, list) else value["__target"])]  # type: ignore[call-overload]
    return value


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """All texts that no mark covers, with the nearest key that is a name."""
    if isinstance(value, Secret) or (isinstance(value, Mapping) and value.get(SIGNATURE) == SECRET_MARK):
        return
    if isinstance(value, Mapping):
        for key, below in value.items():
            if not str(key).startswith("__"):
                yield from _leaves(below, (*path, str(key)))
    elif isinstance(value, str):
        yield path, next((step for step in reversed(path) if not step.isdigit()), ""), value
    elif isinstance(value, Sequence):
        for index, below in enumerate(value):
            yield from _leaves(below, (*path, str(index)))
