"""Sign in to Swift: with Keystone (v3), or as Swift alone does it (v1)."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pfmoc.errors import StorageUnavailable
from pfmoc.objects.transport import Patience, Transport, Unsigned

_REFUSED = frozenset({401, 403, 404})
"""404 is what Keystone says of a credential that it does not know."""
_EARLY_S = 300.0
"""A token is replaced this long before its end, so that none ends on the way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Proof of who we are, for some time."""

    token: str = field(repr=False)
    accounts: Mapping[str, str]
    """URL of the account in Swift, by interface of the catalogue: ``public``, ``internal``, ``admin``."""
    until: float
    """End, on the monotonic clock: the machine's own clock may jump."""

    def account(self, interface: str) -> str:
        """:raises StorageUnavailable: the catalogue has no object store there"""
        try:
            return self.accounts[interface]
        except KeyError:
            raise StorageUnavailable(
                f"Storage is unavailable: the catalogue has no {interface} endpoint of an object store"
            ) from None


class Identity(ABC):
    """Who we are, and the one token that all requests share."""

    def __init__(self, *, patience: Patience | None = None, trust: ssl.SSLContext | None = None) -> None:
        self._transport = Transport(Unsigned(), patience=patience, connections=2, trust=trust)
        self._session: Session | None = None
        self._turn = asyncio.Lock()

    async def session(self) -> Session:
        """Return a session that lasts a while."""
        return await self._session_after(None)

    async def renew(self, refused: str) -> None:
        """Sign in anew, unless another request has done so since this token was refused."""
        await self._session_after(refused)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def _session_after(self, refused: str | None) -> Session:
        async with self._turn:
            session = self._session
            if session is None or session.token == refused or session.until < time.monotonic():
                session = self._session = await self._signed_in(self._transport)
            return session

    @abstractmethod
    async def _signed_in(self, transport: Transport) -> Session: ...


class KeystoneIdentity(Identity):
    """Keystone, version 3.

    :param auth_url: with or without ``/v3``
    :param method: what goes into ``identity``: see ``application_credential``
    :param scope: of a password's token; an application credential brings its own
    :param region: of the endpoints; None where there is one only
    """

    def __init__(
        self,
        *,
        auth_url: str,
        method: Mapping[str, Any],
        scope: Mapping[str, Any] | None = None,
        region: str | None = None,
        patience: Patience | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(patience=patience, trust=trust)
        self._url = auth_url.rstrip("/").removesuffix("/v3") + "/v3/auth/tokens"
        self._body = {"auth": {"identity": dict(method), **({"scope": dict(scope)} if scope else {})}}
        self._region = region

    async def _signed_in(self, transport: Transport) -> Session:
        answer = await transport.call(
            "POST",
            self._url,
            headers={"Content-Type": "application/json"},
            body=json.dumps(self._body).encode(),
            fine=_REFUSED,
        )
        if answer.status in _REFUSED:
            raise StorageUnavailable("Storage is unavailable: Keystone refuses this server's credentials")
        token = answer.json()["token"]
        return Session(
            token=answer.headers["X-Subject-Token"],
            accounts=dict(self._endpoints(token.get("catalog", ()))),
            until=time.monotonic() + _lifetime_s(token) - _EARLY_S,
        )

    def _endpoints(self, catalog: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
        for service in catalog:
            if service["type"] == "object-store":
                for endpoint in service["endpoints"]:
                    if self._region in (None, endpoint.get("region_id")):
                        yield endpoint["interface"], endpoint["url"].rstrip("/")


def application_credential(*, id: str, secret: str) -> dict[str, Any]:  # noqa: A002 - Keystone's own name for it
    """Identity by an application credential, which is bound to its project and may be bound to roles."""
    return {"methods": ["application_credential"], "application_credential": {"id": id, "secret": secret}}


class V1Identity(Identity):
    """Swift's own login, as pfcon knows it: user and key are exchanged for a token and the URL of the account."""

    def __init__(
        self, *, auth_url: str, user: str, key: str, patience: Patience | None = None, trust: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(patience=patience, trust=trust)
        self._url = auth_url
        self._headers = {"X-Auth-User": user, "X-Auth-Key": key, "X-Storage-User": user, "X-Storage-Pass": key}

    async def _signed_in(self, transport: Transport) -> Session:
        answer = await transport.call("GET", self._url, headers=self._headers, fine=_REFUSED)
        token, account = answer.headers.get("X-Auth-Token"), answer.headers.get("X-Storage-Url")
        if answer.status in _REFUSED or not token or not account:
            raise StorageUnavailable("Storage is unavailable: Swift refuses this server's credentials")
        seconds = answer.headers.get("X-Auth-Token-Expires", "")
        lifetime_s = float(seconds) if seconds.isdecimal() else 3600.0
        accounts = dict.fromkeys(("public", "internal", "admin"), account.rstrip("/"))
        return Session(token=token, accounts=accounts, until=time.monotonic() + lifetime_s - _EARLY_S)


def _lifetime_s(token: Mapping[str, Any]) -> float:
    """The span that the token lives, told by Keystone's clock alone."""
    begin, end = (datetime.fromisoformat(token[name]) for name in ("issued_at", "expires_at"))
    return (end - begin).total_seconds()
