"""The object store that a daemon and its users share: where a user puts inputs and finds outputs.

It takes what CUBE would have: an application credential of the tenant's project. Needs the packages of the group ``infra``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

AT_ONCE = 4
RETRIES = 3


class StoreError(Exception):
    """The store cannot be used; the text is for people."""


class Store:
    """A container of Swift.

    :param settings: ``OS_*`` of an application credential, ``SWIFT_CONTAINER_NAME``
    :raises StoreError: it does not let us in
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        try:
            import swiftclient  # noqa: PLC0415 - only where there is a store, and its package with it
            from keystoneauth1.exceptions import ClientException  # noqa: PLC0415 - the same
            from keystoneauth1.identity.v3 import ApplicationCredential  # noqa: PLC0415 - the same
            from keystoneauth1.session import Session  # noqa: PLC0415 - the same
        except ModuleNotFoundError as error:
            raise StoreError(f"there is no Python package {error.name}; install it: uv sync --inexact --group infra") from error
        self._errors: tuple[type[Exception], ...] = (swiftclient.ClientException, ClientException, OSError)
        try:
            self.container = settings["SWIFT_CONTAINER_NAME"]
            credential = ApplicationCredential(
                auth_url=settings["OS_AUTH_URL"],
                application_credential_id=settings["OS_APPLICATION_CREDENTIAL_ID"],
                application_credential_secret=settings["OS_APPLICATION_CREDENTIAL_SECRET"],
            )
        except KeyError as error:
            raise StoreError(f"{error.args[0]} is missing where the daemon's access is described") from error
        options = {"region_name": settings.get("OS_REGION_NAME"), "interface": settings.get("OS_INTERFACE", "public")}
        session = Session(auth=credential, verify=settings.get("OS_CACERT", True))

        def connect() -> Any:
            return swiftclient.Connection(session=session, os_options=options, retries=RETRIES)

        self._connect = connect

    def put(self, directory: Path, prefix: str) -> None:
        """Upload the files of a directory below a prefix."""

        def one(path: Path) -> None:
            with path.open("rb") as source:
                name = f"{prefix}/{path.relative_to(directory).as_posix()}"
                self._connect().put_object(self.container, name, source, content_length=path.stat().st_size)

        self._all(one, (path for path in sorted(directory.rglob("*")) if path.is_file()))

    def get(self, prefix: str, directory: Path) -> None:
        """Download all below a prefix."""

        def one(name: str) -> None:
            path = directory / name.removeprefix(f"{prefix}/")
            if ".." in path.parts:
                raise StoreError(f"{name} leads out of {directory}")
            path.parent.mkdir(parents=True, exist_ok=True)
            _, chunks = self._connect().get_object(self.container, name, resp_chunk_size=1 << 20)
            with path.open("wb") as file:
                file.writelines(chunks)

        self._all(one, self.names(prefix))

    def names(self, prefix: str) -> list[str]:
        """Names of the objects below a prefix; of everything if it is empty."""
        try:
            _, found = self._connect().get_container(self.container, prefix=f"{prefix}/" if prefix else "", full_listing=True)
        except self._errors as error:
            raise StoreError(f"{self.container} cannot be read: {error}") from error
        return [entry["name"] for entry in found]

    def delete(self, prefix: str) -> None:
        """Delete all below a prefix."""
        self._all(lambda name: self._connect().delete_object(self.container, name), self.names(prefix))

    def _all(self, deed: Callable[[Any], None], things: Iterable[Any]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                list(pool.map(deed, things))
            except self._errors as error:
                raise StoreError(f"the container {self.container} failed: {error}") from error
