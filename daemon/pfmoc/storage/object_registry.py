"""Make the storage in an object store that the settings ask for."""

from __future__ import annotations

import ssl
from pathlib import Path

from pfmoc.objects.identity import Identity, KeystoneIdentity, V1Identity, application_credential
from pfmoc.objects.rights import Rights
from pfmoc.objects.s3 import S3Store
from pfmoc.objects.sigv4 import Signer
from pfmoc.objects.swift import SwiftStore
from pfmoc.settings import Settings
from pfmoc.storage.object_storage import Tuning
from pfmoc.storage.s3 import S3Storage
from pfmoc.storage.swift import SwiftStorage


def open_swift(settings: Settings) -> SwiftStorage:
    """Make the storage in Swift, signed in to by Keystone or by version 1."""
    store = SwiftStore(
        identity=_identity(settings),
        container=settings.swift_container_name,
        interface=settings.os_interface,
        pod_interface=settings.pod_os_interface if settings.travels else None,
        trust=_trust(settings.os_cacert),
    )
    rights = Rights(
        store,
        key=settings.swift_tempurl_key.get_secret_value() or None,
        secret=settings.secret_key.get_secret_value(),
        slot=int(settings.swift_tempurl_slot) if settings.swift_tempurl_slot else None,
    )
    return SwiftStorage(
        store,
        rights,
        limit=settings.max_objects,
        gathered=settings.max_gathered,
        tuning=_tuning(settings),
        authorities=settings.os_cacert.read_text() if settings.os_cacert else None,
        described={"swift_auth_url": settings.swift_auth_url or settings.os_auth_url or ""},
    )


def open_s3(settings: Settings) -> S3Storage:
    """Make the storage in S3."""
    store = S3Store(
        endpoint=settings.s3_endpoint_url or "",
        bucket=settings.s3_bucket_name,
        signer=Signer(
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
            region=settings.s3_region_name,
        ),
    )
    described = {"s3_endpoint_url": settings.s3_endpoint_url or ""}
    return S3Storage(
        store, limit=settings.max_objects, gathered=settings.max_gathered, tuning=_tuning(settings), described=described
    )


def _identity(settings: Settings) -> Identity:
    trust = _trust(settings.os_cacert)
    if settings.os_auth_url:
        method = application_credential(
            id=settings.os_application_credential_id, secret=settings.os_application_credential_secret.get_secret_value()
        )
        return KeystoneIdentity(auth_url=settings.os_auth_url, method=method, region=settings.os_region_name, trust=trust)
    return V1Identity(
        auth_url=settings.swift_auth_url or "",
        user=settings.swift_username,
        key=settings.swift_key.get_secret_value(),
        trust=trust,
    )


def _trust(authorities: Path | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=str(authorities)) if authorities else None


def _tuning(settings: Settings) -> Tuning:
    return Tuning(publish_s=settings.publish_deadline_s, max_bytes=settings.max_unpacked_bytes)
