"""Who reaches whom: pods each other, the API, OpenStack; the machine the API; and nobody anything else."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from harness.cluster import BUSYBOX, Cluster, pod
from harness.images import write_archive
from kubernetes import client

NODE = "10.89.0.1"
KUBECTL = "localhost/test/kubectl:1"


def said(cluster: Cluster, namespace: str, script: str) -> list[str]:
    """What a pod prints that runs the script."""
    ended = cluster.run(namespace, pod(script))
    assert ended.phase == "Succeeded", ended
    return ended.log.splitlines()


@contextmanager
def listener(host: str) -> Iterator[int]:
    """Somebody who listens on this machine and counts as reached once connected; the port."""
    with socket.create_server((host, 0)) as server:
        reached: list[object] = []

        def serve() -> None:
            while True:
                try:
                    reached.append(server.accept())
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert not reached, f"a pod reached {host} of the machine: {reached}"


def test_a_deployment_is_reached_by_its_services_name(cluster, namespace):
    """Through DNS and kube-proxy, on another port than the containers', each of them in turn."""
    labels = {"app": "web"}
    template = pod("mkdir /tmp/web; hostname > /tmp/web/index.html; exec httpd -f -p 8080 -h /tmp/web")["spec"]
    template["restartPolicy"] = "Always"
    template["containers"][0]["readinessProbe"] = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1}
    apps = client.AppsV1Api(cluster.api)
    apps.create_namespaced_deployment(
        namespace,
        {
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template},
            },
        },
    )
    cluster.core.create_namespaced_service(
        namespace, {"metadata": {"name": "web"}, "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}}
    )
    cluster.wait(apps.list_namespaced_deployment, lambda found: found.status.ready_replicas == 2, namespace)
    pods = {each.metadata.name for each in cluster.core.list_namespaced_pod(namespace, label_selector="app=web").items}
    # Until both have answered: kube-proxy hears of one before the other.
    script = f"""
        until [ "$(sort -u /tmp/answers | wc -l)" = 2 ]; do
            for host in web web.{namespace}.svc.cluster.local; do wget -qO- http://$host/ >> /tmp/answers || sleep 0.2; done
        done 2>/dev/null
        sort -u /tmp/answers
    """
    assert set(said(cluster, namespace, script)) == pods


def test_dns_knows_the_cluster_and_nothing_else_and_says_so_at_once(cluster, namespace):
    names = said(cluster, namespace, "nslookup kubernetes.default.svc.cluster.local | tail -n +3 | grep Address")
    assert names == ["Address: 10.96.0.1"]
    refused = said(cluster, namespace, "time nslookup example.com 2>&1 | cat; nslookup example.com && exit 1; true")
    assert any("NXDOMAIN" in line for line in refused)


def test_a_pod_speaks_to_the_api_with_its_service_account(box, cluster, namespace, tmp_path):
    archive = tmp_path / "kubectl.tar"
    programs = box.toolchain / "bin"
    write_archive(archive, KUBECTL, {"bin/kubectl": programs / "kubectl", "bin/sh": programs / "busybox"})
    loaded = box.make("box-image", f"F={archive}")
    assert loaded.returncode == 0, loaded.stderr
    rights = client.RbacAuthorizationV1Api(cluster.api)
    rights.create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": "view"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        },
    )
    body = pod("cd /tmp; HOME=/tmp kubectl get pods -o name; kubectl get secrets 2>&1 | head -1 || true", image=KUBECTL)
    body["spec"]["automountServiceAccountToken"] = True
    body["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    body["spec"]["containers"][0]["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    ended = cluster.run(namespace, body)
    pods, secrets = ended.log.splitlines()
    assert pods.startswith("pod/pod-")
    assert "Forbidden" in secrets


def test_a_pod_reaches_keystone_and_swift(box, cluster, namespace):
    if "keystone" not in box.status():
        pytest.skip("this box has no OpenStack")
    keystone, swift = box.port(0), box.port(6)
    script = f"wget -qO- http://{NODE}:{keystone}/v3; echo; wget -qO- http://{NODE}:{swift}/healthcheck; echo"
    version, healthy = said(cluster, namespace, script)
    # Links follow the address that was asked: one that a pod can reach.
    assert f"http://{NODE}:{keystone}/v3" in version
    assert healthy == "OK"


def test_a_pod_reaches_nothing_else_of_the_machine_nor_anything_outside(box, cluster, namespace):
    own = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    with listener("127.0.0.1") as private, listener("") as public:
        targets = [f"{NODE} {private}", f"{NODE} {public}", f"127.0.0.1 {public}", f"{NODE} {box.port(10)}", f"{NODE} 2379"]
        targets += [f"{address} {public}" for address in [*own, "10.88.0.1"]] + ["192.0.2.1 443", "8.8.8.8 53"]
        attempts = "; ".join(f'nc -w 3 {target} < /dev/null 2> /dev/null && echo "reached {target}"' for target in targets)
        assert said(cluster, namespace, f"{attempts}; echo tried") == ["tried"]


def test_etcd_and_kubelet_give_a_pod_nothing(cluster, namespace):
    """The kubelet must be reachable, as on any node; without a certificate it says no."""
    script = f"""
        exec 2> /dev/null
        set +e
        wget -qO- http://{NODE}:10250/pods | grep -v HTTPS
        wget -qO- http://{NODE}:2381/metrics
        echo asked
    """
    assert said(cluster, namespace, script) == ["asked"]


def test_the_machine_has_no_way_into_the_cluster_but_loopback(box, cluster):
    """By its own address, the API is somebody else's, if anybody's: some networks answer for everything."""

    def answers(host: str, port: int) -> bool:
        trust = ssl.create_default_context(cafile=cluster.api.configuration.ssl_ca_cert)
        try:
            with socket.create_connection((host, port), timeout=2) as plain, trust.wrap_socket(plain, server_hostname=host):
                return True
        except OSError:
            return False

    assert answers("127.0.0.1", box.port(10))
    assert not answers(NODE, 6443)
    assert not answers("10.96.0.1", 443)


def test_the_box_listens_on_loopback_only(box):
    """In the machine's own network namespace. A resolver's question, from a port of the kernel's choice, is no listening."""
    own = Path("/proc/self/ns/net").readlink()
    services = {row["pid"]: row["service"] for row in box.status().values() if row["pid"]}
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    heard = [
        (connection.laddr.ip, connection.laddr.port, services[connection.pid], connection.type.name)
        for connection in psutil.net_connections("inet")
        if connection.pid in services
        and connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
        and not connection.raddr
        and not (connection.type is socket.SOCK_DGRAM and first <= connection.laddr.port <= last)
        and Path(f"/proc/{connection.pid}/ns/net").readlink() == own
    ]
    assert heard
    assert not [each for each in heard if each[0] != "127.0.0.1"]


def test_the_machines_network_is_as_it_was(cluster, box):
    """No interface, route or rule of the cluster's is found outside of its namespace."""
    assert not [name for name in psutil.net_if_addrs() if name.startswith(("veth", "cni", "box", "dummy"))]
    routes = Path("/proc/net/route").read_text()
    for network in ("0058", "0059", "0060"):
        assert f"{network}0A\t" not in routes
    tables = subprocess.run([box.toolchain / "bin/nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "kube-proxy" not in tables


def test_a_pod_is_no_part_of_the_machines_mounts(cluster, namespace):
    assert said(cluster, namespace, "echo made") == ["made"]
    mounts = Path("/proc/self/mounts").read_text()
    assert "kubernetes.io~projected" not in mounts
    assert "/run/containerd" not in mounts
    assert BUSYBOX.startswith("localhost/"), "images are local: nothing could pull one"
