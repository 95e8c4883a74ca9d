#!/usr/bin/env python3
"""Make a set of simulated node pools be there as a document on standard input lists them, and no others of that set.

A simulated node is a Node object that KWOK keeps Ready and whose pods KWOK plays. Each has a taint that ordinary pods do
not tolerate: what NERC puts on its GPU nodes, one for a foreign architecture, and KWOK's own where neither applies.

The document is a list, in YAML or JSON, of pools: ``name``, ``count``, and optionally ``arch``, ``cpu``, ``memory``,
``gpu`` ({``product``, ``count``}), ``labels`` and ``taints``. A set belongs to whoever names it with ``--set``: the site's
pools stay when somebody makes and removes pools of his own.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import yaml

PREFIX = "box.chrisproject.org"
# Which pool a node is of, and which set the pool is of; a node without the former is a real one.
POOL = f"{PREFIX}/pool"
SET = f"{PREFIX}/pools"
# Digest of all that we say about a node.
CONTENT = f"{PREFIX}/content"
# The annotation by which KWOK knows its nodes, and the taint that its documentation gives them.
FAKE = "kwok.x-k8s.io/node"
PODS = "250"
# What a node must say about its software; nobody reads it of a simulated one.
NODE_INFO = dict.fromkeys(("bootID", "kernelVersion", "kubeProxyVersion", "machineID", "systemUUID"), "") | {
    "containerRuntimeVersion": "simulated",
    "kubeletVersion": "simulated",
    "operatingSystem": "linux",
    "osImage": "simulated",
}
HOST_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class PoolError(Exception):
    """The document or the cluster does not allow it; the text is for people."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Nodes that are alike.

    :param name: the nodes are called ``<name>-0`` and so on
    :param count: how many nodes
    :param arch: as ``kubernetes.io/arch`` spells it
    :param cpu: cores of a node, as a Kubernetes quantity
    :param memory: memory of a node, as a Kubernetes quantity
    :param gpu: ``product``, as NVIDIA's feature discovery labels it, and ``count``, GPUs of a node
    :param labels: more labels; they win over ours
    :param taints: more taints
    """

    name: str
    count: int
    arch: str = HOST_ARCH
    cpu: str = "64"
    memory: str = "256Gi"
    gpu: Mapping[str, Any] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()

    @classmethod
    def parse(cls, document: object) -> Pool:
        """Read one entry of the document."""
        if not isinstance(document, dict):
            raise PoolError(f"a pool is a mapping with name and count, not {document!r}")
        entry = {name: value for name, value in document.items() if value is not None}
        if unknown := entry.keys() - {item.name for item in fields(cls)}:
            raise PoolError(f"pool {entry.get('name')!r} has an unknown key: {', '.join(sorted(unknown))}")
        if not isinstance(entry.get("name"), str) or not isinstance(entry.get("count"), int) or entry["count"] < 0:
            raise PoolError(f"a pool needs a name and a whole number as count: {document!r}")
        gpu = entry.get("gpu")
        if gpu and (not isinstance(gpu, dict) or gpu.keys() != {"product", "count"}):
            raise PoolError(f"the gpu of pool {entry['name']!r} needs product and count, and nothing else")
        return cls(**{**entry, "cpu": str(entry.get("cpu", cls.cpu)), "memory": str(entry.get("memory", cls.memory))})

    def nodes(self, owner: str) -> Iterator[dict[str, Any]]:
        """The Node objects, as a member of the set ``owner``."""
        for number in range(self.count):
            node = self._node(f"{self.name}-{number}", owner)
            content = hashlib.sha256(json.dumps(node, sort_keys=True).encode()).hexdigest()
            node["metadata"]["annotations"] = {FAKE: "fake", CONTENT: content}
            yield node

    def _node(self, name: str, owner: str) -> dict[str, Any]:
        labels = {
            "kubernetes.io/arch": self.arch,
            "kubernetes.io/os": "linux",
            "kubernetes.io/hostname": name,
            "node-role.kubernetes.io/worker": "",
            f"{PREFIX}/node": "simulated",
            POOL: self.name,
            SET: owner,
        }
        capacity = {"cpu": self.cpu, "memory": self.memory, "pods": PODS, "ephemeral-storage": "1Ti"}
        taints = list(self.taints)
        if self.gpu:
            product, count = str(self.gpu["product"]), str(self.gpu["count"])
            labels |= {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": product, "nvidia.com/gpu.count": count}
            capacity["nvidia.com/gpu"] = count
            taints.append({"key": "nvidia.com/gpu.product", "value": product, "effect": "NoSchedule"})
        if self.arch != HOST_ARCH:
            taints.append({"key": "kubernetes.io/arch", "value": self.arch, "effect": "NoSchedule"})
        if not taints:
            taints.append({"key": FAKE, "value": "fake", "effect": "NoSchedule"})
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels | dict(self.labels)},
            "spec": {"taints": taints},
            "status": {
                "capacity": capacity,
                "allocatable": capacity,
                "nodeInfo": NODE_INFO | {"architecture": self.arch},
            },
        }


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cluster, through kubectl, which takes KUBECONFIG from the environment.

    :param kubectl: path of the program
    """

    kubectl: str

    def run(self, *words: str, document: object = None) -> str:
        """Run kubectl with ``document`` on its standard input, and return what it prints."""
        stdin = None if document is None else json.dumps(document)
        done = subprocess.run([self.kubectl, *words], input=stdin, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
        if done.returncode:
            raise PoolError(f"kubectl {words[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def simulated(self, *, or_none: bool = False) -> dict[str, dict[str, Any]]:
        """The simulated nodes of all sets, by name.

        :param or_none: a cluster that does not answer has none
        """
        try:
            items = json.loads(self.run("get", "nodes", f"--selector={POOL}", "--output=json"))["items"]
        except PoolError:
            if not or_none:
                raise
            items = []
        return {item["metadata"]["name"]: item for item in items}


def is_of(node: Mapping[str, Any], owner: str) -> bool:
    """True if the node is of the set."""
    return bool(node["metadata"]["labels"].get(SET) == owner)


def is_ready(node: Mapping[str, Any]) -> bool:
    """True if the node says so."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))


def is_same(node: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """True if the node was made as it is wanted."""
    return bool(wanted and node["metadata"]["annotations"].get(CONTENT) == wanted["metadata"]["annotations"][CONTENT])


def reconcile(cluster: Cluster, pools: Sequence[Pool], owner: str, *, dry: bool) -> tuple[int, int]:
    """Make and remove nodes of the set ``owner``; return how many were made and removed, or would be.

    A node whose pool has changed is removed and made anew: its pods were placed on another machine.
    """
    wanted = {node["metadata"]["name"]: node for pool in pools for node in pool.nodes(owner)}
    if len(wanted) != sum(pool.count for pool in pools):
        raise PoolError("two of the pools would have nodes of the same name")
    there = cluster.simulated(or_none=dry)
    if taken := next((name for name, node in there.items() if name in wanted and not is_of(node, owner)), None):
        raise PoolError(f"another set of pools has a node called {taken}; name the pool otherwise")
    removed = [name for name, node in there.items() if is_of(node, owner) and not is_same(node, wanted.get(name))]
    made = [node for name, node in wanted.items() if name not in there or name in removed]
    if removed and not dry:
        cluster.run("delete", "nodes", *removed, "--wait=false", "--ignore-not-found")
    if made and not dry:
        cluster.run("create", "--filename=-", document={"apiVersion": "v1", "kind": "List", "items": made})
    return len(made), len(removed)


def wait_until_ready(cluster: Cluster, owner: str, deadline_s: float) -> None:
    """Wait until KWOK has made all nodes of the set Ready."""
    end = time.monotonic() + deadline_s
    while waiting := [name for name, node in cluster.simulated().items() if is_of(node, owner) and not is_ready(node)]:
        if time.monotonic() > end:
            raise PoolError(f"{len(waiting)} nodes, {waiting[0]} among them, were not Ready in {deadline_s:g} s; does kwok run?")
        time.sleep(0.5)


def main() -> None:
    """Run the command line; the first word printed is ``changed`` or ``unchanged``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--kubectl", default="kubectl", help="path of kubectl")
    parser.add_argument("--set", default="demand", dest="owner", help="the set that the document lists (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="change nothing, and say what would be")
    parser.add_argument("--deadline", type=float, default=120, help="seconds until all are Ready (default: %(default)s)")
    arguments = parser.parse_args()
    cluster = Cluster(kubectl=arguments.kubectl)
    try:
        pools = [Pool.parse(entry) for entry in yaml.safe_load(sys.stdin) or ()]
        made, removed = reconcile(cluster, pools, arguments.owner, dry=arguments.check)
        if not arguments.check:
            wait_until_ready(cluster, arguments.owner, arguments.deadline)
    except (PoolError, yaml.YAMLError) as error:
        sys.exit(str(error))
    changed = "changed" if removed or made else "unchanged"
    print(f"{changed}: {sum(pool.count for pool in pools)} simulated nodes, {made} made, {removed} removed")


if __name__ == "__main__":
    main()
