"""The router's configuration for HAProxy: files as a function of the Routes that are served."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .routes import Served

TIMEOUT = "haproxy.router.openshift.io/timeout"
BALANCE = "haproxy.router.openshift.io/balance"
_TIME = re.compile(r"[1-9][0-9]{0,8}(us|ms|s|m|h|d)?")
_BALANCES = ("roundrobin", "leastconn", "source", "random")
# HAProxy keeps times in 31 bits of milliseconds.
LONGEST = "2147483647ms"
_UNITS_MS = {"us": 0.001, "": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

UNAVAILABLE = """\
HTTP/1.0 503 Service Unavailable\r
Pragma: no-cache\r
Cache-Control: private, max-age=0, no-cache, no-store\r
Connection: close\r
Content-Type: text/html\r
\r
<!DOCTYPE html>
<html><head><title>Application is not available</title></head><body>
<h1>Application is not available</h1>
<p>No Route of this cluster has this host name and path, or the Route's Service has no ready pod.</p>
</body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What does not depend on Routes.

    :param host: address to listen on
    :param http: port without TLS
    :param https: port with TLS
    :param namespace: name of the network namespace in which it listens. HAProxy itself is in that of the servers: it closes
        what it has of other namespaces as soon as a reload replaces it, and could open no further connection there
    :param certificate: path of the router's own certificate; its key lies beside it, named ``.key``
    :param authority: path of the cluster's authority
    """

    host: str
    http: int
    https: int
    namespace: str
    certificate: str
    authority: str


def files(settings: Settings, routes: Iterable[Served], directory: Path) -> dict[str, str]:
    """The content of each file, by name.

    :param directory: where they will lie; they name each other by absolute paths
    """
    ordered = sorted(routes, key=lambda route: (route.host, route.path, route.key))
    found = {
        "unavailable.http": UNAVAILABLE,
        "http.map": _map(ordered, lambda r: not r.termination or (r.termination != "passthrough" and r.insecure == "Allow")),
        "redirect.map": _map(ordered, lambda r: bool(r.termination) and r.insecure == "Redirect"),
        "https.map": _map(ordered, lambda r: r.termination in ("edge", "reencrypt")),
        "passthrough.map": "".join(f"{route.host} {_name(route)}\n" for route in ordered if route.termination == "passthrough"),
    }
    certificates = []
    for route in ordered:
        stem = route.key.replace("/", ":")
        if route.certificate:
            found[f"{stem}.pem"] = route.certificate
            certificates.append(f"{directory}/{stem}.pem {route.host}\n")
        if route.destination_ca:
            found[f"{stem}.ca"] = route.destination_ca
    found["certificates.list"] = "".join(certificates)
    backends = "\n".join(_backend(settings, route, directory) for route in ordered)
    found["haproxy.cfg"] = f"{_frame(settings, directory)}\n{backends}"
    return found


def _frame(settings: Settings, directory: Path) -> str:
    # `base` is the Host header and the path, as the maps have them.
    headers = """\
    http-request del-header Proxy
    http-request set-header Host %[req.hdr(host),lower]
    option forwardfor
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]"""
    redirected = f"{{ base,map_reg({directory}/redirect.map) -m found }}"
    passed = f"req.ssl_sni,lower,map_str({directory}/passthrough.map)"
    certificates = f"crt {settings.certificate} crt-list {directory}/certificates.list"
    secure = f"https://%[req.hdr(host),field(1,:)]:{settings.https}%[capture.req.uri]"
    return f"""\
global
    log stdout format raw local0 err
    maxconn 4000
    nbthread 2
    hard-stop-after 1h
    ssl-load-extra-del-ext
    ssl-default-bind-options ssl-min-ver TLSv1.2
    tune.bufsize 32768
    tune.maxrewrite 8192

defaults
    log global
    mode http
    errorfile 503 {directory}/unavailable.http
    option redispatch
    # A client that is just asking again must not meet the end of a process that a reload has replaced.
    option idle-close-on-response
    retries 3
    timeout connect 5s
    timeout client 30s
    timeout client-fin 1s
    timeout server 30s
    timeout server-fin 1s
    timeout http-request 10s
    timeout http-keep-alive 300s
    timeout tunnel 1h

frontend http
    bind {settings.host}:{settings.http} namespace {settings.namespace}
    monitor-uri /_router_healthz
{headers}
    http-request set-header X-Forwarded-Proto http
    http-request redirect code 302 location {secure} if {redirected}
    use_backend %[base,map_reg({directory}/http.map)]
    default_backend none

frontend tls
    mode tcp
    bind {settings.host}:{settings.https} namespace {settings.namespace}
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    use_backend %[{passed}] if {{ {passed} -m found }}
    default_backend terminate

backend terminate
    mode tcp
    server self unix@terminate.sock send-proxy-v2

frontend https
    bind unix@terminate.sock accept-proxy mode 600 ssl {certificates}
{headers}
    http-request set-header X-Forwarded-Proto https
    use_backend %[base,map_reg({directory}/https.map)]
    default_backend none

backend none
"""


def _name(route: Served) -> str:
    """The backend's name; a colon is in no name of Kubernetes'."""
    return f"route:{route.key.replace('/', ':')}"


def _map(routes: Sequence[Served], chosen: Callable[[Served], bool]) -> str:
    """A map from Host header and path to the backend; of two that match, the longer path comes first."""
    lines = []
    for route in reversed(routes):
        if chosen(route):
            path = route.path.rstrip("/")
            tail = f"{re.escape(path)}(/.*)?$" if path else "(/.*)?$"
            lines.append(f"^{re.escape(route.host)}\\.?(:[0-9]+)?{tail} {_name(route)}\n")
    return "".join(lines)


def _backend(settings: Settings, route: Served, directory: Path) -> str:
    tcp = route.termination == "passthrough"
    balance = route.annotations.get(BALANCE, "")
    lines = [
        f"backend {_name(route)}",
        f"    mode {'tcp' if tcp else 'http'}",
        f"    balance {balance if balance in _BALANCES else 'source' if tcp else 'roundrobin'}",
    ]
    timeout = _timeout(route.annotations.get(TIMEOUT, ""))
    if timeout:
        lines.append(f"    timeout {'tunnel' if tcp else 'server'} {timeout}")
    options = ""
    if route.termination == "reencrypt":
        if route.destination_ca:
            stem = route.key.replace("/", ":")
            options += f" ssl verify required ca-file {directory}/{stem}.ca"
        else:
            options += f" ssl verify required ca-file {settings.authority} verifyhost {route.service}"
        options += f" sni str({route.service})"
    for number, server in enumerate(route.servers):
        lines.append(f"    server {number} {server.address}:{server.port} weight {server.weight}{options}")
    return "\n".join(lines) + "\n"


def _timeout(text: str) -> str:
    """A time of an annotation as HAProxy takes it; nothing if it is no time."""
    match = _TIME.fullmatch(text)
    if not match:
        return ""
    unit = match[1] or ""
    milliseconds = int(text.removesuffix(unit)) * _UNITS_MS[unit]
    return text if milliseconds < int(LONGEST.removesuffix("ms")) else LONGEST
