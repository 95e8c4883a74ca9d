"""Object stores of the box, as the daemon uses them, and the mover as a pod runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from harness.box import Box
from harness.tenants import Tenant
from pfmoc.backoff import Backoff
from pfmoc.objects.base import ObjectStore
from pfmoc.objects.identity import Identity, KeystoneIdentity, Session
from pfmoc.objects.rights import Rights
from pfmoc.objects.s3 import S3Store
from pfmoc.objects.sigv4 import Signer
from pfmoc.objects.swift import SwiftStore
from pfmoc.objects.transport import Patience, Transport
from pfmoc.storage.object_storage import Tuning
from pfmoc.storage.swift import SwiftStorage

HASTY = Patience(attempts=8, backoff=Backoff(first_s=0.05, longest_s=0.5, factor=2.0), silence_s=20.0, window_s=2.0)
SECRET = "the daemon's own secret of these tests"
MEBIBYTE = 1 << 20


class Through(KeystoneIdentity):
    """Keystone, whose catalogue leads to a proxy."""

    def __init__(self, proxy: str | None, **how: Any) -> None:
        super().__init__(**how)
        self._proxy = proxy
        self.logins = 0

    async def _signed_in(self, transport: Transport) -> Session:
        self.logins += 1
        session = await super()._signed_in(transport)
        if self._proxy is None:
            return session
        return replace(session, accounts={name: self._proxy + urlsplit(url).path for name, url in session.accounts.items()})


def identity_of(box: Box, tenant: Tenant, proxy: str | None = None) -> Through:
    domain = {"name": "Default"}
    return Through(
        proxy,
        auth_url=f"http://127.0.0.1:{box.port(0)}",
        method={
            "methods": ["password"],
            "password": {"user": {"name": tenant.name, "password": tenant.password, "domain": domain}},
        },
        scope={"project": {"name": tenant.name, "domain": domain}},
        patience=HASTY,
    )


@asynccontextmanager
async def swift_store(identity: Identity, container: str, **how: Any) -> AsyncIterator[SwiftStore]:
    store = SwiftStore(identity=identity, container=container, patience=HASTY, **how)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def swift_storage(
    identity: Identity, container: str, *, limit: int = 100_000, key: str | None = None, tuning: Tuning | None = None, **how: Any
) -> AsyncIterator[SwiftStorage]:
    async with swift_store(identity, container, **how) as store:
        yield SwiftStorage(store, Rights(store, key=key, secret=SECRET), limit=limit, tuning=tuning)


def s3_store(box: Box, tenant: Tenant, bucket: str, *, proxy: str | None = None, **how: Any) -> S3Store:
    """The same container by the other door, with a key that Keystone gives."""
    answer = tenant.cloud.session.post(
        f"/users/{tenant.user_id}/credentials/OS-EC2",
        endpoint_filter={"service_type": "identity", "version": (3, 0)},
        json={"tenant_id": tenant.project_id},
    )
    made = answer.json()["credential"]
    signer = Signer(access_key=made["access"], secret_key=made["secret"])
    return S3Store(endpoint=proxy or f"http://127.0.0.1:{box.port(6)}", bucket=bucket, signer=signer, patience=HASTY, **how)


async def fill(store: ObjectStore, tree: Mapping[str, bytes | str]) -> None:
    """Write objects."""
    async with asyncio.TaskGroup() as group:
        for name, content in tree.items():
            data = content.encode() if isinstance(content, str) else content
            group.create_task(store.write(name, data, kind="application/octet-stream"))


async def content_of(store: ObjectStore, prefix: str) -> dict[str, bytes]:
    """Read objects, by what follows the prefix."""
    names = [entry.name async for page in store.pages(prefix) for entry in page]
    return {name.removeprefix(prefix): await store.read(name) for name in names}
