"""Sign requests to S3 as Amazon describes it: Signature Version 4, in the query.

A signature in the query covers method, path, query and headers, and not the body, which the transport and the digests that come
back protect. It serves both ends: requests of who holds the key, and addresses for somebody who does not.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote, urlsplit

LIFETIME_MAX_S = 7 * 86_400
"""The longest that S3 honours a signature."""
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signer:
    """Who signs."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    def sign(
        self,
        method: str,
        url: str,
        *,
        at: datetime,
        lifetime_s: int,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Return the whole query: the request's own words, and the signature.

        :param url: without a query; its path quoted as ``quoted`` does
        :param at: now, UTC
        :param headers: that are signed with it, by names in lower case; who sends the request must send them
        """
        split = urlsplit(url)
        stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
        scope = f"{day}/{self.region}/s3/aws4_request"
        signed = {"host": split.netloc, **(headers or {})}
        words = {
            **(query or {}),
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(lifetime_s),
            "X-Amz-SignedHeaders": ";".join(sorted(signed)),
        }
        text = "&".join(f"{word}={value}" for word, value in sorted(_quoted(*pair) for pair in words.items()))
        lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in sorted(signed.items()))
        canonical = "\n".join([method, split.path or "/", text, lines, words["X-Amz-SignedHeaders"], "UNSIGNED-PAYLOAD"])
        told = "\n".join([_ALGORITHM, stamp, scope, sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return f"{text}&X-Amz-Signature={hmac.new(key, told.encode(), sha256).hexdigest()}"


def quoted(name: str) -> str:
    """Quote the name of an object for a path, as the signature has it."""
    return quote(name, safe="/-_.~")


def _quoted(word: str, value: str) -> tuple[str, str]:
    return quote(word, safe="-_.~"), quote(value, safe="-_.~")
