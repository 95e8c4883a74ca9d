"""Sign rights to objects in Swift that need no login: temporary URLs.

Facts, from Swift's own middleware and tried against it:

- A right is for one method, until one second, for one object or for all whose names begin with one string. HEAD comes with any.
- It never opens a listing, and never a manifest of segments: the middleware drops every other word of the query, and refuses the
  headers by which an object points to another. Who has a right to write writes plain objects.
- The signature is made with the unquoted path, and holds for the path at every host that the cluster answers at.
- Signed with a key of the container, it does not reach segments that lie in another container; with one of the account it does.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from urllib.parse import quote, unquote, urlencode, urlsplit


def sign(*, key: str, method: str, container: str, name: str, expires: int, prefix: bool = False) -> str:
    """Return the query that gives the right.

    :param container: its URL
    :param name: of the object; with ``prefix``, what the names of all objects meant begin with
    :param expires: when the right ends, in seconds since 1970
    """
    path = f"{unquote(urlsplit(container).path)}/{name}"
    text = f"{method}\n{expires}\n{'prefix:' if prefix else ''}{path}"
    words = {"temp_url_sig": hmac.new(key.encode(), text.encode(), sha256).hexdigest(), "temp_url_expires": str(expires)}
    if prefix:
        words["temp_url_prefix"] = name
    return urlencode(words, quote_via=quote, safe="")


def derive(secret: str, container: str) -> str:
    """Return the key that a daemon makes for itself where the operator gives none: always the same one for the same secret."""
    return hmac.new(secret.encode(), f"pfmoc temporary URLs of {container}".encode(), sha256).hexdigest()
