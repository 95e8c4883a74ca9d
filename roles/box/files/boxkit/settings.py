"""What the box as a whole was asked to be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from boxkit.layout import Layout, read_json


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Kept in conf/box.json.

    :param profile: what the groups are together called
    :param groups: the groups of services that are wanted
    :param port_base: the first port on the host
    :param cgroup: below it, in every hierarchy, lies what containers make
    """

    profile: str = ""
    groups: Sequence[str] = ()
    port_base: int = 0
    cgroup: str = ""


def settings(layout: Layout) -> Settings:
    """As they were last written; empty ones for a box that is not made."""
    document = read_json(layout.conf / "box.json") or {}
    known = {each.name for each in fields(Settings)}
    return Settings(**{key: value for key, value in document.items() if key in known})


def as_text(wanted: Settings) -> str:
    """The content of the file."""
    return json.dumps(asdict(wanted), indent=1) + "\n"
