"""Objects of the box's cluster, applied to an API server that keeps them in memory."""

from __future__ import annotations

import base64
import datetime as dt
import json
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

PROGRAMS = Path(__file__).resolve().parents[3] / "roles/box_kubernetes/files"
sys.path.insert(0, str(PROGRAMS))

import pki  # noqa: E402 - it lies beside the program that uses it

KINDS = [
    {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
    {"name": "nodes", "kind": "Node", "namespaced": False},
    {"name": "nodes/status", "kind": "Node", "namespaced": False},
]
SETTINGS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "some"}, "data": {"a": "1"}}
PATH = "/api/v1/namespaces/some/configmaps/settings"


class ApiServer(ThreadingHTTPServer):
    """Server-side apply for beginners: what is sent is merged over what is there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, dict] = {"/api/v1": {"resources": KINDS, "metadata": {}}}
        self.writes = 0


class Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self):
        found = self.server.objects.get(self.path)
        self.answer(200 if found else 404, found or {"message": "not found"})

    def do_PATCH(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        assert self.headers["Content-Type"] == "application/apply-patch+yaml"
        assert query["fieldManager"] == ["box"]
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if sent.get("data") == {"a": "refused"}:
            self.answer(422, {"message": "a is not to be refused"})
            return
        self.server.writes += 1
        before = self.server.objects.get(url.path, {"metadata": {}})
        after = before | sent | {"metadata": before["metadata"] | sent["metadata"] | {"resourceVersion": str(self.server.writes)}}
        if query.get("dryRun") != ["All"]:
            self.server.objects[url.path] = after
        self.answer(200, after)

    def answer(self, status: int, document: dict) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    directory = pki.Directory(tmp_path, now=dt.datetime.now(dt.UTC))
    directory.authority("ca")
    directory.certificate(pki.Request(name="server", authority="ca", common_name="server", names=["127.0.0.1"]))
    directory.certificate(pki.Request(name="client", authority="ca", common_name="client"))
    with ApiServer() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
        context.load_verify_locations(tmp_path / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fill(server, tmp_path):
    """Run the program; what it changed."""

    def data(name: str) -> str:
        return base64.b64encode((tmp_path / name).read_bytes()).decode()

    address = f"https://127.0.0.1:{server.server_address[1]}"
    kubeconfig = {
        "clusters": [{"cluster": {"server": address, "certificate-authority-data": data("ca.crt")}}],
        "users": [{"user": {"client-certificate-data": data("client.crt"), "client-key-data": data("client.key")}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))

    def run(*arguments: str, objects: object = (), awaited: object = (), timeout_s: float = 10.0) -> list[str]:
        specification = {
            "objects": objects,
            "awaited": awaited,
            "timeout_s": timeout_s,
            "kubeconfig": str(tmp_path / "kubeconfig"),
        }
        done = subprocess.run(
            [sys.executable, PROGRAMS / "objects.py", *arguments],
            input=json.dumps(specification),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return json.loads(done.stdout)["changed"]

    return run


def test_an_object_is_made_and_then_left_alone(server, fill):
    assert fill("--check", objects=[SETTINGS]) == ["ConfigMap settings"]
    assert PATH not in server.objects
    assert fill(objects=[SETTINGS]) == ["ConfigMap settings"]
    assert server.objects[PATH]["data"] == {"a": "1"}
    assert fill(objects=[SETTINGS]) == []
    assert fill("--check", objects=[SETTINGS]) == []


def test_what_somebody_changed_is_put_right_and_said(server, fill):
    fill(objects=[SETTINGS])
    server.objects[PATH] |= {"data": {"a": "2"}}
    assert fill("--check", objects=[SETTINGS]) == ["ConfigMap settings"]
    assert fill(objects=[SETTINGS]) == ["ConfigMap settings"]
    assert server.objects[PATH]["data"] == {"a": "1"}


def test_what_others_say_of_its_state_is_no_change(server, fill):
    fill(objects=[SETTINGS])
    server.objects[PATH] |= {"status": {"seen": True}}
    assert fill(objects=[SETTINGS]) == []


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (SETTINGS | {"data": {"a": "refused"}}, "422 a is not to be refused"),
        ({"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "x"}}, "the API has no Nothing in v1"),
    ],
    ids=["refused", "unknown kind"],
)
def test_what_the_api_does_not_take_fails_with_its_reason(fill, manifest, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        fill(objects=[manifest])


def test_it_waits_for_a_condition(server, fill):
    def turns_ready() -> None:
        conditions = [{"type": "Ready", "status": "True"}]
        server.objects["/api/v1/nodes/box-0"] = {"metadata": {}, "status": {"conditions": conditions}}

    server.objects["/api/v1/nodes/box-0"] = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    timer = threading.Timer(0.3, turns_ready)
    timer.start()
    assert fill(awaited=[{"apiVersion": "v1", "kind": "Node", "name": "box-0", "condition": "Ready"}]) == []
    timer.join()


@pytest.mark.parametrize(
    ("awaited", "sentence"),
    [
        ({"apiVersion": "v1", "kind": "Node", "name": "box-1"}, "Node box-1 is not there"),
        ({"apiVersion": "v1", "kind": "Node", "name": "box-0", "condition": "Ready"}, "Node box-0 is not Ready: it is asleep"),
        ({"path": "/api/v1/nodes/box-0/proxy"}, "/api/v1/nodes/box-0/proxy does not answer"),
    ],
    ids=["object", "condition", "path"],
)
def test_it_says_what_did_not_come_in_time(server, fill, awaited, sentence):
    conditions = [{"type": "Ready", "status": "False", "message": "it is asleep"}]
    server.objects["/api/v1/nodes/box-0"] = {"metadata": {}, "status": {"conditions": conditions}}
    with pytest.raises(RuntimeError, match=rf"Not after 0\.1 s: {sentence}"):
        fill(awaited=[awaited], timeout_s=0.1)


def test_a_trial_on_a_cluster_that_is_not_there_says_that_all_would_be_made(server, fill, tmp_path):
    kubeconfig = json.loads((tmp_path / "kubeconfig").read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    assert fill("--check", objects=[SETTINGS]) == ["ConfigMap settings"]
    with pytest.raises(RuntimeError, match="refused"):
        fill(objects=[SETTINGS])
