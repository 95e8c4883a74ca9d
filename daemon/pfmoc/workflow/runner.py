"""The whole run: nodes side by side as far as their parents and the limits allow, to the end, or to a clean stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from pfmoc import __version__
from pfmoc.backoff import Backoff
from pfmoc.storage import workers
from pfmoc.workflow import graph
from pfmoc.workflow.dialects import detected
from pfmoc.workflow.inputs import Tree
from pfmoc.workflow.manifest import Manifest, survey, verify
from pfmoc.workflow.problems import Damaged, Problems, WorkflowError
from pfmoc.workflow.progress import Progress
from pfmoc.workflow.report import Result, Verdict
from pfmoc.workflow.resources import Resource
from pfmoc.workflow.server import Server
from pfmoc.workflow.state import NodeState, Phase, RunState
from pfmoc.workflow.step import Step
from pfmoc.workflow.transport import Transport, transport_for
from pfmoc.workflow.workflow import INPUT, Node, Workflow

_log = logging.getLogger(__name__)

WITHDRAW_S = 30.0
"""Seconds that the resources get to end our jobs when the run is interrupted."""


class Site:
    """A compute resource as the run uses it: looked at once, when the first node comes to it."""

    def __init__(self, resource: Resource, session: aiohttp.ClientSession, backoff: Backoff) -> None:
        self.slots = asyncio.Semaphore(resource.entry.parallel)
        self._server = Server(resource, session, backoff=backoff)
        self._looking = asyncio.Lock()
        self._transport: Transport | None = None

    async def transport(self) -> Transport:
        """How to reach it.

        :raises WorkflowError: it cannot be reached, or not by us
        """
        async with self._looking:
            if self._transport is None:
                self._transport = transport_for(await detected(self._server))
            return self._transport


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is asked of a run, beside its workflow."""

    source: Path | None
    """The input directory; None when nothing reads it."""
    output: Path
    """One directory for each node comes into it."""
    parallel: int
    """Most nodes at the same time, over all resources."""
    keep: bool
    """Leave jobs and data on the resources."""
    backoff: Backoff = field(default_factory=Backoff)
    """Pauses between two questions to a resource."""


