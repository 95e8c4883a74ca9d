"""The domain: a job, what it was asked to do, and how far it has come."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pfmoc.compute.base import INCOMING, OUTGOING, Limits, Stages
from pfmoc.jobs.names import engine_name
from pfmoc.storage.base import Inputs


class Kind(StrEnum):
    """The four kinds of job of pfcon 6. Older dialects only know the plugin."""

    COPY = "copy"
    PLUGIN = "plugin"
    UPLOAD = "upload"
    DELETE = "delete"


class Phase(StrEnum):
    """How far a job has come. The table of moves is in ``lifecycle``."""

    STAGING = "staging"
    """Claimed; its input is being made ready. Not yet answered to the client, so a restart undoes it."""
    STARTING = "starting"
    """Handed to the compute environment. Not yet answered; a restart adopts the run if it exists, else undoes the job."""
    PENDING = "pending"
    """Accepted, not begun."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    """It was accepted, and the compute environment, being well, no longer knows it: the outcome cannot be told."""

    @property
    def terminal(self) -> bool:
        """True when no move leads out of this phase."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.LOST)


class Status(StrEnum):
    """The status words on the wire, as pfcon 6 spells them (contract 2.2)."""

    NOT_STARTED = "notStarted"
    STARTED = "started"
    SUCCEEDED = "finishedSuccessfully"
    FAILED = "finishedWithError"
    UNDEFINED = "undefined"


STATUS_OF_PHASE = {
    Phase.STAGING: Status.NOT_STARTED,
    Phase.STARTING: Status.NOT_STARTED,
    Phase.PENDING: Status.NOT_STARTED,
    Phase.RUNNING: Status.STARTED,
    Phase.SUCCEEDED: Status.SUCCEEDED,
    Phase.FAILED: Status.FAILED,
    Phase.LOST: Status.UNDEFINED,
}


class PluginType(StrEnum):
    """``ds`` plugins get an input directory as an argument, ``fs`` and ``ts`` plugins do not."""

    DS = "ds"
    FS = "fs"
    TS = "ts"


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginSpec:
    """What a plugin job is asked to do. Field names are the wire's."""

    image: str
    entrypoint: Sequence[str]
    type: PluginType
    limits: Limits
    auid: str = ""
    args: Sequence[str] = ()
    args_path_flags: Sequence[str] = ()
    env: Sequence[str] = field(default=(), repr=False)
    """``key=value`` pairs. Holds the user's CUBE token, so it is neither logged nor recorded."""
    input_dirs: Sequence[str] = ()
    output_dir: str | None = None
    placed: bool = False
    """True where the client itself puts the input into ``input_dirs[0]`` and fetches the output from ``output_dir`` (pman)."""
    verbatim: bool = False
    """True where ``args`` are all that follows the entrypoint, the two directories included (the ``cmd`` services)."""

    def command(self) -> list[str]:
        """The plugin's command line (contract 2.7)."""
        if self.verbatim:
            return [*self.entrypoint, *self.args]
        argv = [*self.entrypoint, *_localized(self.args, frozenset(self.args_path_flags))]
        if self.type is PluginType.DS:
            argv.append(INCOMING)
        argv.append(OUTGOING)
        return argv


@dataclass(frozen=True, kw_only=True, slots=True)
class CopySpec:
    """Bring the input into the job's directory."""

    input_dirs: Sequence[str] = ()
    output_dir: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadSpec:
    """Bring the output to the path that the client names."""

    job_output_path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteSpec:
    """Remove the job's data, and end what still runs."""


Spec = PluginSpec | CopySpec | UploadSpec | DeleteSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One job as it stands. Immutable: a move makes a new one (``lifecycle.move``)."""

    jid: str
    kind: Kind
    spec: Spec | None
    """None for a job that was rebuilt from its run alone, because its record was lost."""
    phase: Phase
    message: str = ""
    timestamp: str = ""
    image: str = ""
    cmd: str = ""
    exit_code: int | None = None
    claim: str = ""
    """Tells this life of the job from an earlier and a later one of the same id and kind (``board.Board.claim``)."""
    stages: Stages | None = None
    """Where the time went, of a plugin job that has ended, where the compute environment can tell."""

    @property
    def key(self) -> tuple[str, Kind]:
        """What identifies a job: the client's id and the kind."""
        return (self.jid, self.kind)

    @property
    def engine_name(self) -> str:
        """Name of the job's run in the compute environment (contract 2.2)."""
        return engine_name(self.jid, "" if self.kind is Kind.PLUGIN else self.kind.value)

    @property
    def status(self) -> Status:
        """The word for the wire. A pure function of the phase."""
        return STATUS_OF_PHASE[self.phase]


def _localized(args: Sequence[str], path_flags: frozenset[str]) -> list[str]:
    """Put the input directory in place of the value of every path flag; a trailing path flag gains it (contract 2.7)."""
    argv: list[str] = []
    value_of_path_flag = False
    for arg in args:
        argv.append(INCOMING if value_of_path_flag else arg)
        value_of_path_flag = not value_of_path_flag and arg in path_flags
    if value_of_path_flag:
        argv.append(INCOMING)
    return argv


def inputs_of(jid: str, spec: PluginSpec | CopySpec, *, upload: Path | None = None) -> Inputs:
    """What a job's spec says of its data, for storage.

    :param upload: the spooled zip of the request
    """
    workers = spec.limits.number_of_workers if isinstance(spec, PluginSpec) else None
    return Inputs(jid=jid, upload=upload, input_dirs=spec.input_dirs, output_dir=spec.output_dir, workers=workers)


def joined(argv: Sequence[str]) -> str:
    """One string for a command line, quoted as Docker's dialect of pfcon does it (contract 2.7)."""
    return shlex.join(argv)


def now() -> str:
    """The moment, as it stands in records."""
    return datetime.now(UTC).isoformat()
