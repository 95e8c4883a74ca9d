"""Programs of another architecture in real pods."""

from __future__ import annotations

import os
import platform
import signal

import pytest
from harness.cluster import BUSYBOX_PPC64LE, pod
from harness.waiting import until

LABEL = "box.chrisproject.org/emulates-ppc64le"

pytestmark = pytest.mark.skipif(platform.machine() == "ppc64le", reason="nothing is foreign about ppc64le here")


def test_a_ppc64le_pod_runs_restricted_on_the_node_that_says_it_emulates(cluster, namespace):
    script = "uname -m; id -u; grep -E '^(NoNewPrivs|CapEff)' /proc/self/status"
    ended = cluster.run(namespace, pod(script, image=BUSYBOX_PPC64LE, uid=1000, selector={LABEL: "true"}))
    assert (ended.phase, ended.log.split()) == (
        "Succeeded",
        ["ppc64le", "1000", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"],
    )


def test_it_starts_other_programs_of_its_own_architecture(cluster, namespace):
    """Through the interpreter that the kernel has opened: there is no qemu in the image."""
    script = "test ! -e /usr; i=0; while [ $i -lt 20 ]; do i=$((i + 1)); /bin/uname -m; done | sort | uniq -c | tr -s ' '"
    ended = cluster.run(namespace, pod(script, image=BUSYBOX_PPC64LE, selector={LABEL: "true"}))
    assert (ended.phase, ended.log.strip()) == ("Succeeded", "20 ppc64le")


def test_it_comes_back_when_it_is_killed(box, cluster, namespace):
    pid = int(box.status()["foreign"]["pid"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: box.status()["foreign"]["pid"] not in {pid, None}, what="the next process", deadline_s=60)
    ended = cluster.run(namespace, pod("uname -m", image=BUSYBOX_PPC64LE, selector={LABEL: "true"}))
    assert (ended.phase, ended.log) == ("Succeeded", "ppc64le\n")


def test_the_node_is_still_of_its_own_architecture(cluster):
    nodes = cluster.core.list_node(label_selector=f"{LABEL}=true").items
    assert nodes
    assert {node.metadata.labels["kubernetes.io/arch"] for node in nodes} == {"amd64"}
