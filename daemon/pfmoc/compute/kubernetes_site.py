"""What a daemon's settings, and the namespace of its jobs, say of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pfmoc.compute.kubernetes_spec import Site, User
from pfmoc.settings import Settings, SettingsError

UID = 1001
"""User of pods where neither the settings nor the cluster give one: under Pod Security none runs as root, and most plugin images
are made for root or for any user. Red Hat's images have this one."""

UID_RANGE = "openshift.io/sa.scc.uid-range"
"""Annotation with which OpenShift gives a project its user ids, as ``1000650000/10000``. restricted-v2 takes each of them."""
GROUPS = "openshift.io/sa.scc.supplemental-groups"

GPUS_OF_A_NODE = 16
"""The most that one node has, where the settings do not say."""


def site_of(settings: Settings, *, mover: Mapping[str, Sequence[str]] | None = None) -> Site:
    """What the settings say.

    :param mover: command lines of ``pull`` and ``publish``, for tests
    :raises SettingsError: storage is on a volume, and which claim that is has not been said
    """
    if not settings.travels and settings.volume_name is None:
        raise SettingsError(
            [f"VOLUME_NAME: is required when CONTAINER_ENV is {settings.container_env} and STORAGE_ENV is {settings.storage_env}"]
        )
    return Site(
        mover_image=settings.mover_image,
        **({} if mover is None else {"mover": mover}),
        storebase_mount=settings.storebase_mount,
        claim=settings.volume_name,
        job_labels=settings.job_labels,
        node_selector=settings.node_selector,
        pull_secrets=settings.image_pull_secrets,
        architectures=settings.architectures,
        gpu_resource=settings.gpu_resource,
        gpu_products=settings.gpu_products,
        priority=settings.job_priority_class,
        queue=settings.job_queue,
        ephemeral_mib=settings.job_ephemeral_mib,
        shm_mib=settings.shm_size_mib,
        home_workaround=settings.home_workaround,
        publish_s=settings.publish_deadline_s,
        deadline_s=settings.job_deadline_s,
        ttl_s=settings.job_ttl_s,
    )


def gpus_of(settings: Settings) -> int:
    """How many GPUs a run may ask for."""
    if settings.gpus is not None:
        return settings.gpus
    return GPUS_OF_A_NODE if settings.gpu_products else 0


def user_of(settings: Settings, namespace: Mapping[str, Any] | None, *, own: int | None = None) -> User:
    """Whom a pod runs as.

    OpenShift gives each project a range of user ids, of which a pod may name one; where there is no such range, on OpenShift its
    admission chooses, and on Kubernetes we do. Files of a pod's volumes are the group's.

    :param namespace: that of the jobs; None when this daemon may not read it
    :param own: user id that the cluster gave this daemon in the same namespace, where it runs there
    """
    notes = ((namespace or {}).get("metadata") or {}).get("annotations") or {}
    uid, group = _first(notes.get(UID_RANGE)), _first(notes.get(GROUPS))
    if settings.container_env == "openshift":
        return User(uid=uid or own, fs_group=group)
    own_uid, own_gid = settings.container_user.draw()
    if own_uid is not None or own_gid is not None:
        return User(uid=own_uid, gid=own_gid, fs_group=own_gid if own_gid is not None else group or own_uid)
    if uid is not None:
        return User(uid=uid, fs_group=group)
    return User(uid=UID, gid=0, fs_group=UID)


def _first(text: str | None) -> int | None:
    """The first of a range, as ``1000650000/10000`` or ``1-5``, or of several."""
    first = (text or "").partition(",")[0].partition("/")[0].partition("-")[0]
    return int(first) if first.isdecimal() else None
