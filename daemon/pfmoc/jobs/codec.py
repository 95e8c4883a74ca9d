"""Jobs as JSON, for records. A plugin's environment is never written: it holds the user's token, and nothing needs it later."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import TypeAdapter

from pfmoc.compute.base import Stages
from pfmoc.jobs.model import CopySpec, DeleteSpec, Job, Kind, Phase, PluginSpec, Spec, UploadSpec

_SPECS: dict[Kind, TypeAdapter[Spec]] = {
    Kind.COPY: TypeAdapter(CopySpec),
    Kind.PLUGIN: TypeAdapter(PluginSpec),
    Kind.UPLOAD: TypeAdapter(UploadSpec),
    Kind.DELETE: TypeAdapter(DeleteSpec),
}
_STAGES = TypeAdapter(Stages)
_TEXTS = ("message", "timestamp", "image", "cmd", "claim")
_RECORD_MAX = 64 << 10
"""Characters of a record that goes with a run: Kubernetes keeps it in an annotation, and all of them must be below 256 KiB."""


def spec_json(kind: Kind, spec: Spec) -> str:
    """A spec as it is recorded."""
    return _SPECS[kind].dump_json(spec, exclude={"env"}).decode()


def spec_of(kind: Kind, text: str) -> Spec:
    """A spec as it was recorded; its environment is empty."""
    return _SPECS[kind].validate_json(text)


def job_json(job: Job) -> str:
    """A whole job."""
    document: dict[str, Any] = {
        "jid": job.jid,
        "kind": job.kind,
        "phase": job.phase,
        "spec": None if job.spec is None else spec_json(job.kind, job.spec),
        "exit_code": job.exit_code,
        "stages": None if job.stages is None else _STAGES.dump_python(job.stages),
        **{name: getattr(job, name) for name in _TEXTS},
    }
    return json.dumps(document, separators=(",", ":"))


def job_of(text: str) -> Job:
    """The job that was written.

    :raises ValueError: the text is none of ours
    :raises KeyError: the same
    """
    document = json.loads(text)
    kind = Kind(document["kind"])
    return Job(
        jid=document["jid"],
        kind=kind,
        phase=Phase(document["phase"]),
        spec=None if document["spec"] is None else spec_of(kind, document["spec"]),
        exit_code=document["exit_code"],
        stages=None if document["stages"] is None else _STAGES.validate_python(document["stages"]),
        **{name: document[name] for name in _TEXTS},
    )


def digest(job: Job) -> str:
    """What tells this life of a job, asked to do this, from any other."""
    text = "" if job.spec is None else spec_json(job.kind, job.spec)
    return hashlib.sha256(f"{job.claim}\0{text}".encode()).hexdigest()[:32]


def run_record(job: Job) -> str:
    """What goes with a plugin job's run, so that the job can be rebuilt from that alone; empty when it would be too long."""
    if job.spec is None:
        return ""
    text = json.dumps({"claim": job.claim, "spec": spec_json(job.kind, job.spec)}, separators=(",", ":"))
    return text if len(text) <= _RECORD_MAX else ""


def from_run(jid: str, record: str) -> Job:
    """The plugin job of a run that has no record here, as it was before the run was looked at."""
    job = Job(jid=jid, kind=Kind.PLUGIN, spec=None, phase=Phase.STARTING)
    if not record:
        return job
    try:
        document = json.loads(record)
        spec, claim = spec_of(Kind.PLUGIN, document["spec"]), str(document["claim"])
    except (ValueError, KeyError, TypeError):
        return job
    return Job(jid=jid, kind=Kind.PLUGIN, spec=spec, phase=Phase.STARTING, claim=claim)
