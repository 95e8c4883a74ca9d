"""Which board a daemon has."""

from __future__ import annotations

from pfmoc.cluster.access import access
from pfmoc.jobs.board import Board
from pfmoc.jobs.cluster_board import ClusterBoard
from pfmoc.jobs.local_board import LocalBoard
from pfmoc.settings import Settings


def open_board(settings: Settings) -> Board:
    """Make the board that goes with the compute environment; the caller enters it.

    :raises SettingsError: the cluster cannot be spoken to
    """
    if not settings.in_cluster:
        return LocalBoard(settings.state_dir)
    reached = access(settings.kubeconfig)
    return ClusterBoard(
        reached,
        namespace=settings.job_namespace or reached.namespace,
        state_dir=settings.state_dir,
        deadline_s=settings.engine_deadline_s,
    )
