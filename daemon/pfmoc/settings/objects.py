"""Settings of the storages ``swift`` and ``s3``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from pfmoc.settings.values import Group, named

_NONE = SecretStr("")
_URL = r"^https?://[^/\s]+"
Interface = Literal["public", "internal", "admin"]


class ObjectSettings(Group):
    """What concerns object stores. Names are upstream's for version 1 and S3, and OpenStack's own for Keystone."""

    swift_container_name: Annotated[str, Field(max_length=256, pattern="^[^/]*$")] = named("SWIFT_CONTAINER_NAME", default="")
    """Container that is the storage's root."""
    swift_auth_url: Annotated[str, Field(pattern=_URL)] | None = named("SWIFT_AUTH_URL", default=None)
    """Where to sign in by Swift's own version 1, with the next two; shown in server info."""
    swift_username: str = named("SWIFT_USERNAME", default="")
    """``account:user``."""
    swift_key: SecretStr = named("SWIFT_KEY", default=_NONE)
    """The password that goes with it."""
    os_auth_url: Annotated[str, Field(pattern=_URL)] | None = named("OS_AUTH_URL", default=None)
    """Keystone, where to sign in with an application credential. Goes before ``SWIFT_AUTH_URL``."""
    os_auth_type: Literal["v3applicationcredential"] = named("OS_AUTH_TYPE", default="v3applicationcredential")
    """No other way is known: a credential can be taken back alone, and needs no password of a person."""
    os_application_credential_id: str = named("OS_APPLICATION_CREDENTIAL_ID", default="")
    """Id of the application credential."""
    os_application_credential_secret: SecretStr = named("OS_APPLICATION_CREDENTIAL_SECRET", default=_NONE)
    """Its secret."""
    os_region_name: str | None = named("OS_REGION_NAME", default=None)
    """Region, where the catalogue has several."""
    os_interface: Interface = named("OS_INTERFACE", default="public")
    """Which of the catalogue's addresses of Swift the daemon uses."""
    os_cacert: Path | None = named("OS_CACERT", default=None)
    """Certificate authorities, PEM, by which Keystone and Swift are known. Default: the system's."""
    pod_os_interface: Interface | None = named("PFMOC_POD_OS_INTERFACE", default=None)
    """Which of the catalogue's addresses of Swift pods use. Default: the daemon's."""
    swift_tempurl_key: SecretStr = named("SWIFT_TEMPURL_KEY", default=_NONE)
    """Key with which the tickets of pods are signed, as it is set on the container or account."""
    swift_tempurl_slot: Literal["1", "2"] | None = named("SWIFT_TEMPURL_SLOT", default=None)
    """Which of the two key slots it is in; the other one serves the change of keys."""

    s3_endpoint_url: Annotated[str, Field(pattern=_URL)] | None = named("S3_ENDPOINT_URL", default=None)
    """The store; shown in server info."""
    s3_access_key: str = named("S3_ACCESS_KEY", default="")
    """Id of the key."""
    s3_secret_key: SecretStr = named("S3_SECRET_KEY", default=_NONE)
    """The key."""
    s3_bucket_name: str = named("S3_BUCKET_NAME", default="")
    """Bucket that is the storage's root."""
    s3_region_name: str = named("S3_REGION_NAME", default="us-east-1")
    """Region that requests are signed for."""

    max_objects: Annotated[int, Field(gt=0)] = named("PFMOC_MAX_OBJECTS", default=1_000_000)
    """Most objects of one job's input, where that is one directory without ``.chrislink`` files."""
    max_gathered: Annotated[int, Field(gt=0)] = named("PFMOC_MAX_GATHERED", default=400_000)
    """Most objects of one job's input where links are followed or directories are several. All of their names are held in memory
    then, some 500 bytes for each: two such inputs at a time fit into the daemon's pod."""
