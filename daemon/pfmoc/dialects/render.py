"""Jobs as the wire shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pfmoc.jobs.model import Job, Status
from pfmoc.storage.base import Staged

Spelling = Callable[[Status], str]
"""How a generation spells a status."""


def new_spelling(status: Status) -> str:
    """``notStarted``, as pfcon 6 has it."""
    return status.value


def old_spelling(status: Status) -> str:
    """``notstarted``, as every generation before pfcon 6 has it; the other words are the same."""
    return "notstarted" if status is Status.NOT_STARTED else status.value


def compute(job: Job, log: str, *, spell: Spelling) -> dict[str, str]:
    """The compute object: seven keys, always (contract 2.2)."""
    return {
        "jid": job.jid,
        "image": job.image,
        "cmd": job.cmd,
        "status": spell(job.status),
        "message": job.message,
        "timestamp": job.timestamp,
        "logs": log,
    }


def data(jid: str, staged: Staged | None) -> dict[str, Any]:
    """The data object: what staging did, or nothing where this request staged nothing."""
    if staged is None:
        return {}
    timestamp = staged.at.strftime("%Y-%m-%d %H:%M:%S.%f")
    return {"jid": jid, "nfiles": staged.nfiles, "timestamp": timestamp, "path": str(staged.path)}
