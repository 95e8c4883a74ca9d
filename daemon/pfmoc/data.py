"""Where a run's data are: on a volume that the daemon and the plugin share, or in a store to which the pod itself has tickets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Mounts:
    """The two directories of a run, on the daemon's side."""

    incoming: Path
    """Mounted read-only."""
    outgoing: Path
    """Mounted read-write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tickets:
    """What the mover in a run's pod may do: rights to this job's data, and for the run's lifetime only."""

    pull: str = field(repr=False)
    """JSON for ``pfmoc.mover pull``. A secret: who has it can read the job's input."""
    publish: str = field(repr=False)
    """JSON for ``pfmoc.mover publish``. A secret: who has it can write the job's output."""


Data = Mounts | Tickets
