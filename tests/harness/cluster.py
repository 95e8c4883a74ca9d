"""A Kubernetes cluster as its clients see it: namespaces that go away again, pods that pass Pod Security ``restricted``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

from harness.waiting import until

BUSYBOX = "localhost/busybox:1"
BUSYBOX_PPC64LE = "localhost/busybox-ppc64le:1"
DEADLINE_S = 120
# A user id as OpenShift gives one to a project: known to no image, in group 0.
ARBITRARY_UID = 1_000_650_000
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a pod ended."""

    phase: str
    node: str
    log: str


class Cluster:
    """The APIs of one cluster, through the official client."""

    def __init__(self, kubeconfig: Path) -> None:
        self.api: client.ApiClient = config.new_client_from_config(str(kubeconfig))
        self.core = client.CoreV1Api(self.api)
        self.batch = client.BatchV1Api(self.api)
        self.storage = client.StorageV1Api(self.api)

    def close(self) -> None:
        """Close its connections; what the garbage collector closes is a warning."""
        self.api.rest_client.pool_manager.clear()
        self.api.close()

    @contextmanager
    def namespace(self, *, security: str = "restricted") -> Iterator[str]:
        """A new namespace under this level of Pod Security, removed with all that is in it."""
        labels = {"pod-security.kubernetes.io/enforce": security}
        metadata = {"generateName": "test-", "labels": labels}
        name = self.core.create_namespace({"metadata": metadata}).metadata.name
        try:
            # Without it no pod is admitted; a controller makes it a moment later.
            self.wait(self.core.list_namespaced_service_account, lambda account: account.metadata.name == "default", name)
            yield name
        finally:
            self.core.delete_namespace(name)

    def events(self, listing: Callable[..., Any], *arguments: str, deadline_s: float, **options: Any) -> Iterator[dict[str, Any]]:
        """Watch what ``listing`` lists until the deadline.

        All that is there comes first, and once more whenever the server has ended the stream, as it does to a slow reader.
        """
        end = time.monotonic() + deadline_s
        while (left := math.ceil(end - time.monotonic())) > 0:
            yield from watch.Watch().stream(listing, *arguments, timeout_seconds=left, **options)

    def wait(
        self,
        listing: Callable[..., Any],
        condition: Callable[[Any], object],
        *arguments: str,
        deadline_s: float = DEADLINE_S,
        **selectors: str,
    ) -> Any:
        """Watch what ``listing`` lists until one of the objects meets the condition, and return that object."""
        found = None
        for event in self.events(listing, *arguments, deadline_s=deadline_s, **selectors):
            found = event["object"]
            if event["type"] != "DELETED" and condition(found):
                return found
        raise AssertionError(
            f"waited {deadline_s} s in vain on {listing.__name__} {arguments} {selectors}; the last one: {found}"
        )

    def wait_until_gone(self, listing: Callable[..., Any], name: str, *arguments: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait until ``listing`` lists nothing of this name."""
        selector = f"metadata.name={name}"
        until(
            lambda: not listing(*arguments, field_selector=selector).items,
            what=f"the end of {name}",
            deadline_s=deadline_s,
        )

    def run(self, namespace: str, pod: Mapping[str, Any], *, deadline_s: float = DEADLINE_S) -> Ended:
        """Make the pod, wait until it has ended, remove it, and tell how it ended."""
        name = self.core.create_namespaced_pod(namespace, pod).metadata.name
        ended = self.wait(
            self.core.list_namespaced_pod,
            lambda found: found.status.phase in _ENDED,
            namespace,
            field_selector=f"metadata.name={name}",
            deadline_s=deadline_s,
        )
        log = self.core.read_namespaced_pod_log(name, namespace)
        self.core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
        return Ended(phase=ended.status.phase, node=ended.spec.node_name, log=log)


def pod(
    script: str,
    *,
    image: str = BUSYBOX,
    uid: int = ARBITRARY_UID,
    gid: int = 0,
    fs_group: int | None = None,
    claims: Mapping[str, str] | None = None,
    selector: Mapping[str, str] | None = None,
    tolerations: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """A pod that runs a shell script once, as Pod Security ``restricted`` wants it.

    :param gid: group id; OpenShift gives 0
    :param claims: claim by the path at which its volume is mounted
    """
    security = {"runAsUser": uid, "runAsGroup": gid, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if fs_group is not None:
        security["fsGroup"] = fs_group
    claims = claims or {}
    return {
        "metadata": {"generateName": "pod-"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": security,
            "nodeSelector": dict(selector or {}),
            "tolerations": list(tolerations),
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "Never",
                    "command": ["/bin/sh", "-euc", script],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": claim, "mountPath": path} for path, claim in claims.items()],
                }
            ],
            "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims.values()],
        },
    }


def claim(name: str, *modes: str, size: str = "64Mi") -> dict[str, Any]:
    """A claim of the default storage class."""
    return {"metadata": {"name": name}, "spec": {"accessModes": list(modes), "resources": {"requests": {"storage": size}}}}
