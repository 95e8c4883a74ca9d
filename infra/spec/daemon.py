"""The daemon of a site: pfmoc."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.spec.base import Model, Name, Port, Text

DialectName = Literal["pfcon6", "pfcon5", "pfcon4", "pfcon3", "pman", "cmd-pfcon", "cmd-pman", "cmd-pfioh"]


class PodLimits(Model):
    """What a pod of the daemon may use."""

    cpu_m: Annotated[int, Field(ge=1)] = 1000
    """Thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=64)] = 512
    """MiB."""


class JobLimits(Model):
    """What one job may ask for at most."""

    cpu_m: Annotated[int, Field(ge=1)] = 8000
    """Thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=1)] = 32_768
    """MiB."""
    gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs."""
    seconds: Annotated[int, Field(ge=1)] = 86_400
    """Seconds that it may run."""


class Daemon(Model):
    """The daemon, where it runs and what it uses."""

    tenant: Name | None = None
    """The tenant whose projects it runs and stores in. Required where compute or storage is in a cloud."""
    host: Text = "127.0.0.1"
    """Address to listen on, where it runs on a host. Anything but loopback offers the API to the network."""
    port: Port = 5005
    """Port to listen on. 5005 is upstream's for pfcon. `$PORT` overrides it."""
    storage: Literal["zipfile", "filesystem", "fslink", "swift", "s3"] = "zipfile"
    """How data travel: `zipfile` is through the API itself. `s3` is refused: Pulumi makes no keys of S3."""
    compute: Literal["auto", "podman", "process", "kubernetes"] = "auto"
    """Where plugins run: in pods of the tenant's OpenShift project (`kubernetes`), in containers or as processes of the host.
    `auto` is containers where they work, else processes. `$PFMOC_COMPUTE` overrides it."""
    container: Text | None = None
    """The tenant's container that job data are kept in, for storage `swift`. Default: its only one."""
    volume_gib: Annotated[int, Field(ge=1)] | None = None
    """Size of a shared volume for job data, GiB, with compute `kubernetes`: for storage `filesystem` and `fslink`, and for
    `swift` where the daemon is to bring data onto it. Without it each job's pod moves its own data from and to Swift."""
    storage_class: Text | None = None
    """Storage class of that volume. Default: the cluster's."""
    volume_access: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    """How that volume may be mounted. `ReadWriteOnce`, for a class of which one node at a time may mount a volume, has one pod of
    the daemon, which an update interrupts, and all jobs on that pod's node."""
    image: Text | None = None
    """Image of the daemon. Required for compute `kubernetes`."""
    replicas: Annotated[int, Field(ge=0, le=10)] = 1
    """Pods of the daemon, for compute `kubernetes`."""
    dialects: Annotated[tuple[DialectName, ...], Field(min_length=1)] = ("pfcon6", "pfcon5")
    """Generations of the API that are served."""
    route_host: Text | None = None
    """Host name of its route. Default: the router's choice."""
    limits: PodLimits = PodLimits()
    """What each of its pods may use."""
    job_limits: JobLimits = JobLimits()
    """What each job may ask for."""

    @property
    def in_cluster(self) -> bool:
        """True when the daemon and its jobs are pods of the tenant's OpenShift project."""
        return self.compute == "kubernetes"

    @property
    def on_volume(self) -> bool:
        """True when job data are on a volume that the daemon and its jobs share."""
        return self.in_cluster and (self.storage in ("filesystem", "fslink") or (self.in_swift and self.volume_gib is not None))

    @property
    def in_swift(self) -> bool:
        """True when job data are kept in a container of the tenant."""
        return self.storage == "swift"
