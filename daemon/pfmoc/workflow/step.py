"""One node from its input to its output: submit, wait, fetch, remove. Each step is written down before it is made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from pfmoc.workflow.dialects import Compute, Fields
from pfmoc.workflow.inputs import Tree, joined
from pfmoc.workflow.problems import NodeFailed, WorkflowError
from pfmoc.workflow.progress import Progress
from pfmoc.workflow.state import NodeState, Phase, RunState
from pfmoc.workflow.text import plain
from pfmoc.workflow.transport import Transport
from pfmoc.workflow.workflow import Node

_USER = "pfmoc-run"
_LOG_LINES = 5


class Step:
    """A node that is to run, or to go on.

    :param output: directory of the run; the node's files come into one of its own below it
    :param keep: leave job and data on the resource
    """

    def __init__(
        self, node: Node, *, state: RunState, transport: Transport, output: Path, progress: Progress, keep: bool
    ) -> None:
        self.node = node
        self.state = state
        self.transport = transport
        self.output = output
        self.progress = progress
        self.keep = keep

    @property
    def mine(self) -> NodeState:
        """This node's part of the state."""
        return self.state.nodes[self.node.name]

    @property
    def jid(self) -> str:
        """The job's id."""
        return self.state.jid(self.node.name)

    async def run(self, sources: Mapping[str, Tree]) -> None:
        """Go on from where the state says the node is, to its end.

        :param sources: what it reads
        :raises NodeFailed: the verdict, or a fault that --resume may get over
        :raises LostContact: the resource no longer answers
        """
        if self.mine.phase is not Phase.CLEANING:
            try:
                await self._succeeded(sources)
            except NodeFailed as error:
                self._judge(error.message)
            else:
                await self._fetch()
        await self._remove()
        if self.mine.failed:
            self._enter(Phase.FAILED)
            raise NodeFailed(self.mine.message)
        self._enter(Phase.DONE)

    async def withdraw(self) -> None:
        """End the job and remove it, whatever it is at.

        :raises WorkflowError: the resource could not be told
        """
        for _ in range(3):
            await self.transport.remove(self.jid, ended=False)
            # A submission that was under way when we broke off may have come through behind the removal.
            if await self.transport.dialect.find(self.jid) is None:
                break
        if self.mine.phase is Phase.CLEANING:
            self._enter(Phase.FAILED if self.mine.failed else Phase.DONE)
        else:
            self._enter(Phase.INTERRUPTED)

    async def _ended(self, sources: Mapping[str, Tree]) -> Compute:
        """Return the job once it ended; submit it first, unless the resource has it already."""
        dialect = self.transport.dialect
        compute = await dialect.find(self.jid) if self.mine.phase.on_server else None
        if compute is None:
            self.mine.started = time.time()
            self._enter(Phase.SUBMITTING, f"submitting to {dialect.server.name}")
            compute = await self.transport.submit(self.jid, self._fields(), joined(sources), moved=self._moved)
        if not compute.ended:
            self._enter(Phase.RUNNING, f"running on {dialect.server.name}")
            compute = await dialect.ended(self.jid)
        return compute

    async def _succeeded(self, sources: Mapping[str, Tree]) -> None:
        """Wait for the job to end well.

        :raises NodeFailed: it did not
        """
        compute = await self._ended(sources)
        self._keep_log(compute)
        if not compute.succeeded:
            raise NodeFailed(_why(compute))

    async def _fetch(self) -> None:
        name = self.node.name
        self._enter(Phase.FETCHING, f"fetching from {self.transport.dialect.server.name}")
        archive, unpacked, target = self.state.archive(name), self.state.unpacked(name), self.output / name
        manifest = await self.transport.fetch(self.jid, archive=archive, into=unpacked, moved=self._moved)
        manifest.save(self.state.manifest(name))
        if target.exists():
            shutil.rmtree(target)
        unpacked.rename(target)
        self.mine.files, self.mine.size, self.mine.digest = len(manifest.files), manifest.size, manifest.digest
        self.mine.failed, self.mine.message, self.mine.ended = False, "", time.time()
        self._enter(Phase.CLEANING, "removing what is left on the resource" if not self.keep else "")
        for left in (archive, archive.with_name(archive.name + ".json")):
            left.unlink(missing_ok=True)

    async def _remove(self) -> None:
        """Remove the job; that this fails does not undo what the node has done."""
        if self.keep:
            return
        try:
            await self.transport.remove(self.jid, ended=not self.mine.failed)
        except WorkflowError as error:
            left = f"job {self.jid} could not be removed: {error.message}"
            self.mine.message = f"{self.mine.message}; {left}" if self.mine.message else left

    def _judge(self, message: str) -> None:
        self.mine.failed, self.mine.message, self.mine.ended = True, message, time.time()
        self._enter(Phase.CLEANING)

    def _enter(self, phase: Phase, text: str = "") -> None:
        self.mine.phase = phase
        self.state.save()
        if text:
            self.progress.step(self.node.name, text)

    def _moved(self, what: str, done: int, total: int | None) -> None:
        self.progress.moved(self.node.name, what, done, total)

    def _keep_log(self, compute: Compute) -> None:
        self.state.log(self.node.name).write_text(compute.logs, encoding="utf-8", errors="replace")

    def _fields(self) -> Fields:
        node = self.node
        return {
            "jid": self.jid,
            "auid": _USER,
            "image": node.image,
            "type": node.type,
            "entrypoint": node.entrypoint,
            "args": node.args,
            "args_path_flags": node.args_path_flags,
            "env": [f"{name}={value}" for name, value in node.env.items()],
            "number_of_workers": node.limits.workers,
            "cpu_limit": node.limits.cpu,
            "memory_limit": node.limits.memory,
            "gpu_limit": node.limits.gpu,
            **({"gpu_product": node.limits.gpu_product} if node.limits.gpu_product else {}),
        }


def _why(compute: Compute) -> str:
    """Say why a job failed: its status, the engine's word, and the end of its log."""
    said = f" ({compute.message})" if compute.message else ""
    lines = [line for line in compute.logs.splitlines() if line.strip()][-_LOG_LINES:]
    return plain(f"{compute.status}{said}" + "".join(f"\n    {line}" for line in lines))
