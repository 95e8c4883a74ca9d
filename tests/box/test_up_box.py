"""`make up SITE=box`: clouds, images, daemon and workflow on the box, then what operators do to a daemon that is in use.

The site is the box's own, and stays: a second session finds it there, as a person would.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from dotenv import dotenv_values
from harness.box import ROOT, Box
from harness.cluster import ARBITRARY_UID, Cluster
from harness.waiting import until

from workflows.runner.names import know_localhost
from workflows.runner.store import Store

NAMESPACE = "chris"
PAUSE_S = 0.1


@dataclass
class Site:
    """The daemon of the site `box`, as its operator and its users have it."""

    box: Box

    def make(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.box.make(*words, "SITE=box", **more)

    @cached_property
    def first(self) -> subprocess.CompletedProcess[str]:
        return self.make("up", "RUN_FLAGS=--json")

    def play(self, *books: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run playbooks, with these of the site's variables set otherwise."""
        exported = self.box.cache / "pulumi" / "inventories" / "box"
        places = ("inventories/common", "inventories/box", str(exported))
        argv = [".venv/bin/ansible-playbook", *(f"playbooks/{book}" for book in books), "--extra-vars", json.dumps(variables)]
        argv += [word for place in places for word in ("--inventory", place)]
        return subprocess.run(argv, cwd=ROOT, env=self.box.own, capture_output=True, text=True, check=False)

    @property
    def access_file(self) -> Path:
        return self.box.cache / "daemon-box" / "access.env"

    @property
    def access(self) -> dict[str, str]:
        return {name: value or "" for name, value in dotenv_values(self.access_file).items()}

    @cached_property
    def token(self) -> str:
        user = {"pfcon_user": self.access["PFCON_USER"], "pfcon_password": self.access["PFCON_PASSWORD"]}
        url, authorities = self.access["PFMOC_URL"], self.access["PFMOC_AUTHORITIES"]
        return str(requests.post(f"{url}auth-token/", json=user, timeout=60, verify=authorities).json()["token"])

    def kubectl(self, *words: str) -> str:
        argv = [str(self.box.toolchain / "bin" / "kubectl"), "--kubeconfig", str(self.box.kubeconfig), "--namespace", NAMESPACE]
        return subprocess.run([*argv, *words], capture_output=True, text=True, check=True).stdout

    def objects(self, *kinds: str) -> list[dict[str, Any]]:
        return list(json.loads(self.kubectl("get", ",".join(kinds), "--output", "json"))["items"])

    def pods(self) -> set[str]:
        """The daemon's, without those that are on their way out."""
        found = (pod["metadata"] for pod in self.objects("pods"))
        return {meta["name"] for meta in found if meta["name"].startswith("pfmoc-") and "deletionTimestamp" not in meta}

    @property
    def memory(self) -> str:
        """Of the daemon's pods, as the Deployment has it: what the tests change."""
        (deployment,) = self.objects("deployments")
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])

    @contextmanager
    def clients(self) -> Iterator[Asked]:
        """Two clients that ask the daemon without a pause to speak of."""
        asked, stop = Asked(), threading.Event()
        token = self.token
        threads = [threading.Thread(target=asked.ask, args=(self.access, token, stop)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield asked
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@dataclass
class Asked:
    """What clients were answered."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def ask(self, access: dict[str, str], token: str, stop: threading.Event) -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {token}"
            while not stop.is_set():
                began = time.monotonic()
                try:
                    # Said with each request: what the environment says goes before a session's own.
                    answer = session.get(f"{access['PFMOC_URL']}pluginjobs/", timeout=60, verify=access["PFMOC_AUTHORITIES"])
                    problem = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
                except requests.RequestException as error:
                    problem = repr(error)
                if problem:
                    self.failed.append(f"{problem} after {time.monotonic() - began:.1f} s")
                else:
                    self.answered += 1
                stop.wait(PAUSE_S)


@pytest.fixture(scope="module")
def site(box: Box, root: None) -> Site:
    know_localhost()
    site = Site(box)
    assert site.first.returncode == 0, site.first.stdout + site.first.stderr
    return site


@pytest.fixture(scope="module")
def report(site: Site) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(site.first.stdout.partition("Workflow\n")[2])
    return document


def test_the_workflow_runs_in_pods_with_its_data_in_swift(site, report):
    assert report["succeeded"]
    assert {node["name"]: node["files"] for node in report["nodes"]} == {"prefix": 5, "tags": 25, "images": 5, "gallery": 5}
    for node in report["nodes"]:
        assert node["stages"]["node"] == "box-0"
        assert all(node["stages"][name] is not None for name in ("waiting", "pull", "plugin", "publish")), node
    container, _, prefix = report["store"].partition("/")
    store = Store(site.access)
    assert store.container == container
    assert {name.removeprefix(f"{prefix}/").partition("/")[0] for name in store.names(prefix)} >= {"input", "prefix", "gallery"}
    run = prefix.rpartition("/")[2]
    assert not [name for name in store.names("") if name.startswith(f"key-{run}")], "the daemon keeps nothing of its own"
    until(lambda: not [job for job in site.objects("jobs") if run in json.dumps(job)], what="the end of the jobs")


def test_users_get_jobs_on_each_architecture_and_nothing_is_left(site):
    said = site.first.stdout
    assert "token and server info: pfcon 6" in said
    assert "a job on amd64: ran on box-0, output read back" in said
    assert "a job on ppc64le: ran on box-0, output read back" in said
    assert "everything deleted, nothing left" in said


def test_a_second_run_changes_nothing(site, tmp_path):
    workflow = tmp_path / "one.yml"
    image = {"image": "localhost/chris/pl-simpledsapp:1.0.3", "entrypoint": ["simpledsapp"], "args": ["--prefix", "x-"]}
    workflow.write_text(yaml.safe_dump({"name": "one", "nodes": [{"name": "only", **image}]}))
    pods = site.pods()
    again = site.make("up", f"WORKFLOW={workflow}", "RUN_FLAGS=--json")
    assert again.returncode == 0, again.stdout + again.stderr
    before, _, document = again.stdout.partition("Workflow\n")
    assert json.loads(document)["succeeded"]
    assert "box: 0 changes made" in before
    assert before.count("everything is already there") == 2, before
    assert site.pods() == pods


def test_pods_are_replaced_and_taken_back_without_a_failed_request(site):
    before, memory = site.pods(), site.memory
    with site.clients() as asked:
        done = site.play("images.yml", "daemon.yml", pfmoc_memory_mib=500)
        assert done.returncode == 0, done.stdout + done.stderr
        assert site.memory == "500Mi"
        assert not site.pods() & before
        back = site.make("rollback")
        assert back.returncode == 0, back.stdout + back.stderr
        assert site.memory == memory
    assert "everything deleted, nothing left" in back.stdout, "it was used as a user does"
    assert asked.answered > 50
    assert asked.failed[:5] == []


def test_an_upgrade_that_does_not_serve_users_is_taken_back_without_a_failed_request(site):
    """Its pods are well; a job of theirs does not do what its user expects."""
    memory = site.memory
    with site.clients() as asked:
        done = site.play("upgrade.yml", pfmoc_memory_mib=501, site_verify_images={"ppc64le": "localhost/busybox:1"})
    assert done.returncode
    assert "The upgrade failed, and the daemon is again what it was before: a job on ppc64le: it ran on x86_64" in done.stdout
    assert site.memory == memory
    assert asked.answered > 50
    assert asked.failed[:5] == []


def test_secrets_are_in_secrets_and_in_one_private_file(site):
    secret = {name: value for name, value in site.access.items() if name.endswith(("PASSWORD", "SECRET"))}
    assert len(secret) == 2
    assert site.access_file.stat().st_mode & 0o777 == 0o600
    seen = json.dumps(site.objects("deployments", "replicasets", "pods", "configmaps", "events", "services"))
    logs = "".join(site.kubectl("logs", pod, "--tail=-1") for pod in site.pods())
    said = site.first.stdout + site.first.stderr + site.make("register").stdout
    for text in (seen, logs, said):
        assert not [name for name, value in secret.items() if value in text]
    assert secret["PFCON_PASSWORD"] in site.make("register", "PASSWORD=1").stdout


def test_the_image_works_as_any_user_under_the_standard_restricted(site, cluster: Cluster, namespace):
    (deployment,) = site.objects("deployments")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert "@sha256:" in image
    program = (
        "import os, ssl, pfmoc.app, pfmoc.mover; open('/tmp/x', 'w').close();"
        "print(os.getuid(), os.getgid(), len(ssl.create_default_context().get_ca_certs()) > 50)"
    )
    restricted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    container = {"name": "pfmoc", "image": image, "command": ["python3", "-c", program], "securityContext": restricted}
    user = {"runAsNonRoot": True, "runAsUser": ARBITRARY_UID, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": user,
        "containers": [container | {"volumeMounts": mounts}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    cluster.core.create_namespaced_pod(namespace, {"metadata": {"name": "any"}, "spec": spec})
    ended = cluster.wait(cluster.core.list_namespaced_pod, lambda pod: pod.status.phase in ("Succeeded", "Failed"), namespace)
    log = cluster.core.read_namespaced_pod_log("any", namespace)
    assert (ended.status.phase, log.split()) == ("Succeeded", [str(ARBITRARY_UID), "0", "True"]), log
