"""Routes: what a client on this machine gets through the router, from real pods."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import shutil
import ssl
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness.openshift import DEADLINE_S, DOMAIN
from harness.waiting import until
from kubernetes.client import ApiException

pytest_plugins = ["harness.openshift_fixtures"]

APISERVER = "kubernetes.default.svc"


@pytest.fixture(scope="module")
def project(alice):
    """A project with two web servers."""
    with alice.project() as name:
        alice.serve(name, "web")
        alice.serve(name, "other")
        yield name


@pytest.fixture
def route(alice, project, request):
    """Makes Routes that end with the test; gives the host."""
    made = []

    def make(name, service="web", **spec):
        route = alice.make_route(project, name, service, **spec)
        made.append(name)
        return route["spec"]["host"]

    yield make
    for name in made:
        alice.delete_route(project, name)


def answered(ask, right, what="the answer"):
    """Wait until the answer is right. It is not once and for all: the process that a change replaces may answer one more."""
    return until(lambda: right(answer := ask()) and answer, what=what, deadline_s=DEADLINE_S)


def comes(ask, body):
    """Wait until the answer is what the server named ``body`` says."""
    return answered(ask, lambda answer: answer.body.strip() == body, f"an answer from {body}")


def has_status(status):
    return lambda answer: answer.status == status


def certificate(host):
    """A certificate of its own making, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    kind = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    return made.public_bytes(pem).decode(), key.private_bytes(pem, kind, serialization.NoEncryption()).decode()


def test_a_route_without_a_host_gets_one_and_answers(alice, project, router, route):
    host = route("plain")
    assert host == f"plain-{project}.{DOMAIN}"
    assert alice.admitted(project, "plain")["status"] == "True"
    comes(lambda: router.get(host), "web")
    told = answered(lambda: router.get(host, "/cgi-bin/env"), has_status(200)).body
    assert f"HTTP_X_FORWARDED_HOST={host}" in told
    assert "HTTP_X_FORWARDED_PROTO=http\n" in told


