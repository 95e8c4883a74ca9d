"""Which Routes are served, and HAProxy's configuration for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from box_openshift.haproxy import Settings, files
from box_openshift.router import ingress
from box_openshift.routes import Endpoints, Refusal, Served, Server, admit, served

SETTINGS = Settings(
    host="127.0.0.1", http=80, https=443, namespace="machine", certificate="/pki/router.crt", authority="/pki/ca.crt"
)
DIRECTORY = Path("/router/generations/1")


def route(name, host, *, namespace="p", age=0, **spec):
    metadata = {"namespace": namespace, "name": name, "uid": name, "creationTimestamp": f"2026-01-01T00:00:{59 - age:02d}Z"}
    return {"metadata": metadata, "spec": {"host": host, "to": {"kind": "Service", "name": "web"}, **spec}}


def piece(name, service, *addresses, ports=((None, 80),), ready=True):
    return {
        "metadata": {"namespace": "p", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": name, "port": number, "protocol": "TCP"} for name, number in ports],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
    }


def reasons(*routes):
    return {key: refusal and refusal.reason for key, refusal in admit(routes).items()}


def test_the_older_of_two_routes_with_one_host_wins():
    assert reasons(route("new", "a.org", age=1), route("old", "A.org", age=2)) == {"p/old": None, "p/new": "HostAlreadyClaimed"}


def test_routes_of_one_namespace_share_a_host_by_paths():
    assert reasons(route("all", "a.org"), route("deep", "a.org", path="/deep")) == {"p/all": None, "p/deep": None}


def test_another_namespace_gets_no_path_of_a_taken_host_and_holds_none_against_its_owner():
    found = reasons(
        route("first", "a.org", age=3),
        route("other", "a.org", namespace="q", path="/x", age=2),
        route("late", "a.org", path="/x"),
    )
    assert found == {"p/first": None, "q/other": "HostAlreadyClaimed", "p/late": None}


def test_a_refusal_does_not_tell_whose_a_host_is():
    refusal = admit([route("secret", "a.org", age=1), route("other", "a.org", namespace="q")])["q/other"]
    assert refusal is not None
    assert "secret" not in refusal.message


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"host": ""}, "NoHostValue"),
        ({"wildcardPolicy": "Subdomain"}, "RouteNotAdmitted"),
        ({"path": "/a b"}, "ExtendedValidationFailed"),
        ({"path": "/a\nbackend x"}, "ExtendedValidationFailed"),
        ({"tls": {"termination": "edge", "certificate": "nonsense", "key": "nonsense"}}, "ExtendedValidationFailed"),
        ({"tls": {"termination": "reencrypt", "destinationCACertificate": "nonsense"}}, "ExtendedValidationFailed"),
    ],
)
def test_what_cannot_be_served_is_refused_and_claims_nothing(spec, reason):
    wrong = route("wrong", "a.org", age=1)
    wrong["spec"] |= spec
    assert reasons(wrong, route("right", "a.org")) == {"p/wrong": reason, "p/right": None}


def test_endpoints_are_ready_ones_of_the_port_that_is_asked_for():
    named = (("http", 8080), ("metrics", 9090))
    endpoints = Endpoints(
        [
            piece("1", "web", "10.0.0.2", "10.0.0.1", ports=named),
            piece("2", "web", "10.0.0.3", ready=False),
            piece("3", "db", "10.0.0.4"),
        ]
    )
    assert endpoints.of("p/web", None) == [("10.0.0.1", 8080), ("10.0.0.2", 8080)]
    assert endpoints.of("p/web", "metrics") == endpoints.of("p/web", 9090) == [("10.0.0.1", 9090), ("10.0.0.2", 9090)]
    assert endpoints.of("p/web", "nothing") == endpoints.of("q/web", None) == []


def test_a_services_weight_is_divided_among_its_pods():
    endpoints = Endpoints(
        [piece("1", "web", "10.0.0.1", "10.0.0.2"), piece("2", "new", "10.0.0.3"), piece("3", "off", "10.0.0.4")]
    )
    to = {"kind": "Service", "name": "web", "weight": 100}
    others = [{"name": "new", "weight": 1}, {"name": "off", "weight": 0}]
    weights = {s.address: s.weight for s in served(route("split", "a.org", to=to, alternateBackends=others), endpoints).servers}
    assert weights == {"10.0.0.1": 256, "10.0.0.2": 256, "10.0.0.3": 5, "10.0.0.4": 0}


def rendered(*routes):
    return files(SETTINGS, routes, DIRECTORY)


def lookup(text, value):
    """As HAProxy's map_reg does: the first line whose expression matches."""
    return next((line.split()[1] for line in text.splitlines() if re.search(line.split()[0], value)), None)


