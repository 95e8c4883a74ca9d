"""Our entries in a list that others write too, against an API server that others write to."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import yaml
from kubernetes.config import kube_config
from pulumi.dynamic.dynamic import serialize_provider

from infra.shared_list import TRIES, Cluster, Place, SharedListProvider, plain
from infra.sites import ROOT

OURS = {"key": "nvidia.com/gpu.product", "value": "A100", "effect": "NoSchedule"}
THEIRS = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
BY_HAND = {"key": "example.org/repair", "effect": "NoSchedule"}


class Server(ThreadingHTTPServer):
    """An API server with one node.

    :param rivals: how often somebody else writes the node just before a patch arrives
    """

    def __init__(self, taints: list[dict[str, str]], *, rivals: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.node: dict[str, Any] | None = {"metadata": {"resourceVersion": "1"}, "spec": {"taints": taints}}
        self.rivals = rivals


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(200 if self.server.node else 404, self.server.node or {})

    def do_PATCH(self) -> None:
        test, change = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        node = self.server.node
        assert node is not None
        if self.server.rivals:
            self.server.rivals -= 1
            node["metadata"]["resourceVersion"] += "0"
        if test["value"] != node["metadata"]["resourceVersion"]:
            self._answer(422, {"message": "the server rejected our request due to an error in our request"})
            return
        assert change["path"] == "/spec/taints"
        node["spec"]["taints"] = change["value"]
        self._answer(200, node)

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def serve(tmp_path):
    """Start a server; return it, and the properties of a resource on it."""
    servers = []

    def start(*taints, entries=(OURS,), **kwargs):
        server = Server(list(taints), **kwargs)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        document = {
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(document))
        place = Place.taints("node-1")
        where = {"path": place.path, "field": ".".join(place.field), "key": ",".join(place.key)}
        return server, {**where, "entries": list(entries), "context": "it", "kubeconfig": str(file)}

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_those_of_others_stay(serve):
    server, props = serve(THEIRS)
    made = SharedListProvider().create(props)
    assert made.id == "/api/v1/nodes/node-1#spec.taints"
    assert server.node["spec"]["taints"] == [THEIRS, OURS]
    other = OURS | {"value": "H100"}
    SharedListProvider().update(made.id, props, props | {"entries": [other, BY_HAND]})
    assert server.node["spec"]["taints"] == [THEIRS, other, BY_HAND]
    SharedListProvider().delete(made.id, props | {"entries": [other, BY_HAND]})
    assert server.node["spec"]["taints"] == [THEIRS]


def test_somebody_who_writes_meanwhile_is_waited_for(serve):
    server, props = serve(THEIRS, rivals=3)
    SharedListProvider().create(props)
    assert server.node["spec"]["taints"] == [THEIRS, OURS]


def test_not_for_ever(serve):
    server, props = serve(THEIRS, rivals=TRIES)
    with pytest.raises(Exception, match="422"):
        SharedListProvider().create(props)
    assert server.node["spec"]["taints"] == [THEIRS]


@pytest.mark.parametrize(
    ("there", "changed"),
    [
        ([THEIRS, OURS], False),
        ([OURS], False),
        ([THEIRS], True),
        ([OURS | {"value": "another"}], True),
        ([OURS | {"effect": "NoExecute"}], True),
    ],
)
def test_only_ours_are_compared(serve, there, changed):
    _, props = serve(*there)
    read = SharedListProvider().read("x", props)
    difference = SharedListProvider().diff("x", read.outs, props)
    assert (difference.changes, difference.replaces) == (changed, [])


def test_an_object_that_is_gone_is_gone(serve):
    server, props = serve()
    server.node = None
    assert SharedListProvider().read("x", props).id == ""
    SharedListProvider().delete("x", props)


def test_another_object_is_another_resource(serve):
    _, props = serve()
    difference = SharedListProvider().diff("x", props, props | {"path": "/api/v1/nodes/node-2"})
    assert (difference.changes, difference.replaces) == (True, ["path"])


@pytest.mark.parametrize("where", ["context", "kubeconfig"])
def test_another_context_is_kept_in_the_state(serve, where):
    _, props = serve(OURS)
    difference = SharedListProvider().diff("x", props | {where: "of yesterday"}, props)
    assert (difference.changes, difference.replaces) == (True, [])
    assert SharedListProvider().update("x", props | {where: "of yesterday"}, props).outs[where] == props[where]


def test_no_value_and_an_empty_one_are_the_same():
    assert plain([{"key": "a", "value": "", "effect": "NoSchedule"}]) == plain([{"effect": "NoSchedule", "key": "a"}])


def test_the_engine_finds_the_provider_where_it_runs_it():
    """It runs the provider in infra/, and hands it what the program wrote."""
    program = "import base64, dill, sys; print(type(dill.loads(base64.b64decode(sys.argv[1]))).__module__)"
    words = [sys.executable, "-c", program, serialize_provider(SharedListProvider())]
    done = subprocess.run(words, cwd=ROOT / "infra", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "shared_list"


def test_threads_that_ask_at_once_have_the_certificate_whole(serve, tmp_path, monkeypatch):
    """As the engine looks at all lists of a site. One that had half a file was told that it holds no certificate."""
    _, props = serve()
    document = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1"
    document["users"][0]["user"] = {"client-certificate-data": base64.b64encode(b"a certificate").decode()}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    monkeypatch.setattr(kube_config, "_temp_files", {})
    monkeypatch.setattr(kube_config, "open", slow, raising=False)
    together = Barrier(3)

    def look(_: int) -> str:
        together.wait()
        client = Cluster(props)._client
        return Path(client.configuration.cert_file).read_text()

    with ThreadPoolExecutor(together.parties) as pool:
        assert list(pool.map(look, range(together.parties))) == ["a certificate"] * together.parties


def slow(path: str, mode: str = "r") -> Any:
    time.sleep(0.2)
    return Path(path).open(mode)