def test_curl_finds_the_router_by_the_hosts_name(router, route, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("there is no curl on this machine")
    host = route("curl", tls={"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"})
    comes(lambda: router.get_secure(host), "web")
    authority = tmp_path / "ca.crt"
    authority.write_text(router.authority)
    command = ["curl", "--silent", "--location", "--cacert", str(authority), "--noproxy", "*", f"http://{host}:{router.http}/"]

    def followed():
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "web"

    until(followed, what="an answer from web", deadline_s=DEADLINE_S)


def test_the_longest_path_wins_and_ends_at_a_slash(router, route):
    host = route("path-all")
    comes(lambda: router.get(host), "web")
    route("path-deep", "other", host=host, path="/deep")
    comes(lambda: router.get(host, "/deep/"), "other")
    comes(lambda: router.get(host, "/deep/er/"), "other")
    assert router.get(host, "/").body.strip() == "web"
    # Not below /deep, and so a file that the other server lacks.
    assert router.get(host, "/deeper").status == 404


@pytest.mark.parametrize(("policy", "status"), [("None", 503), ("Allow", 200), ("Redirect", 302)])
def test_edge_termination_with_each_policy_for_what_is_insecure(router, route, policy, status):
    host = route(f"edge-{policy.lower()}", tls={"termination": "edge", "insecureEdgeTerminationPolicy": policy})
    answer = comes(lambda: router.get_secure(host), "web")
    assert ("DNS", f"*.{DOMAIN}") in answer.certificate["subjectAltName"]
    told = answered(lambda: router.get_secure(host, "/cgi-bin/env"), has_status(200)).body
    assert "HTTP_X_FORWARDED_PROTO=https\n" in told
    expected = 404 if status == 200 else status
    insecure = answered(lambda: router.get(f"{host}:{router.http}", "/a?b=c"), has_status(expected), f"status {expected}")
    if status == 302:
        assert insecure.headers["location"] == f"https://{host}:{router.https}/a?b=c"


def test_a_route_without_tls_does_not_answer_with_it(router, route):
    host = route("bare")
    comes(lambda: router.get(host), "web")
    assert router.get_secure(host).status == 503


def test_a_certificate_of_the_routes_own_is_served_for_its_host_only(router, route):
    own, key = certificate("own.example.org")
    route("own", host="own.example.org", tls={"termination": "edge", "certificate": own, "key": key})
    other = route("not-own", tls={"termination": "edge"})
    comes(lambda: router.get_secure(other), "web")

    def asked():
        try:
            return router.get_secure("own.example.org", authority=own)
        except ssl.SSLCertVerificationError:  # the router's own, until it is there
            return router.get("own.example.org")

    assert comes(asked, "web").certificate["subjectAltName"] == (("DNS", "own.example.org"),)


def test_a_bad_certificate_is_refused_and_harms_nobody(alice, project, router, route):
    good = route("good")
    comes(lambda: router.get(good), "web")
    own, _ = certificate("bad.example.org")
    _, key = certificate("bad.example.org")
    route("bad", host="bad.example.org", tls={"termination": "edge", "certificate": own, "key": key})
    said = alice.admitted(project, "bad")
    assert (said["status"], said["reason"]) == ("False", "ExtendedValidationFailed")
    after = route("after-bad")
    comes(lambda: router.get(after), "web")
    assert router.get(good).status == 200


def test_passthrough_shows_the_servers_own_certificate(admin, router):
    """The one server with TLS that every cluster has is its API server."""
    host = admin.make_route("default", "through", "kubernetes", tls={"termination": "passthrough"})["spec"]["host"]
    try:
        assert admin.admitted("default", "through")["status"] == "True"

        def asked():
            try:
                return router.get_secure(host, "/readyz", name=APISERVER)
            except (AssertionError, OSError):
                return router.get(host)

        assert comes(asked, "ok").status == 200
        assert router.get(host).status == 503
    finally:
        admin.delete_route("default", "through")


def test_reencryption_trusts_whom_the_route_names(admin, router):
    stranger, _ = certificate(APISERVER)
    tls = {"termination": "reencrypt", "destinationCACertificate": router.authority}
    host = admin.make_route("default", "again", "kubernetes", tls=tls)["spec"]["host"]
    try:
        answer = comes(lambda: router.get_secure(host, "/readyz"), "ok")
        assert ("DNS", f"*.{DOMAIN}") in answer.certificate["subjectAltName"]
        admin.change_route("default", "again", tls={"destinationCACertificate": stranger})
        until(lambda: router.get_secure(host, "/readyz").status == 503, deadline_s=DEADLINE_S)
        # Without a word of the Route's, the cluster's own authority and the Service's name.
        admin.change_route("default", "again", tls={"destinationCACertificate": None})
        comes(lambda: router.get_secure(host, "/readyz"), "ok")
    finally:
        admin.delete_route("default", "again")


def test_an_unknown_host_gets_a_page_that_says_so(router):
    for answer in (router.get("nobody.example.org"), router.get_secure(f"nobody.{DOMAIN}")):
        assert answer.status == 503
        assert "Application is not available" in answer.body


def test_a_host_is_the_oldest_claimants_until_it_goes(alice, bob, project, router):
    host = f"claimed-{project}.{DOMAIN}"
    made = datetime.fromisoformat(alice.make_route(project, "first", host=host)["metadata"]["creationTimestamp"])
    # The API tells ages in whole seconds.
    until(lambda: datetime.now(UTC) > made + timedelta(seconds=1))
    assert alice.admitted(project, "first")["status"] == "True"
    with bob.project() as other:
        bob.make_route(other, "second", host=host, path="/deep")
        said = bob.admitted(other, "second")
        assert (said["status"], said["reason"]) == ("False", "HostAlreadyClaimed")
        comes(lambda: router.get(host, "/deep/"), "web")
        alice.make_route(project, "third", host=host)
        assert alice.admitted(project, "third")["reason"] == "HostAlreadyClaimed"
        alice.delete_route(project, "third")
        alice.delete_route(project, "first")
        until(lambda: bob.admitted(other, "second")["status"] == "True", deadline_s=DEADLINE_S)


@pytest.mark.parametrize(
    "spec",
    [{"host": "Upper_Case"}, {"host": "a..b"}, {"host": "a b.org"}, {"path": "no-slash"}, {"tls": {"termination": "none"}}],
)
def test_the_api_refuses_what_no_router_could_serve(alice, project, spec):
    with pytest.raises(ApiException) as refused:
        alice.make_route(project, "wrong", **spec)
    assert refused.value.status == 422


def test_a_wildcard_is_not_admitted(alice, project, route):
    route("wild", host="any.wild.example.org", wildcardPolicy="Subdomain")
    assert alice.admitted(project, "wild")["reason"] == "RouteNotAdmitted"


def test_a_changed_route_leads_elsewhere(alice, project, router, route):
    host = route("moving")
    comes(lambda: router.get(host), "web")
    alice.change_route(project, "moving", to={"name": "other"})
    comes(lambda: router.get(host), "other")
    alice.change_route(project, "moving", path="/deep")
    until(lambda: router.get(host).status == 503, deadline_s=DEADLINE_S)
    comes(lambda: router.get(host, "/deep/"), "other")
    with pytest.raises(ApiException, match="immutable"):
        alice.change_route(project, "moving", host="moved.example.org")


def test_weights_divide_the_requests(alice, project, router, route):
    weights = {"to": {"kind": "Service", "name": "web", "weight": 3}}
    host = route("split", alternateBackends=[{"kind": "Service", "name": "other", "weight": 1}])
    alice.change_route(project, "split", **weights)

    def counted():
        return Counter(router.get(host).body.strip() for _ in range(8)) == {"web": 6, "other": 2}

    until(counted, what="three parts and one", deadline_s=DEADLINE_S)


def test_a_service_without_pods_is_not_available(alice, project, router, route):
    alice.serve(project, "rising")
    host = route("rising", "rising")
    comes(lambda: router.get(host), "rising")
    alice.apps.patch_namespaced_deployment_scale("rising", project, {"spec": {"replicas": 0}})
    until(lambda: router.get(host).status == 503, deadline_s=DEADLINE_S)
    alice.apps.patch_namespaced_deployment_scale("rising", project, {"spec": {"replicas": 2}})
    comes(lambda: router.get(host), "rising")


def test_a_change_does_not_cut_off_what_is_under_way(alice, project, router, route):
    host = route("steady")
    comes(lambda: router.get(host), "web")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(router.get, host, "/cgi-bin/slow")
        changed = route("unsteady", "other")
        comes(lambda: router.get(changed), "other")
        assert slow.result().body.strip() == "slow"


def test_an_idle_connection_reaches_other_pods_after_a_change(router, route):
    """The process that the change replaced serves it, and has no connection to those pods yet."""
    near, far = route("near"), route("far", "other")
    for host, body in ((near, "web"), (far, "other")):
        comes(lambda host=host: router.get(host), body)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", router.http, timeout=30)) as kept:

        def asked(host):
            kept.request("GET", "/", headers={"Host": host})
            return kept.getresponse().read().decode().strip()

        assert asked(near) == "web"
        port = kept.sock.getsockname()[1]
        changed = route("changed")
        comes(lambda: router.get(changed), "web")
        assert asked(far) == "other"
        assert kept.sock is None or kept.sock.getsockname()[1] == port
