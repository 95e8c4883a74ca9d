"""Which Routes are served, and by what: the part of the router that knows Kubernetes and nothing of HAProxy."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .cluster import Object
from .informer import key_of

# The largest weight of a server in HAProxy.
MAX_WEIGHT = 256
SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True)
class Refusal:
    """Why a Route is not served.

    :param reason: one word, as OpenShift's router has it
    :param message: for people
    """

    reason: str
    message: str


@dataclass(frozen=True)
class Server:
    """One place to send requests to.

    :param address: IP address
    :param port: port number
    :param weight: its share, 0 to ``MAX_WEIGHT``
    """

    address: str
    port: int
    weight: int


@dataclass(frozen=True, kw_only=True)
class Served:
    """A Route as it is served.

    :param key: ``namespace/name``
    :param host: its host name
    :param path: what its requests' paths begin with; empty for all
    :param termination: ``edge``, ``passthrough``, ``reencrypt``, or empty without TLS
    :param insecure: what becomes of requests without TLS where there is a termination: ``Allow``, ``Redirect`` or ``None``
    :param certificate: certificate, its chain and key, PEM; empty for the router's own
    :param destination_ca: whom to trust behind the router, PEM; empty for the cluster's authority
    :param service: the host name by which the cluster knows the service
    :param annotations: the Route's
    :param servers: where it goes
    """

    key: str
    host: str
    path: str = ""
    termination: str = ""
    insecure: str = "None"
    certificate: str = ""
    destination_ca: str = ""
    service: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    servers: tuple[Server, ...] = ()


def admit(routes: Iterable[Object]) -> dict[str, Refusal | None]:
    """Decide on each Route: None if it is served.

    Of two Routes that claim the same, the older wins; a host belongs to the namespace of its oldest Route.
    """
    decisions: dict[str, Refusal | None] = {}
    owners: dict[str, Object] = {}
    claims: dict[tuple[str, str], Object] = {}
    for route in sorted(routes, key=lambda r: (r["metadata"]["creationTimestamp"], r["metadata"]["uid"])):
        refusal = invalid(route)
        if refusal is None:
            host, path = route["spec"]["host"].lower(), route["spec"].get("path", "")
            if owners.setdefault(host, route)["metadata"]["namespace"] != route["metadata"]["namespace"]:
                # Whose it is, is not this namespace's business.
                refusal = Refusal("HostAlreadyClaimed", f"a route in another namespace already exposes {host} and is older")
            elif (holder := claims.setdefault((host, path), route)) is not route:
                refusal = Refusal("HostAlreadyClaimed", f"route {holder['metadata']['name']} already exposes {host} and is older")
        decisions[key_of(route)] = refusal
    return decisions


def invalid(route: Object) -> Refusal | None:
    """Why a Route could not be served even if it were the only one."""
    spec = route["spec"]
    if not spec.get("host"):
        return Refusal("NoHostValue", "no host value was defined for the route")
    if spec.get("wildcardPolicy", "None") != "None":
        return Refusal("RouteNotAdmitted", "wildcard routes are not allowed")
    if any(character.isspace() or not character.isprintable() for character in spec.get("path", "")):
        return Refusal("ExtendedValidationFailed", "spec.path: white space is not allowed")
    tls = spec.get("tls") or {}
    if tls.get("certificate") or tls.get("key"):
        refusal = _bad_pair(bundle(tls))
        if refusal:
            return Refusal("ExtendedValidationFailed", f"spec.tls.certificate: {refusal}")
    if tls.get("destinationCACertificate"):
        try:
            ssl.create_default_context(cadata=tls["destinationCACertificate"])
        except (ssl.SSLError, ValueError) as error:
            return Refusal("ExtendedValidationFailed", f"spec.tls.destinationCACertificate: {error}")
    return None


def bundle(tls: Mapping[str, str]) -> str:
    """The certificate of a Route, its chain and its key in one text."""
    parts = (tls.get(part, "").strip() for part in ("certificate", "caCertificate", "key"))
    return "".join(f"{part}\n" for part in parts if part)


def _bad_pair(pem: str) -> str:
    """Why a certificate and its key cannot be used, if so."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(pem)
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file.name, password="")
        except (ssl.SSLError, ValueError) as error:
            return f"certificate and key do not fit or are not PEM: {error}"
    return ""


class Endpoints:
    """Where the Services of a cluster lead.

    :param slices: all EndpointSlices
    """

    def __init__(self, slices: Iterable[Object]) -> None:
        self._slices: dict[str, list[Object]] = {}
        for piece in slices:
            service = (piece["metadata"].get("labels") or {}).get(SERVICE_NAME)
            if service and piece.get("addressType") == "IPv4":
                self._slices.setdefault(f"{piece['metadata']['namespace']}/{service}", []).append(piece)

    def of(self, service: str, port: str | int | None) -> list[tuple[str, int]]:
        """Address and port of each ready endpoint of a Service, in a steady order.

        :param service: ``namespace/name``
        :param port: name or number of the endpoints' port; None for the first
        """
        found = set()
        for piece in self._slices.get(service, ()):
            ports = [p for p in piece.get("ports") or () if p.get("protocol", "TCP") == "TCP" and p.get("port")]
            if port is not None:
                ports = [p for p in ports if str(port) in (p.get("name"), str(p["port"]))]
            ports.sort(key=lambda p: (p.get("name") or "", p["port"]))
            for endpoint in piece.get("endpoints") or ():
                if ports and (endpoint.get("conditions") or {}).get("ready", True):
                    found |= {(address, int(ports[0]["port"])) for address in endpoint["addresses"][:1]}
        return sorted(found)


def served(route: Object, endpoints: Endpoints) -> Served:
    """How an admitted Route is served."""
    spec = route["spec"]
    tls = spec.get("tls") or {}
    namespace = route["metadata"]["namespace"]
    backends = [spec["to"], *(spec.get("alternateBackends") or ())]
    port = (spec.get("port") or {}).get("targetPort")
    return Served(
        key=key_of(route),
        host=spec["host"].lower(),
        # A connection that is passed through shows no path.
        path="" if tls.get("termination") == "passthrough" else spec.get("path", ""),
        termination=tls.get("termination", ""),
        insecure=tls.get("insecureEdgeTerminationPolicy") or "None",
        certificate=bundle(tls) if tls.get("certificate") else "",
        destination_ca=tls.get("destinationCACertificate", ""),
        service=f"{spec['to']['name']}.{namespace}.svc",
        annotations=route["metadata"].get("annotations") or {},
        servers=tuple(_servers(namespace, backends, port, endpoints)),
    )


def _servers(namespace: str, backends: Sequence[Object], port: str | int | None, endpoints: Endpoints) -> list[Server]:
    """The servers of a Route: a Service's weight is divided among its endpoints."""
    found = []
    for backend in backends:
        places = endpoints.of(f"{namespace}/{backend['name']}", port)
        weight = backend.get("weight", 100)
        weight = 100 if weight is None else weight
        found += [(place, weight / len(places)) for place in places]
    largest = max((share for _, share in found), default=0)
    if len(backends) == 1 and largest:
        return [Server(*place, weight=1) for place, _ in found]
    # A share that is not nothing must not be rounded to it.
    return [Server(*place, weight=max(1, round(share * MAX_WEIGHT / largest)) if share else 0) for place, share in found]
