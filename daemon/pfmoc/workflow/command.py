"""``pfmoc run`` itself, once its libraries are known to be there."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from pfmoc.workflow import report, resources, runner, state, workflow
from pfmoc.workflow.problems import Problems
from pfmoc.workflow.progress import progress_for
from pfmoc.workflow.report import Verdict
from pfmoc.workflow.resources import Resource
from pfmoc.workflow.state import RunState
from pfmoc.workflow.workflow import Workflow

EXIT_BAD_DOCUMENT = 2
_WIDTH = 200
"""Columns of the table where it is read by no person: enough that nothing is folded."""
_EXITS = {Verdict.DONE: 0, Verdict.FAILED: 1}


def run(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Run a workflow as the options say; returns the exit code."""
    try:
        plan, registered, assigned = _documents(options, environ)
        options.output.mkdir(parents=True, exist_ok=True)
        with state.held(options.output) as directory:
            begun = _state(options, plan, assigned, directory)
            return asyncio.run(_Session(options, plan, registered, begun).run())
    except Problems as problems:
        for line in problems.lines:
            sys.stderr.write(f"pfmoc: {line}\n")
    except OSError as error:
        sys.stderr.write(f"pfmoc: {error.filename}: {error.strerror}\n")
    return EXIT_BAD_DOCUMENT


def _documents(options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Workflow, dict[str, Resource], dict[str, str]]:
    """Read both documents; problems of both are told together."""
    wrong: list[str] = []
    plan: Workflow | None = None
    registered: dict[str, Resource] = {}
    try:
        plan = workflow.load(options.workflow)
    except Problems as problems:
        wrong += problems.lines
    try:
        registered = resources.load(options.resources or resources.default_path(environ), environ=environ)
    except Problems as problems:
        wrong += problems.lines
    assigned: dict[str, str] = {}
    if plan is not None and registered:
        try:
            assigned = dict(workflow.assigned(plan, registered, path=options.workflow))
        except Problems as problems:
            wrong += problems.lines
    if plan is not None and plan.reads_input:
        if options.input is None:
            wrong.append(f"{options.workflow}: the workflow reads an input; say where it is with --input")
        elif not options.input.is_dir():
            wrong.append(f"{options.input}: there is no such input directory")
        elif options.output.resolve().is_relative_to(options.input.resolve()):
            wrong.append(f"{options.output}: lies within the input; put the output elsewhere")
    if wrong or plan is None:
        raise Problems(wrong)
    return plan, registered, assigned


def _state(options: argparse.Namespace, plan: Workflow, assigned: dict[str, str], directory: Path) -> RunState:
    if options.resume:
        found = state.resumed(directory, digest=plan.digest, resources=assigned)
        if found is not None:
            return found
    elif (directory / "state.json").exists():
        raise Problems([f"{options.output}: holds a run already; go on with it with --resume, or choose another --output"])
    runner.require_room(plan, options.output)
    return state.begun(directory, workflow=plan.name, digest=plan.digest, resources=assigned)


class _Session:
    """A run within its event loop, with its signals and consoles."""

    def __init__(self, options: argparse.Namespace, plan: Workflow, registered: dict[str, Resource], begun: RunState) -> None:
        self._options = options
        self._plan = plan
        self._registered = registered
        self._state = begun
        self._signal: int | None = None

    async def run(self) -> int:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        options, plan = self._options, self._plan
        resources_of = {name: node.resource for name, node in self._state.nodes.items()}
        with progress_for(Console(stderr=True), resources_of) as progress:
            wanted = runner.Wanted(
                source=options.input.resolve() if plan.reads_input else None,
                output=options.output.resolve(),
                parallel=options.parallel,
                keep=options.keep,
            )
            run = runner.Run(plan, wanted, state=self._state, resources=self._registered, progress=progress)
            task = asyncio.ensure_future(self._whole(run))
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._interrupt, number, task)
            try:
                verdict = await task
            except asyncio.CancelledError:
                verdict = Verdict.INTERRUPTED  # before anything was sent
        self._report(run, verdict, time.monotonic() - began)
        return _EXITS.get(verdict, 128 + (self._signal or signal.SIGINT))

    async def _whole(self, run: runner.Run) -> Verdict:
        await run.prepare()
        return await run.go()

    def _interrupt(self, number: int, task: asyncio.Future[Verdict]) -> None:
        """End the run; a second signal ends even the ending."""
        self._signal = self._signal or number
        task.cancel()

    def _report(self, run: runner.Run, verdict: Verdict, seconds: float) -> None:
        results = run.ordered()
        with suppress(BrokenPipeError):
            if self._options.json:
                document = report.document(
                    workflow=self._plan.name, run=self._state.run, status=verdict, seconds=seconds, results=results
                )
                sys.stdout.write(json.dumps(document, indent=2) + "\n")
                sys.stdout.flush()
                return
            console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
            report.print_table(console, results)
            if verdict is not Verdict.DONE:
                console.print(f"--resume goes on with this run. Logs: {run.state.directory / 'logs'}", soft_wrap=True)
            console.print(f"{_word(verdict)} in {seconds:.1f} s; results are in {self._options.output}", soft_wrap=True)


def _word(verdict: Verdict) -> str:
    """How the last line begins."""
    return {"done": "Done", "failed": "Failed"}.get(verdict, "Interrupted")
