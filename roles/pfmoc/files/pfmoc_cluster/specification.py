"""What is to be deployed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

NAME = "pfmoc"
SETTINGS_SECRET = "pfmoc-settings"  # noqa: S105 - a name
STORAGE_SECRET = "pfmoc-storage"  # noqa: S105 - a name
SHARED = "ReadWriteMany"
STOREBASE = "/var/local/storeBase"
"""Where the daemon has the volume of job data, unless its settings say otherwise."""


@dataclass(frozen=True, kw_only=True)
class Specification:
    """The daemon of a site.

    :param namespace: the project, which is there
    :param image: the daemon's image, best by digest
    :param replicas: how many pods
    :param port: port that the daemon listens on in its pod
    :param settings: settings that are no secrets, by their names
    :param service_account: whom the pods are towards the cluster
    :param secrets: Secrets whose keys are settings
    :param architectures: of the image, in Go's spelling; empty: all
    :param cpu_m: thousandths of a core
    :param memory_mib: MiB
    :param ephemeral_mib: MiB of the node's disk, for what lies in /tmp for a moment
    :param router_labels: labels of the namespace that the router's connections come from
    :param claim: PersistentVolumeClaim of the job data, where the daemon shares a volume with its jobs; empty: there is none
    :param claim_access: how that may be mounted: one that not many nodes may have at once is one pod's of the daemon
    :param revisions: settings are kept for as long as the cluster remembers a revision that had them
    """

    namespace: str
    image: str
    replicas: int | str
    settings: Mapping[str, str]
    port: int = 5005
    service_account: str = NAME
    secrets: Sequence[str] = (SETTINGS_SECRET, STORAGE_SECRET)
    architectures: Sequence[str] = ()
    cpu_m: int = 1000
    memory_mib: int = 512
    ephemeral_mib: int = 2048
    router_labels: Mapping[str, str] = field(default_factory=dict)
    claim: str = ""
    claim_access: str = SHARED
    revisions: bool = True

    @property
    def alone(self) -> bool:
        """True where two pods of the daemon, which may be on two nodes, cannot both have the volume."""
        return bool(self.claim) and self.claim_access != SHARED

    @property
    def pods(self) -> int | str:
        """How many pods there are to be."""
        return min(int(self.replicas), 1) if self.alone else self.replicas

    @cached_property
    def all_settings(self) -> dict[str, str]:
        """The settings, with those that follow from being in a pod."""
        own = {
            "APPLICATION_MODE": "production",
            "PFMOC_HOST": "0.0.0.0",  # noqa: S104 - the pod's own address; who may reach it is the NetworkPolicy's matter
            "PORT": str(self.port),
            "PFMOC_MOVER_IMAGE": self.image,
            "PFMOC_STATE_DIR": "/tmp/pfmoc",  # noqa: S108 - the pod's own
        }
        if self.claim:
            own |= {"COMPUTE_VOLUME_TYPE": "kubernetes_pvc", "VOLUME_NAME": self.claim, "STOREBASE_MOUNT": STOREBASE}
        return own | {name: str(value) for name, value in self.settings.items()}

    @cached_property
    def settings_name(self) -> str:
        """Name of the ConfigMap: by its content as a rule, so that an earlier revision finds its own."""
        if not self.revisions:
            return NAME
        content = json.dumps(self.all_settings, sort_keys=True)
        return f"{NAME}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Specification:
        """Read what Ansible says; numbers may be text there."""
        numbers = {"replicas", "port", "cpu_m", "memory_mib", "ephemeral_mib"}
        read: dict[str, Any] = {key: int(value) if key in numbers else value for key, value in document.items()}
        return cls(**read)
