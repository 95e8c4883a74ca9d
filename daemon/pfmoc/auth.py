"""Who may ask: tokens as upstream issues them (contract 1.1), and a brake on guessing passwords."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import jwt
from cachetools import LRUCache, TTLCache

from pfmoc.http import Refusal
from pfmoc.settings import Settings

_log = logging.getLogger(__name__)

TOKEN_LIFE_S = 48 * 3600
_ALGORITHM = "HS256"
_KEY_BYTES = 32
"""HS256 wants a key as long as its digest (RFC 7518, 3.2)."""
_TOKEN_MAX = 4096
"""Characters. Ours have 133; CUBE stores at most 500."""
_SCHEME = "Bearer "
_FROM_BROWSERS = frozenset({"origin", "sec-fetch-site"})
"""Headers that browsers put on what a page makes them send, and that no page can take off."""
_CACHED_TOKENS = 4096
_WATCHED = 10_000
"""Addresses, and users, whose failed logins are remembered."""
_FORGET_S = 3600.0
"""Seconds after which a failed login is forgotten in any case."""


class Tokens:
    """Issues and verifies tokens. A verified token is remembered until it expires: checking an HMAC costs more than a look-up.

    :param now: seconds since the epoch, UTC. Wall clock, because a token must mean the same after a restart
    """

    def __init__(self, settings: Settings, *, now: Callable[[], float] = time.time) -> None:
        key = settings.secret_key.get_secret_value().encode()
        if len(key) < _KEY_BYTES:
            _log.warning("SECRET_KEY is short", extra={"bytes": len(key), "recommended": _KEY_BYTES})
        # HMAC itself fills short keys up with zeros (RFC 2104, 2), so this changes no signature and spares a warning per token.
        self._key = key.ljust(_KEY_BYTES, b"\0")
        self._now = now
        self._verified: LRUCache[bytes, float] = LRUCache(_CACHED_TOKENS)

    def issue(self, user: str) -> str:
        """Return a token that is valid for 48 hours."""
        return jwt.encode({"pfcon_user": user, "exp": int(self._now()) + TOKEN_LIFE_S}, self._key, algorithm=_ALGORITHM)

    def admit(self, headers: Mapping[str, str]) -> None:
        """Check a request's headers.

        :raises Refusal: 401
        """
        self.verify(headers.get("Authorization"))

    def verify(self, header: str | None) -> None:
        """Check an ``Authorization`` header.

        :raises Refusal: 401, with upstream's text for each way of being wrong
        """
        if not header:
            raise Refusal(401, "Missing authorization header.")
        if not header.startswith(_SCHEME):
            raise Refusal(401, "Invalid authorization header.")
        token = header.removeprefix(_SCHEME).strip()
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        expires = self._verified.get(digest)
        if expires is None:
            expires = self._verified[digest] = self._decode(token)
        if expires <= self._now():
            del self._verified[digest]
            raise Refusal(401, "Expired authorization token.")

    def _decode(self, token: str) -> float:
        if len(token) > _TOKEN_MAX:
            raise Refusal(401, "Invalid authorization token.", cause="token too long")
        # The expiry is checked by the caller, on our own clock; PyJWT has none that could be injected.
        options: jwt.types.Options = {"require": ["exp"], "verify_exp": False, "verify_iat": False}
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM], options=options)
            return int(claims["exp"])
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
            raise Refusal(401, "Invalid authorization token.", cause=type(error).__name__) from error


class SharedToken:
    """What dialects without a login ask for: one token, as long as the daemon's settings say so.

    :param token: empty where there is none; then every program on this machine is admitted, but nothing that a web page sends
    """

    def __init__(self, token: str) -> None:
        self._digest = _digest(token) if token else None

    def admit(self, headers: Mapping[str, str]) -> None:
        """Check a request's headers.

        :raises Refusal: 401 without the token, 403 for a browser where there is no token
        """
        if self._digest is None:
            if not _FROM_BROWSERS.isdisjoint(name.lower() for name in headers):
                raise Refusal(403, "Requests from web pages are not served without a token.")
            return
        header = headers.get("Authorization")
        if not header:
            raise Refusal(401, "Missing authorization header.")
        if not hmac.compare_digest(_digest(_credential(header)), self._digest):
            raise Refusal(401, "Invalid authorization token.")


def _credential(header: str) -> str:
    """The token of ``Bearer``, or the password of ``Basic``, which is all that the oldest clients can send.

    :raises Refusal: 401, neither is there
    """
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        with suppress(ValueError):
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    raise Refusal(401, "Invalid authorization header.")


@dataclass(slots=True)
class _Bucket:
    """Failures still allowed, refilled with time."""

    left: float
    since: float


class Brake:
    """Slows down whoever fails too often: a token bucket for each key.

    :param burst: failures in a row that are nobody's business
    :param every_s: seconds in which one more is allowed
    :param clock: seconds, monotonic
    """

    def __init__(self, *, burst: int, every_s: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._every_s = every_s
        self._clock = clock
        self._buckets: TTLCache[str, _Bucket] = TTLCache(_WATCHED, _FORGET_S, timer=clock)

    def wait(self, key: str) -> int:
        """Return the seconds for which this key must wait; 0 when it may try."""
        bucket = self._refilled(key)
        return 0 if bucket.left >= 1 else math.ceil((1 - bucket.left) * self._every_s)

    def failed(self, key: str) -> None:
        """Count a failure."""
        bucket = self._refilled(key)
        bucket.left = max(0.0, bucket.left - 1)
        self._buckets[key] = bucket

    def _refilled(self, key: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            return _Bucket(left=float(self._burst), since=now)
        bucket.left = min(float(self._burst), bucket.left + (now - bucket.since) / self._every_s)
        bucket.since = now
        return bucket


class Logins:
    """Exchanges the user and password for a token.

    Failures are counted by address and by user. An address that has logged in is known, and no longer held up by what others
    try under its user's name: nobody locks CUBE out by guessing.

    :param failed: told of each failure, with its reason
    :param clock: seconds, monotonic
    """

    def __init__(
        self,
        settings: Settings,
        tokens: Tokens,
        *,
        failed: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._user = _digest(settings.pfcon_user)
        self._password = _digest(settings.pfcon_password.get_secret_value())
        self._tokens = tokens
        self._failed = failed
        self._by_address = Brake(burst=10, every_s=6.0, clock=clock)
        self._by_user = Brake(burst=30, every_s=2.0, clock=clock)
        self._known: TTLCache[str, bool] = TTLCache(_WATCHED, TOKEN_LIFE_S * 2, timer=clock)

    def login(self, user: str, password: str, *, address: str) -> str:
        """Return a token.

        :raises Refusal: 400 for a wrong pair, 429 for too many of them
        """
        digest = _digest(user)
        wait = self._by_address.wait(address)
        if address not in self._known:
            wait = max(wait, self._by_user.wait(digest.hex()))
        if wait:
            self._failed("throttled")
            raise Refusal(
                429,
                "Too many failed logins. Try again later.",
                headers={"Retry-After": str(wait)},
                cause="login throttled",
            )
        # Both are compared, whatever comes of the first; digests are of one length, so that no length shows in the time.
        right = hmac.compare_digest(digest, self._user) & hmac.compare_digest(_digest(password), self._password)
        if not right:
            self._failed("credentials")
            self._by_address.failed(address)
            self._by_user.failed(digest.hex())
            raise Refusal(400, "Unable to log in with provided credentials.", cause="login failed")
        self._known[address] = True
        return self._tokens.issue(user)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()