def test_the_longest_path_is_found_first_and_ends_at_a_slash():
    text = rendered(
        Served(key="p/all", host="a.org"),
        Served(key="p/deep", host="a.org", path="/d.ep/"),
        Served(key="p/deeper", host="a.org", path="/d.ep/er"),
    )["http.map"]
    asked = {path: lookup(text, f"a.org{path}") for path in ("/", "/d.ep", "/d.ep/x", "/d.ep/er", "/d.eper", "/deep")}
    assert asked == {
        "/": "route:p:all",
        "/d.ep": "route:p:deep",
        "/d.ep/x": "route:p:deep",
        "/d.ep/er": "route:p:deeper",
        "/d.eper": "route:p:all",
        "/deep": "route:p:all",
    }


@pytest.mark.parametrize("value", ["xa.org/", "aXorg/", "a.org.evil.org/", "a.org:80x/"])
def test_another_host_is_not_found(value):
    text = rendered(Served(key="p/all", host="a.org"))["http.map"]
    assert lookup(text, "a.org/") == lookup(text, "a.org:8080/x") == "route:p:all"
    assert lookup(text, value) is None


@pytest.mark.parametrize(
    ("termination", "insecure", "maps"),
    [
        ("", "None", {"http.map"}),
        ("edge", "None", {"https.map"}),
        ("edge", "Allow", {"https.map", "http.map"}),
        ("reencrypt", "Redirect", {"https.map", "redirect.map"}),
        ("passthrough", "None", {"passthrough.map"}),
        ("passthrough", "Redirect", {"passthrough.map", "redirect.map"}),
    ],
)
def test_a_route_is_in_the_maps_of_its_kind(termination, insecure, maps):
    found = rendered(Served(key="p/a", host="a.org", termination=termination, insecure=insecure))
    assert {name for name, text in found.items() if name.endswith(".map") and "route:p:a" in text} == maps


def test_it_listens_in_the_machines_network_and_servers_are_in_its_own_and_reencryption_is_verified():
    plain = Served(key="p/a", host="a.org", servers=(Server("10.0.0.1", 80, 1),))
    own = Served(
        key="p/b",
        host="b.org",
        termination="reencrypt",
        destination_ca="CA",
        service="b.p.svc",
        servers=(Server("10.0.0.2", 443, 7),),
    )
    default = Served(key="p/c", host="c.org", termination="reencrypt", service="c.p.svc", servers=(Server("10.0.0.3", 443, 1),))
    found = rendered(plain, own, default)
    text = found["haproxy.cfg"]
    assert "bind 127.0.0.1:80 namespace machine\n" in text
    assert "bind 127.0.0.1:443 namespace machine\n" in text
    assert "server 0 10.0.0.1:80 weight 1\n" in text
    assert f"10.0.0.2:443 weight 7 ssl verify required ca-file {DIRECTORY}/p:b.ca sni str(b.p.svc)\n" in text
    assert "ca-file /pki/ca.crt verifyhost c.p.svc sni str(c.p.svc)\n" in text
    assert found["p:b.ca"] == "CA"


def test_a_routes_own_certificate_goes_with_its_host():
    found = rendered(Served(key="p/a", host="a.org", termination="edge", certificate="PEM"))
    assert found["certificates.list"] == f"{DIRECTORY}/p:a.pem a.org\n"
    assert found["p:a.pem"] == "PEM"


@pytest.mark.parametrize(
    ("annotation", "line"),
    [("5m", "timeout server 5m"), ("90", "timeout server 90"), ("60d", "timeout server 2147483647ms")],
)
def test_a_timeout_is_taken_from_the_annotation(annotation, line):
    noted = Served(key="p/a", host="a.org", annotations={"haproxy.router.openshift.io/timeout": annotation})
    assert f"    {line}\n" in rendered(noted)["haproxy.cfg"]


@pytest.mark.parametrize("text", ["5m\n    server x 1.2.3.4:80", "soon", "-1s", "0s", ""])
def test_an_annotation_that_is_no_time_changes_nothing(text):
    names = ("haproxy.router.openshift.io/timeout", "haproxy.router.openshift.io/balance")
    noted = Served(key="p/a", host="a.org", annotations=dict.fromkeys(names, text))
    assert rendered(noted)["haproxy.cfg"] == rendered(Served(key="p/a", host="a.org"))["haproxy.cfg"]


def test_a_status_that_says_the_same_keeps_its_time():
    claimed = Refusal("HostAlreadyClaimed", "taken")
    first = ingress(route("a", "a.org"), claimed, {}, "router.example.org")
    first["conditions"][0]["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    assert ingress(route("a", "a.org"), claimed, first, "router.example.org") == first
    changed = ingress(route("a", "a.org"), None, first, "router.example.org")["conditions"][0]
    assert changed["status"] == "True"
    assert changed["lastTransitionTime"] != "2020-01-01T00:00:00Z"
    assert "reason" not in changed
