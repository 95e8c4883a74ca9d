"""Every service of the cluster is killed in turn: it comes back, what ran goes on, what was stored is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.box import Box
from harness.cluster import Cluster, pod
from harness.waiting import until
from kubernetes import client
from urllib3.exceptions import HTTPError

DEADLINE_S = 120
SERVES_S = 180
"""For a pod that asks again for a minute or more: the DNS server too may have to start anew."""
# Without these a pod goes on as if nothing had happened.
AROUND = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "containerd",
    "kube-proxy",
    "publish",
]


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """With something stored, and a Deployment that serves by name."""
    with cluster.namespace() as name:
        cluster.core.create_namespaced_config_map(name, {"metadata": {"name": "stored"}, "data": {"key": "value"}})
        template = pod("exec httpd -f -p 8080 -h /etc")["spec"] | {"restartPolicy": "Always"}
        labels = {"app": "web"}
        apps = client.AppsV1Api(cluster.api)
        apps.create_namespaced_deployment(
            name,
            {
                "metadata": {"name": "web"},
                "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": template}},
            },
        )
        ports = [{"port": 80, "targetPort": 8080}]
        cluster.core.create_namespaced_service(name, {"metadata": {"name": "web"}, "spec": {"selector": labels, "ports": ports}})
        cluster.wait(apps.list_namespaced_deployment, lambda found: found.status.ready_replicas == 1, name)
        yield name


def container(cluster: Cluster, namespace: str) -> Any:
    """The web server's container, as the API tells; None while it does not."""
    try:
        (found,) = cluster.core.list_namespaced_pod(namespace, label_selector="app=web").items
    except (client.ApiException, HTTPError):
        return None
    return (found.status.container_statuses or [None])[0]


def serves(cluster: Cluster, namespace: str) -> bool:
    """True if a new pod finds the web server by name: DNS, kube-proxy, scheduler, kubelet and containerd have a part in it."""
    script = f"i=0; until wget -qO- http://web.{namespace}.svc/passwd || [ $i -gt 300 ]; do i=$((i + 1)); sleep 0.2; done"
    return "root" in cluster.run(namespace, pod(script), deadline_s=SERVES_S).log


@pytest.mark.parametrize("service", AROUND)
def test_a_killed_service_comes_back_and_pods_do_not_notice(box, cluster, namespace, service):
    before = until(lambda: container(cluster, namespace), what="the API", deadline_s=DEADLINE_S)
    box.kill(service)
    after = until(lambda: container(cluster, namespace), what="the API", deadline_s=DEADLINE_S)
    assert (after.container_id, after.restart_count) == (before.container_id, before.restart_count)
    assert after.state.running
    assert cluster.core.read_namespaced_config_map("stored", namespace).data == {"key": "value"}
    assert serves(cluster, namespace)


def test_the_dns_server_comes_back(box, cluster, namespace):
    (server,) = cluster.core.list_namespaced_pod("kube-system", label_selector="k8s-app=kube-dns").items
    restarts = server.status.container_statuses[0].restart_count
    (process,) = (
        process for process in psutil.process_iter(["exe"]) if process.info["exe"] == "/coredns" and in_box(process.pid, box)
    )
    process.kill()
    cluster.wait(
        cluster.core.list_namespaced_pod,
        lambda found: found.status.container_statuses[0].restart_count > restarts and found.status.container_statuses[0].ready,
        "kube-system",
        label_selector="k8s-app=kube-dns",
    )
    assert serves(cluster, namespace)


def in_box(pid: int, box: Box) -> bool:
    """True for a process below the cgroup of this box's node."""
    cgroup = (box.directory / "kubernetes/kubelet.yaml").read_text().partition("cgroupRoot: ")[2].split()[0]
    return cgroup in Path(f"/proc/{pid}/cgroup").read_text()


def test_with_the_sandbox_everything_inside_ends_and_starts_anew(box, cluster, namespace):
    before = until(lambda: container(cluster, namespace), what="the API", deadline_s=DEADLINE_S)
    pids = {name: row["pid"] for name, row in box.status().items() if row["group"] == "kubernetes" and row["pid"]}
    box.kill("sandbox")

    def others() -> bool:
        rows = box.status()
        return not [name for name, pid in pids.items() if rows[name]["pid"] == pid]

    until(others, what="other processes", deadline_s=DEADLINE_S)

    def restarted() -> bool:
        now = container(cluster, namespace)
        return bool(now and now.ready and now.container_id != before.container_id)

    until(restarted, what="the web server to run again", deadline_s=DEADLINE_S)
    assert cluster.core.read_namespaced_config_map("stored", namespace).data == {"key": "value"}
    assert serves(cluster, namespace)
