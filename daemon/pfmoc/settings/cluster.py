"""Settings of the compute environments ``kubernetes`` and ``openshift``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from pfmoc.settings.values import Group, named, pairs, words

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"


def _architectures(table: Mapping[str, str]) -> Mapping[str, str]:
    for pattern, arch in table.items():
        if not (arch.isascii() and arch.isalnum()):
            raise ValueError(f"'{arch}', for {pattern}, is no architecture as Kubernetes spells them, such as amd64 or ppc64le")
    return table


class ClusterSettings(Group):
    """What concerns pods. Read by the other environments too, and of no use there."""

    kubeconfig: Path | None = named("KUBECONFIG", "KUBECFG_PATH", default=None)
    """How to reach the cluster. Default: as the pod that this daemon is."""
    job_namespace: Annotated[str, Field(pattern=f"^{_LABEL}$")] | None = named(
        "JOB_NAMESPACE", "OPENSHIFTMGR_PROJECT", default=None
    )
    """Namespace, or project, of the jobs and of their records. Default: the daemon's own, or that of the kubeconfig's context."""
    node_selector: Annotated[Mapping[str, str], BeforeValidator(pairs)] = named("NODE_SELECTOR", default_factory=dict)
    """``k=v,k2=v2``: labels that a job's node must have."""
    image_pull_secrets: Annotated[tuple[str, ...], BeforeValidator(words)] = named("IMAGE_PULL_SECRETS", default=())
    """Secrets with which images are pulled."""
    mover_image: Annotated[str, Field(min_length=1)] = named("PFMOC_MOVER_IMAGE", default="localhost/chris/pfmoc:latest")
    """Image that pulls a job's input and publishes its output: this daemon's own."""
    architectures: Annotated[Mapping[str, str], BeforeValidator(pairs), AfterValidator(_architectures)] = named(
        "PFMOC_ARCHITECTURES", default_factory=dict
    )
    """``pattern=arch,pattern=arch``: the architecture of plugin images by their names, such as ``*/power/*=ppc64le``. The first
    pattern that fits counts; an image that fits none is for ``amd64``. Manifests of images are not looked at."""
    gpu_resource: Annotated[str, Field(pattern=rf"^{_NAME}/[A-Za-z0-9._-]+$")] = named(
        "PFMOC_GPU_RESOURCE", default="nvidia.com/gpu"
    )
    """What a GPU is called in a pod's limits."""
    gpu_products: Annotated[tuple[str, ...], BeforeValidator(words)] = named("PFMOC_GPU_PRODUCTS", default=())
    """The GPUs that this site has, as ``nvidia.com/gpu.product`` labels their nodes, and taints keep others off. A GPU job
    that names one (``gpu_product``) runs there; any other gets the toleration of each, and may run on any."""
    job_priority_class: Annotated[str, Field(pattern=f"^{_NAME}$")] | None = named("PFMOC_JOB_PRIORITY_CLASS", default=None)
    """PriorityClass of jobs. Default: the cluster's."""
    job_queue: Annotated[str, Field(pattern=f"^{_NAME}$")] | None = named("PFMOC_JOB_QUEUE", default=None)
    """Kueue's LocalQueue that admits jobs. Default: none."""
    job_ephemeral_mib: Annotated[int, Field(gt=0)] = named("PFMOC_JOB_EPHEMERAL_MIB", default=20 * 1024)
    """MiB of a node's disk that one job may take: input, output and log together. A job that takes more is evicted."""
    publish_deadline_s: Annotated[int, Field(ge=30)] = named("PFMOC_PUBLISH_DEADLINE_S", default=3600)
    """Seconds that publishing an output may take, its retries included. Where data travel with the pod, it is also the time that
    a plugin has to end when its node is drained or it is preempted, for a pod has one for all its containers: one that does not
    heed SIGTERM keeps its node and its GPU for as long."""
    job_deadline_s: Annotated[int, Field(gt=0)] = named("PFMOC_JOB_DEADLINE_S", default=604_800)
    """Seconds from its start after which a job is ended: a week."""
    queue_wait_s: Annotated[int, Field(ge=0)] = named("PFMOC_QUEUE_WAIT_S", default=86_400)
    """Seconds that a job may wait in a queue, which its deadline does not count. A pod's rights to an object store are good for
    this long and for the two deadlines besides, from the request on: of a job that waits longer the output is lost. Rights to
    pull from ``s3`` end after a week in any case."""
    job_ttl_s: Annotated[int, Field(ge=0)] = named("PFMOC_JOB_TTL_S", default=86_400)
    """Seconds for which an ended job's pods are kept to be looked at. Its record stays longer."""
