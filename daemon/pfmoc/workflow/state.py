"""The durable state of a run: what was begun, what is finished, and under which job ids. Written before each step.

Everything is below ``.pfmoc-run`` in the output directory: ``state.json``, manifests, downloads under way, logs of jobs.
No password, token or environment is ever in it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pfmoc.durable import read_json, write_json
from pfmoc.workflow.problems import Problems

DIRECTORY = ".pfmoc-run"
_FORMAT = 1


class Phase(StrEnum):
    """How far a node is. Only ``state.json`` moves it: a phase is written before what it names is begun."""

    PENDING = "pending"
    SUBMITTING = "submitting"
    """The server may or may not know the job."""
    RUNNING = "running"
    FETCHING = "fetching"
    CLEANING = "cleaning"
    """The output is here, or there is none: the verdict stands. The server's copy is being removed."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"
    """Its job was ended on the server."""

    @property
    def on_server(self) -> bool:
        """True when a job of this phase may be on the server."""
        return self in (Phase.SUBMITTING, Phase.RUNNING, Phase.FETCHING, Phase.CLEANING)


@dataclass
class NodeState:
    """What is known of one node."""

    resource: str
    phase: Phase = Phase.PENDING
    attempt: int = 1
    """Counts submissions that were meant to be new ones; a part of the job id."""
    failed: bool = False
    """The verdict, from ``CLEANING`` on."""
    message: str = ""
    started: float = 0.0
    """Unix time at which this attempt began."""
    ended: float = 0.0
    files: int = 0
    size: int = 0
    """Bytes of the output."""
    digest: str = ""
    """Of the output's manifest."""


@dataclass
class RunState:
    """What is known of a run."""

    directory: Path
    run: str
    workflow: str
    workflow_digest: str
    input_digest: str = ""
    nodes: dict[str, NodeState] = field(default_factory=dict)

    def jid(self, node: str) -> str:
        """The job id of a node: the same whenever this run asks for the same attempt."""
        return f"{self.run}-{node}-{self.nodes[node].attempt}"

    def save(self) -> None:
        """Write the state, atomically."""
        document = {
            "format": _FORMAT,
            "run": self.run,
            "workflow": {"name": self.workflow, "sha256": self.workflow_digest},
            "input": {"sha256": self.input_digest},
            "nodes": {name: asdict(node) for name, node in self.nodes.items()},
        }
        write_json(self.directory / "state.json", document)

    def manifest(self, name: str) -> Path:
        """Where the manifest of a node's output is, or of the ``input``."""
        return self.directory / "manifests" / f"{name}.json"

    def archive(self, node: str) -> Path:
        """Where a download is put together."""
        return self.directory / "downloads" / f"{self.jid(node)}.zip"

    def unpacked(self, node: str) -> Path:
        """Where an output is put together."""
        return self.directory / "unpacked" / node

    def log(self, node: str) -> Path:
        """Where the log of a node's job is."""
        return self.directory / "logs" / f"{node}.log"


@contextmanager
def held(output: Path) -> Iterator[Path]:
    """Make the directory of the run, and keep others out of it.

    :raises Problems: it cannot be made, or another run holds it
    """
    directory = output / DIRECTORY
    try:
        for name in ("manifests", "downloads", "unpacked", "logs"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Problems([f"{directory}: {error.strerror}"]) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield directory
    except BlockingIOError:
        raise Problems([f"{output}: another run works in it"]) from None
    finally:
        os.close(descriptor)


def begun(directory: Path, *, workflow: str, digest: str, resources: dict[str, str]) -> RunState:
    """Begin a run: nothing is written yet.

    :param resources: the resource of each node
    """
    return RunState(
        directory=directory,
        run=f"run-{secrets.token_hex(5)}",
        workflow=workflow,
        workflow_digest=digest,
        nodes={name: NodeState(resource=resource) for name, resource in resources.items()},
    )


def resumed(directory: Path, *, digest: str, resources: dict[str, str]) -> RunState | None:
    """Read the state of an earlier run.

    :returns: None when there was none
    :raises Problems: it is of another workflow, or cannot be read
    """
    path = directory / "state.json"
    try:
        document: Any = read_json(path)
        if document is None:
            return None
        if document["format"] != _FORMAT:
            raise Problems([f"{path}: was written by another version of pfmoc; begin anew in another directory"])
        state = RunState(
            directory=directory,
            run=document["run"],
            workflow=document["workflow"]["name"],
            workflow_digest=document["workflow"]["sha256"],
            input_digest=document["input"]["sha256"],
            nodes={name: _node(fields) for name, fields in document["nodes"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problems([f"{path}: cannot be read: {error!r}; begin anew in another directory"]) from None
    if state.workflow_digest != digest:
        raise Problems([f"{path}: the workflow changed since this run began; begin anew in another directory"])
    moved = [
        f"{path}: node {name} was begun on {node.resource}, not on {resources[name]}; begin anew in another directory"
        for name, node in state.nodes.items()
        if node.resource != resources[name] and node.phase is not Phase.PENDING
    ]
    if moved:
        raise Problems(moved)
    for name, node in state.nodes.items():
        node.resource = resources[name]
    return state


def _node(fields: dict[str, Any]) -> NodeState:
    return NodeState(**{**fields, "phase": Phase(fields["phase"])})
