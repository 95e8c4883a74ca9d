"""The default storage class: claims bind by themselves, pods share a volume and may write to it, nothing is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from harness.cluster import ARBITRARY_UID, Cluster, claim, pod


def bound(cluster: Cluster, namespace: str, *modes: str) -> str:
    """Claim a volume and wait until it is there; return the name of the volume."""
    cluster.core.create_namespaced_persistent_volume_claim(namespace, claim("data", *modes))
    listing = cluster.core.list_namespaced_persistent_volume_claim
    return cluster.wait(listing, lambda found: found.status.phase == "Bound", namespace).spec.volume_name


def test_one_class_is_the_default_and_makes_volumes_at_once(cluster):
    classes = cluster.storage.list_storage_class().items
    default = [c for c in classes if (c.metadata.annotations or {}).get("storageclass.kubernetes.io/is-default-class") == "true"]
    assert [(c.volume_binding_mode, c.reclaim_policy) for c in default] == [("Immediate", "Delete")]


def test_two_pods_share_a_volume_at_the_same_time(cluster, namespace):
    bound(cluster, namespace, "ReadWriteMany")
    waits = "echo {mine} > /data/{mine}; while ! [ -s /data/{other} ]; do sleep 0.1; done; cat /data/{other}"
    first = pod(waits.format(mine="one", other="two"), claims={"/data": "data"})
    name = cluster.core.create_namespaced_pod(namespace, first).metadata.name
    # Of another user id: what a project's pods write belongs to no single one.
    ended = cluster.run(namespace, pod(waits.format(mine="two", other="one"), uid=ARBITRARY_UID + 1, claims={"/data": "data"}))
    assert (ended.phase, ended.log) == ("Succeeded", "one\n")
    selector = f"metadata.name={name}"
    cluster.wait(cluster.core.list_namespaced_pod, lambda p: p.status.phase == "Succeeded", namespace, field_selector=selector)
    assert cluster.core.read_namespaced_pod_log(name, namespace) == "two\n"


@pytest.mark.parametrize(
    ("uid", "gid", "fs_group"), [(ARBITRARY_UID, 0, None), (ARBITRARY_UID, 0, ARBITRARY_UID), (1000, 1000, 2000)]
)
def test_any_user_id_may_write_and_new_files_have_the_volumes_group(cluster, namespace, uid, gid, fs_group):
    bound(cluster, namespace, "ReadWriteOnce")
    script = "mkdir /data/a; echo x > /data/a/b; stat -c %u:%g /data/a/b"
    ended = cluster.run(namespace, pod(script, uid=uid, gid=gid, fs_group=fs_group, claims={"/data": "data"}))
    assert (ended.phase, ended.log) == ("Succeeded", f"{uid}:0\n")


def test_data_outlive_the_pod(cluster, namespace):
    bound(cluster, namespace, "ReadWriteMany")
    for script, says in (("echo kept > /data/file", ""), ("cat /data/file", "kept\n")):
        ended = cluster.run(namespace, pod(script, claims={"/data": "data"}))
        assert (ended.phase, ended.log) == ("Succeeded", says)


def test_the_end_of_a_claim_is_the_end_of_its_data(cluster, namespace):
    volume = bound(cluster, namespace, "ReadWriteMany")
    directory = Path(cluster.core.read_persistent_volume(volume).spec.host_path.path)
    # As another user id, and closed to all others: removing it is not a matter of the owner's good will.
    script = "mkdir -m 0700 /data/mine; mkdir -m 1777 /data/tmp; echo x > /data/mine/file; echo x > /data/tmp/file"
    assert cluster.run(namespace, pod(script, claims={"/data": "data"})).phase == "Succeeded"
    assert (directory / "mine/file").read_text() == "x\n"
    cluster.core.delete_namespaced_persistent_volume_claim("data", namespace)
    cluster.wait_until_gone(cluster.core.list_persistent_volume, volume)
    assert not directory.exists()


def test_a_provisioner_that_is_killed_meanwhile_goes_on(box, cluster, namespace):
    pid = int(box.status()["storage"]["pid"])
    cluster.core.create_namespaced_persistent_volume_claim(namespace, claim("data", "ReadWriteMany"))
    helpers = cluster.core.list_namespaced_pod
    cluster.wait(helpers, lambda found: found.metadata.name.startswith("helper-pod-create-"), "local-path-storage")
    os.kill(pid, signal.SIGKILL)
    listing = cluster.core.list_namespaced_persistent_volume_claim
    cluster.wait(listing, lambda found: found.status.phase == "Bound", namespace)
    assert cluster.run(namespace, pod("echo x > /data/file", claims={"/data": "data"})).phase == "Succeeded"


def test_the_hosts_users_cannot_reach_into_a_volume(cluster, namespace):
    directory = Path(cluster.core.read_persistent_volume(bound(cluster, namespace, "ReadWriteOnce")).spec.host_path.path)
    assert directory.parent.stat().st_mode & 0o077 == 0
