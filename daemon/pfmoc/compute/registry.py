"""Which compute environment a daemon has."""

from __future__ import annotations

from pfmoc.compute.base import Compute
from pfmoc.compute.kubernetes import KubernetesCompute
from pfmoc.compute.podman import PodmanCompute
from pfmoc.compute.process import ProcessCompute
from pfmoc.settings import Settings


def open_compute(settings: Settings) -> Compute:
    """Make the environment that the settings name; the caller enters it.

    :raises SettingsError: the environment cannot honour a setting on this machine
    """
    if settings.container_env == "process":
        return ProcessCompute(settings)
    if settings.container_env in ("kubernetes", "openshift"):
        return KubernetesCompute(settings)
    return PodmanCompute(settings)
