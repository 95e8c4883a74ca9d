"""The reference pages that are made from the code, so that they cannot fall behind it."""

from __future__ import annotations

import re

from pydantic import AliasChoices, SecretStr
from pydantic_core import PydanticUndefined

from pfmoc.settings import Settings

_HEAD = """\
# Settings of the daemon

Read once, at start, from the environment and from `--env-file` (or `.env`); the environment wins. Names without `PFMOC_` are
upstream's. Booleans are `true/false`, `yes/no`, `on/off`, `1/0` in any case. A daemon that finds mistakes lists them all and does
not start.

With nothing set but `PORT`, `PFMOC_HOST` or `DOCKER_HOST` the daemon is *embedded*: loopback, zip storage and processes below
`~/.cache/pfmoc/embedded`, development credentials.

`STORE_ENV=mount` with `STOREBASE` is read as `STOREBASE_MOUNT`, and `SECURITYCONTEXT_RUN_AS_USER` / `_GROUP` as `CONTAINER_USER`.

This page is made by `python -m pfmoc settings`.

| Variable | Default | Meaning |
|---|---|---|
"""


def settings_page() -> str:
    """The reference of all settings, in Markdown."""
    return _HEAD + "".join(_row(name) for name in Settings.model_fields)


def _row(name: str) -> str:
    info = Settings.model_fields[name]
    if not isinstance(info.validation_alias, AliasChoices):
        raise TypeError(f"setting {name} has no variable")
    variables = ", ".join(f"`{choice}`" for choice in info.validation_alias.choices)
    meaning = re.sub(r"\s+", " ", info.description or "").replace("``", "`").replace("|", "\\|")
    return f"| {variables} | {_default(name)} | {meaning} |\n"


def _default(name: str) -> str:
    info = Settings.model_fields[name]
    value = info.default
    if value is PydanticUndefined or value is None or value == () or isinstance(value, SecretStr) or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value}`"
