"""The daemon as the role installs it where data are on a volume that it shares with its jobs: one claim for all of them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import kubernetes.utils
import pytest
import yaml
from harness.box import ROOT, Box
from harness.cluster import BUSYBOX, Cluster, claim
from harness.cluster_program import cluster_program
from harness.pod_site import MOVER

INSTALL_S = 300
ACCOUNT = {"PFCON_USER": "pfcon", "PFCON_PASSWORD": "tell-nobody", "SECRET_KEY": "a secret of these tests, long enough"}
JOURNEY = """
import json, os, pathlib, time, urllib.request
home = pathlib.Path(os.environ["STOREBASE_MOUNT"], "home/user")
(home / "in").mkdir(parents=True)
(home / "out").mkdir()
(home / "in/words").write_text("dark and stormy")
headers = {"Content-Type": "application/json"}

def ask(path, fields=None, method=None):
    data = None if fields is None else json.dumps(fields).encode()
    request = urllib.request.Request("http://127.0.0.1:5005/api/v1/" + path, data, headers, method=method)
    return json.loads(urllib.request.urlopen(request, timeout=60).read() or "null")

def ended(kind):
    until = time.monotonic() + 150
    while time.monotonic() < until:
        compute = ask(f"{kind}jobs/shared/")["compute"]
        if compute["status"] not in ("notStarted", "started"):
            return compute["status"]
        time.sleep(0.5)
    return compute["status"] + ": " + compute["message"]

user = {"pfcon_user": os.environ["PFCON_USER"], "pfcon_password": os.environ["PFCON_PASSWORD"]}
headers["Authorization"] = "Bearer " + ask("auth-token/", user)["token"]
ways = {"jid": "shared", "input_dirs": ["home/user/in"], "output_dir": "home/user/out"}
staged = os.environ["STORAGE_ENV"] == "fslink"
told = [ask("copyjobs/", ways)["compute"]["status"]]
if staged:
    told = [ended("copy")]
script = 'tr a-z A-Z < "$1/words" > "$2/words"'
limits = {"cpu_limit": 50, "memory_limit": 32, "gpu_limit": 0, "number_of_workers": 1}
plugin = {"image": IMAGE, "entrypoint": ["sh", "-c", script, "sh"], "type": "ds", "auid": "cube"}
ask("pluginjobs/", {**ways, **plugin, **limits})
told += [ended("plugin"), (home / "out/words").read_text()]
told.append(ask("deletejobs/", {"jid": "shared"})["compute"]["status"])
if staged:
    told[-1] = ended("delete")
for kind in ("copy", "plugin", "delete") if staged else ("plugin",):
    ask(f"{kind}jobs/shared/", method="DELETE")
print(json.dumps(told))
"""


@pytest.mark.parametrize(("storage", "access", "replicas"), [("fslink", "ReadWriteMany", 2), ("filesystem", "ReadWriteOnce", 1)])
def test_the_daemon_works_on_a_shared_volume(
    box: Box, cluster: Cluster, images: None, namespace: str, storage: str, access: str, replicas: int
):
    cluster.core.create_namespaced_persistent_volume_claim(namespace, claim("pfmoc", access))
    cluster.core.create_namespaced_secret(namespace, {"metadata": {"name": "pfmoc-settings"}, "stringData": ACCOUNT})
    template = yaml.safe_load((ROOT / "docs/reference/pfmoc-template.yml").read_text())
    for each in template["objects"]:
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            kubernetes.utils.create_from_dict(cluster.api, each, namespace=namespace)
    install(box, namespace, {"claim": "pfmoc", "claim_access": access, "replicas": replicas}, storage)
    pods = [pod.metadata.name for pod in cluster.core.list_namespaced_pod(namespace).items]
    assert len(pods) == replicas

    program = f"IMAGE = {BUSYBOX!r}\n{JOURNEY}"
    told = json.loads(inside(box, namespace, pods[0], "python3", "-c", program))
    done = "finishedSuccessfully"
    assert told == [done, done, "DARK AND STORMY", done]
    assert inside(box, namespace, pods[-1], "cat", "/var/local/storeBase/home/user/out/words") == "DARK AND STORMY"
    left = "import glob; print(*glob.glob('/var/local/storeBase/key-*'))"
    assert inside(box, namespace, pods[-1], "python3", "-c", left) == "\n"


def install(box: Box, namespace: str, more: dict[str, Any], storage: str) -> None:
    """Install the daemon, and wait until it is ready."""
    daemon = {
        "image": MOVER,
        "secrets": ["pfmoc-settings"],
        "cpu_m": 500,
        "settings": {"CONTAINER_ENV": "kubernetes", "STORAGE_ENV": storage, "PFCON_INNETWORK": "true"},
        **more,
    }
    cluster_program(box, namespace, "apply", timeout_s=INSTALL_S, daemon=daemon)


def inside(box: Box, namespace: str, pod: str, *argv: str) -> str:
    """What a program in a pod of the daemon says."""
    kubectl = [str(box.toolchain / "bin/kubectl"), "--kubeconfig", str(box.kubeconfig), "--namespace", namespace]
    done = subprocess.run([*kubectl, "exec", pod, "--", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