class Run:
    """One run of a workflow.

    :param state: new, or of a run that goes on
    :param resources: by name; at least those that the state speaks of
    """

    def __init__(
        self,
        workflow: Workflow,
        wanted: Wanted,
        *,
        state: RunState,
        resources: Mapping[str, Resource],
        progress: Progress,
    ) -> None:
        self.workflow = workflow
        self.wanted = wanted
        self.state = state
        self.results: dict[str, Result] = {}
        self._resources = resources
        self._progress = progress
        self._slots = asyncio.Semaphore(wanted.parallel)
        self._sites: dict[str, Site] = {}
        self._trees: dict[str, Tree] = {}
        self._settled = {node.name: asyncio.Event() for node in workflow.nodes}

    async def prepare(self) -> None:
        """Take stock before anything is sent: hash the input, and verify what an earlier run finished.

        :raises Problems: the input cannot be used, or an output is not what was fetched
        """
        try:
            if self.wanted.source is not None:
                await self._take_input(self.wanted.source)
            for node in self.workflow.nodes:
                if self.state.nodes[node.name].phase is Phase.DONE and (self.wanted.output / node.name).is_dir():
                    await self._take_output(node.name)
        except Damaged as error:
            raise Problems([error.message]) from None

    async def go(self) -> Verdict:
        """Run all that is left.

        :returns: ``interrupted`` after a cancellation, which is swallowed: jobs of this run were then ended, as far as possible
        """
        # Everything of value travels as it is: lengths and ranges are those of the archive.
        headers = {"User-Agent": f"pfmoc-run/{__version__}", "Accept-Encoding": "identity"}
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
            used = {node.resource for node in self.state.nodes.values()}
            self._sites = {name: Site(self._resources[name], session, self.wanted.backoff) for name in used}
            orphans = self._begin_again()
            self.state.save()
            try:
                async with asyncio.TaskGroup() as group:
                    for resource, jid in orphans:
                        group.create_task(self._remove_orphan(resource, jid))
                    for node in self.workflow.nodes:
                        group.create_task(self._node(node))
            except asyncio.CancelledError:
                await self._withdraw()
                return Verdict.INTERRUPTED
        failed = any(result.status is not Verdict.DONE for result in self.results.values())
        return Verdict.FAILED if failed else Verdict.DONE

    def ordered(self) -> list[Result]:
        """What came of each node, in the order of the document."""
        return [self.results[node.name] for node in self.workflow.nodes if node.name in self.results]

    async def _take_input(self, source: Path) -> None:
        path = self.state.manifest(INPUT)
        if self.state.input_digest:
            # Files are held against these digests as they are sent.
            manifest = Manifest.load(path, digest=self.state.input_digest)
        else:
            manifest = await workers.run(lambda stop: survey(source, stop))
            manifest.save(path)
            self.state.input_digest = manifest.digest
            self.state.save()
        self._trees[INPUT] = Tree(source, manifest)

    async def _take_output(self, name: str) -> None:
        root = self.wanted.output / name
        manifest = Manifest.load(self.state.manifest(name), digest=self.state.nodes[name].digest)
        try:
            await workers.run(lambda stop: verify(root, manifest, stop))
        except Damaged as error:
            raise Damaged(
                f"{error.message}; put it back, or remove {root} to run the node and all that depends on it again"
            ) from None
        self._trees[name] = Tree(root, manifest)

    def _begin_again(self) -> list[tuple[str, str]]:
        """Set back what an earlier run did not finish; return jobs that nobody will ask for any more."""
        parents = self.workflow.parents
        stale: set[str] = set()
        for name, node in self.state.nodes.items():
            if node.phase is Phase.DONE and name not in self._trees:
                stale |= {name} | graph.descendants(parents, name)
        orphans = []
        for name, node in self.state.nodes.items():
            if name in stale or node.phase in (Phase.FAILED, Phase.SKIPPED, Phase.INTERRUPTED):
                if node.phase.on_server:
                    orphans.append((node.resource, self.state.jid(name)))
                again = node.attempt + (node.phase not in (Phase.PENDING, Phase.SKIPPED))
                self.state.nodes[name] = NodeState(resource=node.resource, attempt=again)
                self._trees.pop(name, None)
        return orphans

    async def _node(self, node: Node) -> None:
        """Bring one node to its end. Only cancellation leaves it."""
        name = node.name
        try:
            for parent in self.workflow.parents[name]:
                await self._settled[parent].wait()
            bad = [parent for parent in self.workflow.parents[name] if self.results[parent].status is not Verdict.DONE]
            if bad:
                self._skip(node, bad)
            elif name in self._trees:
                self._note(node, Verdict.DONE, "")
            else:
                await self._run(node)
        finally:
            self._settled[name].set()

    async def _run(self, node: Node) -> None:
        mine = self.state.nodes[node.name]
        site = self._sites[mine.resource]
        async with site.slots:
            try:
                # A resource that is down holds up its own nodes only: none of the slots for all.
                transport = await site.transport()
                async with self._slots:
                    await self._step(node, transport).run({name: self._trees[name] for name in node.sources})
                manifest = Manifest.load(self.state.manifest(node.name), digest=mine.digest)
            except WorkflowError as error:
                self._note(node, Verdict.FAILED, error.message)
            except OSError as error:
                self._note(node, Verdict.FAILED, f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
            else:
                self._trees[node.name] = Tree(self.wanted.output / node.name, manifest)
                self._note(node, Verdict.DONE, mine.message)

    def _step(self, node: Node, transport: Transport) -> Step:
        return Step(
            node, state=self.state, transport=transport, output=self.wanted.output, progress=self._progress, keep=self.wanted.keep
        )

    def _skip(self, node: Node, because: list[str]) -> None:
        mine = self.state.nodes[node.name]
        if mine.phase is Phase.PENDING:
            mine.phase = Phase.SKIPPED
            self.state.save()
        self._note(node, Verdict.SKIPPED, f"needs {', '.join(because)}")

    def _note(self, node: Node, verdict: Verdict, message: str) -> None:
        mine = self.state.nodes[node.name]
        ended = mine.ended if mine.ended >= mine.started else time.time()
        self.results[node.name] = Result(
            node=node.name,
            resource=mine.resource,
            plugin=node.image,
            jid=self.state.jid(node.name),
            status=verdict,
            seconds=ended - mine.started if mine.started else 0.0,
            files=mine.files,
            bytes=mine.size,
            message=message,
        )
        self._progress.ended(node.name, verdict, message)

    async def _remove_orphan(self, resource: str, jid: str) -> None:
        with suppress(WorkflowError):
            await (await self._sites[resource].transport()).remove(jid, ended=False)

    async def _withdraw(self) -> None:
        """End on the resources what this run began there, and say of each node that was not finished what became of it."""
        begun = [node for node in self.workflow.nodes if self.state.nodes[node.name].phase.on_server]
        left = {node.name: f"job {self.state.jid(node.name)} may still be there; --resume goes on with it" for node in begun}

        async def withdraw(node: Node) -> None:
            try:
                site = self._sites[self.state.nodes[node.name].resource]
                self._progress.step(node.name, "ending its job")
                await self._step(node, await site.transport()).withdraw()
                del left[node.name]
            except (WorkflowError, OSError) as error:
                _log.debug("%s: %s", node.name, error)

        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(WITHDRAW_S):
                await asyncio.gather(*(withdraw(node) for node in begun))
        for node in self.workflow.nodes:
            if node.name not in self.results or node.name in left:
                done = self.state.nodes[node.name].phase is Phase.DONE
                self._note(node, Verdict.DONE if done else Verdict.INTERRUPTED, left.get(node.name, ""))


def require_room(workflow: Workflow, output: Path) -> None:
    """Check that a new run would replace nothing.

    :raises Problems: names every directory that is in the way
    """
    in_the_way = [output / node.name for node in workflow.nodes if (output / node.name).exists()]
    if in_the_way:
        raise Problems([f"{path}: exists already; choose another --output, or --resume" for path in in_the_way])
