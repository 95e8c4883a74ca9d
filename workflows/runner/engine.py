"""The order of things: each node as soon as its parent is done, as many at a time as allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from workflows.runner.documents import Node, Workflow
from workflows.runner.server import Ended, ServerError, Stages, StoppedError

LOG_TAIL = 20

Status = Literal["done", "failed", "skipped", "stopped"]
Watcher = Callable[[Node, str], None]
"""Told of each node's next phase."""


class Runner(Protocol):
    """What runs one node; see ``server.Server``."""

    def run(self, jid: str, node: Node, source: Path, destination: Path, phase: Callable[[str], None]) -> Ended:
        """Run it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a node."""

    node: Node
    jid: str
    output: Path
    status: Status
    seconds: float = 0.0
    reason: str = ""
    log: tuple[str, ...] = field(default=(), repr=False)
    stages: Stages | None = None

    @property
    def files(self) -> list[Path]:
        """The files that it put out."""
        return sorted(path for path in self.output.rglob("*") if path.is_file())

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(path.stat().st_size for path in self.files)


class Engine:
    """One run of a workflow."""

    def __init__(self, workflow: Workflow, runner: Runner, *, run: str, results: Path, watcher: Watcher) -> None:
        """Prepare.

        :param run: prefix of the job ids; unique, for the server keeps one namespace
        :param results: directory that holds ``input`` and gets the output of each node
        """
        self._workflow = workflow
        self._runner = runner
        self._run = run
        self._results = results
        self._watcher = watcher

    def go(self, stop: threading.Event, *, at_once: int) -> list[Outcome]:
        """Run all nodes and return their outcomes in the document's order.

        Once ``stop`` is set nothing more is started, and the nodes under way end by removing their jobs.
        """
        outcomes: dict[str, Outcome] = {}
        running: dict[Future[Outcome], Node] = {}
        with ThreadPoolExecutor(at_once) as pool:
            while len(outcomes) < len(self._workflow.nodes):
                self._settle_or_start(pool, running, outcomes, stop)
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    outcomes[running.pop(future).name] = future.result()
        return [outcomes[node.name] for node in self._workflow.nodes]

    def _settle_or_start(
        self,
        pool: ThreadPoolExecutor,
        running: dict[Future[Outcome], Node],
        outcomes: dict[str, Outcome],
        stop: threading.Event,
    ) -> None:
        """Start every node whose parent is done; settle those that will never run."""
        for node in self._workflow.nodes:
            if node.name in outcomes or node in running.values():
                continue
            parent = outcomes.get(node.parent) if node.parent else None
            if stop.is_set():
                outcomes[node.name] = self._settled(node, "stopped", "")
            elif node.parent is None or (parent and parent.status == "done"):
                running[pool.submit(self._one, node)] = node
            elif parent:
                outcomes[node.name] = self._settled(node, "skipped", f"{node.parent} {parent.status}")

    def _one(self, node: Node) -> Outcome:
        began = time.monotonic()
        source = self._results / (node.parent or "input")
        output = self._results / node.name
        output.mkdir(parents=True)
        try:
            ended = self._runner.run(self._jid(node), node, source, output, lambda phase: self._watcher(node, phase))
        except StoppedError:
            return self._settled(node, "stopped", "", began)
        except ServerError as error:
            return self._settled(node, "failed", str(error), began)
        if ended.succeeded:
            return self._settled(node, "done", "", began, ended)
        said = f": {ended.message}" if ended.message else ""
        return self._settled(node, "failed", f"the plugin ended with {ended.status}{said}", began, ended)

    def _settled(
        self, node: Node, status: Status, reason: str, began: float | None = None, ended: Ended | None = None
    ) -> Outcome:
        self._watcher(node, status)
        return Outcome(
            node=node,
            jid=self._jid(node),
            output=self._results / node.name,
            status=status,
            reason=reason,
            seconds=0.0 if began is None else time.monotonic() - began,
            log=tuple(ended.logs.splitlines()[-LOG_TAIL:]) if ended and status == "failed" else (),
            stages=ended.stages if ended else None,
        )

    def _jid(self, node: Node) -> str:
        return f"{self._run}-{node.name}"
