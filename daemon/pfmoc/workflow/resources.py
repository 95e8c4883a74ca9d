"""The resources file: which compute resources there are, and where their passwords come from.

Passwords never stand in argv. A file that holds one is refused while its group or others may read it.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from pfmoc.workflow.documents import Name, NotEmpty, read_yaml, unique_names, validated
from pfmoc.workflow.problems import Problems

VARIABLE = "PFMOC_RESOURCES"
"""Names the resources file, where no option does."""
_API = "/api/v1/"


class ResourceEntry(BaseModel):
    """One compute resource, as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    url: str
    """Of its API, ``http://host:5005/api/v1/``."""
    user: Annotated[str, NotEmpty]
    password: SecretStr | None = None
    password_env: Annotated[str, NotEmpty] | None = None
    """The environment variable that holds the password."""
    password_file: Path | None = None
    """The file that holds the password, relative to the resources file."""
    ca_file: Path | None = None
    """Certificates that an https server is checked against, PEM, relative to the resources file; the system's by default."""
    shared: Path | None = None
    """For ``filesystem`` and ``fslink``: where this machine sees the resource's storeBase."""
    parallel: Annotated[int, Field(ge=1, le=1000)] = 4
    """Nodes that run there at the same time."""
    patience: Annotated[float, Field(gt=0, le=86400)] = 600
    """Seconds for which a resource that does not answer is asked again."""

    @field_validator("url")
    @classmethod
    def _is_api(cls, text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must begin with http:// or https:// and name a host")
        if "@" in parts.netloc:
            raise ValueError("must not hold a user or password; they have fields of their own")
        if parts.query or parts.fragment:
            raise ValueError("must end with the path")
        _ = parts.port  # raises ValueError for what is none
        path = parts.path.rstrip("/") + "/"
        if not path.endswith(_API):
            raise ValueError(f"must end in {_API}")
        return f"{parts.scheme}://{parts.netloc}{path}"

    @model_validator(mode="after")
    def _has_one_password(self) -> Self:
        given = [name for name in ("password", "password_env", "password_file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "needs exactly one of password_env, password_file and password; found " + (", ".join(given) or "none")
            )
        return self


class ResourcesDocument(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resources: Annotated[tuple[ResourceEntry, ...], NotEmpty]

    _unique = field_validator("resources")(unique_names)


class Resource:
    """A compute resource with its password.

    :param entry: as the file has it, paths made absolute
    :param password: in memory only
    """

    def __init__(self, entry: ResourceEntry, password: SecretStr, tls: ssl.SSLContext | None = None) -> None:
        self.entry = entry
        self.name = entry.name
        self.url = entry.url
        self.user = entry.user
        self.password = password
        self.tls = tls

    def __repr__(self) -> str:
        return f"Resource({self.name!r}, {self.url!r})"


def default_path(environ: Mapping[str, str]) -> Path:
    """Where the resources file is looked for: ``PFMOC_RESOURCES``, or ``pfmoc/resources.yml`` in the user's configuration."""
    if named := environ.get(VARIABLE):
        return Path(named)
    config = environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "pfmoc" / "resources.yml"


def load(path: Path, *, environ: Mapping[str, str]) -> dict[str, Resource]:
    """Read the file, and the passwords that it points at.

    :raises Problems: all that is wrong with it
    """
    document = validated(ResourcesDocument, read_yaml(path), path=path)
    resources: dict[str, Resource] = {}
    wrong: list[str] = []
    for entry in document.resources:
        try:
            resources[entry.name] = _resolved(entry, path, environ)
        except _Wrong as error:
            wrong.append(f"{path}: resource {entry.name}: {error}")
    if wrong:
        raise Problems(wrong)
    return resources


class _Wrong(ValueError):
    pass


def _resolved(entry: ResourceEntry, path: Path, environ: Mapping[str, str]) -> Resource:
    shared = entry.shared and path.parent / entry.shared
    if shared is not None and not shared.is_dir():
        raise _Wrong(f"shared: there is no directory {shared}")
    tls = None
    if entry.ca_file is not None:
        if not entry.url.startswith("https:"):
            raise _Wrong("ca_file: makes no sense without https")
        try:
            tls = ssl.create_default_context(cafile=str(path.parent / entry.ca_file))
        except OSError as error:
            raise _Wrong(f"ca_file: {path.parent / entry.ca_file}: {error.strerror or error}") from None
    return Resource(entry.model_copy(update={"shared": shared}), _password(entry, path, environ), tls)


def _password(entry: ResourceEntry, path: Path, environ: Mapping[str, str]) -> SecretStr:
    if entry.password_env is not None:
        password = environ.get(entry.password_env, "")
        if not password:
            raise _Wrong(f"password_env: the environment has no {entry.password_env}")
        return SecretStr(password)
    if entry.password_file is not None:
        file = path.parent / entry.password_file
        _require_private(file, "password_file")
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
        if not password:
            raise _Wrong(f"password_file: {file} is empty")
        return SecretStr(password)
    _require_private(path, "password")
    assert entry.password is not None  # noqa: S101 - the model saw to it
    return entry.password


def _require_private(file: Path, field: str) -> None:
    try:
        found = file.stat()
    except OSError as error:
        raise _Wrong(f"{field}: {file}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise _Wrong(f"{field}: {file} is no regular file")
    if found.st_mode & 0o077:
        raise _Wrong(f"{field}: {file} holds a password and others may read it; chmod 600 {file}")
    if not os.access(file, os.R_OK):
        raise _Wrong(f"{field}: {file} cannot be read")
