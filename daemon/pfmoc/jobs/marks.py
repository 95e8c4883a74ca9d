"""What the objects are called that several replicas keep in the cluster: records, log tails, and signs of life."""

from __future__ import annotations

from pfmoc.jobs.model import Job, Kind
from pfmoc.jobs.names import engine_name

PREFIX = "pfmoc.chrisproject.org/"
MANAGED = {"app.kubernetes.io/managed-by": "pfmoc"}
KEEPS = f"{PREFIX}keeps"
"""Label of what every replica holds in memory: ``record`` or ``replica``."""
LOG_OF = f"{PREFIX}log-of"
"""Label of log tails, which none holds in memory."""
RECORD, REPLICA = "record", "replica"


def record_name(jid: str, kind: Kind) -> str:
    """ConfigMap of a job's record. The kind goes first: ``x-copy`` may be a job id as well."""
    return f"pfmoc.{kind}.{engine_name(jid)}"


def log_name(job: Job) -> str:
    """ConfigMap of a job's log tail."""
    return f"pfmoc.log.{job.kind}.{engine_name(job.jid)}"


def replica_name(replica: str) -> str:
    """ConfigMap by which a replica shows that it lives."""
    return f"pfmoc.replica.{replica}"
