"""Object-store containers."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from infra.spec.base import Bytes, Count, Model, Text
from infra.spec.problems import wrong

NAME_BYTES = 256
"""Swift's `max_container_name_length`."""

_REFERRER = re.compile(r"\.r:(\*|-?[A-Za-z0-9][A-Za-z0-9.-]*|-?\.[A-Za-z0-9][A-Za-z0-9.-]*)")
_PAIR = re.compile(r"[^:,.\s][^:,\s]*:[^:,\s]+")
_ROLE = re.compile(r"[A-Za-z_][\w-]*")


def _container_name(text: str) -> str:
    if "/" in text or "\x00" in text:
        raise wrong(f"'{text}' has a '/', which ends a container's name in Swift", "use '-' or '.'")
    if len(text.encode()) > NAME_BYTES:
        raise wrong(f"the name takes {len(text.encode())} bytes, and Swift takes {NAME_BYTES}", "shorten it")
    return text


def _read_element(text: str) -> str:
    if text == ".rlistings" or _REFERRER.fullmatch(text):
        return text
    return _element(text)


def _write_element(text: str) -> str:
    if text.startswith("."):
        raise wrong(
            f"'{text}' is for reading only: Swift takes no referrers in a write ACL", "name who may write, as TENANT:USER"
        )
    return _element(text)


def _element(text: str) -> str:
    if not (_PAIR.fullmatch(text) or _ROLE.fullmatch(text)):
        raise wrong(
            f"'{text}' is not an element of a Swift ACL",
            "write TENANT:USER or a Keystone role, either side may be '*'; for reading also .r:*, .r:HOST, .r:-HOST, .rlistings",
        )
    return text


ReadElement = Annotated[str, AfterValidator(_read_element)]
WriteElement = Annotated[str, AfterValidator(_write_element)]


class TempUrl(Model):
    """Keys that sign time-limited addresses. Swift keeps two, so that one can be changed while the other still counts."""

    generation: Annotated[int, Field(ge=1)] = 1
    """Number of the key that signs today. Raise it by one to rotate: the new key takes the slot of the one before the last, and
    addresses signed by the last stay good until the next rotation."""


class Container(Model):
    """A Swift container of the tenant."""

    name: Annotated[str, Field(min_length=1), AfterValidator(_container_name)]
    """Its name, in the tenant's account: at most 256 bytes, no `/`."""
    storage_policy: Text | None = None
    """Where and how often Swift keeps it; cannot be changed afterwards. Default: the cluster's. From `curl $SWIFT/info`."""
    quota_bytes: Bytes | None = None
    """Bytes that it may hold; unset: without limit but the account's."""
    quota_objects: Count | None = None
    """Objects that it may hold; unset: without limit."""
    read: tuple[ReadElement, ...] = ()
    """Who may read beside the tenant: Swift's ACL elements. `TENANT:USER` and `TENANT:*` name tenants and users of this file and
    become ids; `.r:*` is everybody, `.rlistings` lets them list."""
    write: tuple[WriteElement, ...] = ()
    """Who may write beside the tenant: `TENANT:USER`, `TENANT:*`, roles."""
    versioning: bool = False
    """Keep what is overwritten or deleted. Excludes `expire_after_days` as a means to save room: versions count in the quota."""
    expire_after_days: Annotated[int, Field(ge=1)] | None = None
    """Days after which objects go. Swift has no such rule for a container; it is written into the container's metadata, and
    pfmoc puts it on each output of a job (`X-Delete-After`)."""
    tempurl: TempUrl | None = None
    """Keys for time-limited addresses; unset: none."""
