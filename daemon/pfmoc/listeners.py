"""Which dialects are served, and where (docs/decisions/0007-listeners.md).

The main port serves ``PFMOC_DIALECTS``. Each entry of ``PFMOC_LISTENERS`` is a further port with dialects of its own, written
``DIALECT[+DIALECT...][@[HOST:]PORT]``: ``pman``, ``cmd-pfioh@5055``, ``pfcon3+cmd-pfcon@[::1]:5006``.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

DialectName = Literal["pfcon6", "pfcon5", "pfcon4", "pfcon3", "pman", "cmd-pfcon", "cmd-pman", "cmd-pfioh"]

WITHOUT_LOGIN: frozenset[str] = frozenset({"pfcon3", "pman", "cmd-pfcon", "cmd-pman", "cmd-pfioh"})
"""Dialects that know no login: off by default, on loopback unless there is a token."""
ZIP_ONLY: frozenset[str] = frozenset({"pfcon4", "pfcon3"})
"""Dialects whose jobs can only bring their data as a zip."""
CONVENTIONAL_PORTS = {"pman": 5010, "cmd-pman": 5010, "cmd-pfioh": 5055}
"""Where clients look for a service. pfcon's own 5005 is the main port."""
LOOPBACK = "127.0.0.1"
TOKEN_MIN = 16
"""Characters of the shared token. It is not throttled, so it must be beyond guessing."""

_CMD = frozenset({"cmd-pfcon", "cmd-pman", "cmd-pfioh"})
_NAMES: Mapping[str, DialectName] = {name: name for name in get_args(DialectName)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """An address, and the dialects that are served there."""

    dialects: tuple[DialectName, ...]
    host: str
    port: int
    """0 lets the system choose."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'+'.join(self.dialects)}@{host}:{self.port}"

    @property
    def without_login(self) -> list[str]:
        """The dialects here that know no login."""
        return [name for name in self.dialects if name in WITHOUT_LOGIN]

    @property
    def with_login(self) -> bool:
        """True when a dialect here asks for a token of its own."""
        return len(self.without_login) < len(self.dialects)


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and the loopback addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_listeners(text: object) -> object:
    """Read PFMOC_LISTENERS.

    :raises ValueError: names the entry, and says what would be right
    """
    if not isinstance(text, str):
        return text
    return tuple(_entry(part) for part in filter(None, (part.strip() for part in text.split(","))))


def _entry(text: str) -> Endpoint:
    names, at, address = text.partition("@")
    dialects = tuple(_dialect(name.strip()) for name in names.split("+"))
    if at:
        host, port = _address(text, address)
    else:
        host, port = LOOPBACK, CONVENTIONAL_PORTS.get(dialects[0], -1)
    if port < 0:
        raise ValueError(f"'{text}' needs a port, such as {text}@5006: {dialects[0]} has none of its own beside the main port")
    return Endpoint(dialects=dialects, host=host, port=port)


def _dialect(name: str) -> DialectName:
    if name not in _NAMES:
        raise ValueError(f"'{name}' is no dialect; the dialects are {', '.join(_NAMES)}")
    return _NAMES[name]


def _address(text: str, address: str) -> tuple[str, int]:
    host, _, port = address.strip().rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"'{text}' must end in @PORT or @HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


def contradictions(
    main: Endpoint, others: Sequence[Endpoint], *, token: str, dev: bool, innetwork: bool
) -> Iterator[tuple[str, str]]:
    """Find what cannot be served so.

    :param main: of PFMOC_DIALECTS
    :param others: of PFMOC_LISTENERS
    :param token: PFMOC_LEGACY_TOKEN; empty when there is none
    :param dev: True where the login has published credentials
    :param innetwork: True where storage takes no zips
    :returns: the variable at fault, and a line that begins with the variable to change
    """
    if token and len(token) < TOKEN_MIN:
        yield (
            "PFMOC_LEGACY_TOKEN",
            f"PFMOC_LEGACY_TOKEN: must have at least {TOKEN_MIN} characters, for guesses are not slowed down",
        )
    for variable, endpoint in [("PFMOC_DIALECTS", main), *(("PFMOC_LISTENERS", other) for other in others)]:
        for text in (*_crowded(endpoint), *(_without_zips(endpoint) if innetwork else ())):
            yield variable, f"{variable}: {text}"
        if endpoint.without_login and not token and not is_loopback(endpoint.host):
            yield (
                variable,
                f"PFMOC_LEGACY_TOKEN: is required, for {' and '.join(endpoint.without_login)} at {endpoint.host}:{endpoint.port}"
                " can be reached by other machines and has no login;"
                f" set it to {TOKEN_MIN} random characters or more, or bind to {LOOPBACK}",
            )
    for endpoint in others:
        if dev and endpoint.with_login and not is_loopback(endpoint.host):
            yield (
                "PFMOC_LISTENERS",
                f"PFMOC_LISTENERS: {endpoint} is not loopback, and development credentials are never offered to a network;"
                " set APPLICATION_MODE=production with SECRET_KEY, PFCON_USER and PFCON_PASSWORD",
            )
    taken = Counter((endpoint.host, endpoint.port) for endpoint in (main, *others) if endpoint.port)
    for (host, port), count in taken.items():
        if count > 1:
            yield (
                "PFMOC_LISTENERS",
                f"PFMOC_LISTENERS: {host}:{port} is named {count} times, the main port included;"
                " join the dialects of one port with '+', or add them to PFMOC_DIALECTS",
            )


def _crowded(endpoint: Endpoint) -> Iterator[str]:
    twice = [name for name, count in Counter(endpoint.dialects).items() if count > 1]
    if twice:
        yield f"{twice[0]} is named twice for one port"
    roles = sorted(_CMD & set(endpoint.dialects))
    if len(roles) > 1:
        yield f"{' and '.join(roles)} have the same URL; give each a listener of its own"


def _without_zips(endpoint: Endpoint) -> Iterator[str]:
    for name in sorted(ZIP_ONLY & set(endpoint.dialects)):
        yield f"{name} brings its data as a zip, so it cannot be served when PFCON_INNETWORK is true; leave it out"
