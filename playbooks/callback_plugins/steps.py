"""Ansible's progress as one line per step: what, how it ended, how long it took.

The stock callback takes four lines for a step and tells no time; its timing companions tell the time in a list at the end.

A task that takes long may name, as ``vars: {progress: FILE}``, a file whose last line tells how far it is. That line is shown
while the task runs: on a terminal in place, elsewhere as a line of its own from time to time.
"""
# ruff: noqa: INP001, T201 - Ansible loads it by its path, to print

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]
from ansible.template import Templar  # type: ignore[import-untyped]

DOCUMENTATION = """
    name: steps
    type: stdout
    short_description: one line per step, with its time
    description:
      - Prints a line for each task that did something, with its duration, and in full what failed.
    options: {}
"""

WIDTH = 88
REWRITE_S = 1.0  # between two looks at a progress file on a terminal
REPEAT_S = 30.0  # between two lines of progress elsewhere, so that a log stays readable
TAIL_BYTES = 4096
COLOURS = {"changed": "33", "ok": "32", "failed": "31", "said": "36"}
# They decide and say things, but do nothing to a host.
SILENT = {"set_fact", "include_tasks", "include_role", "meta", "assert", "validate_argument_spec"}


class Progress:
    """Shows the last line of a file until it is closed.

    :param path: the file; it may be made later
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._terminal = sys.stdout.isatty()
        self._closed = threading.Event()
        self._shown = ""
        self._began = time.time()
        # A daemon: an interrupted playbook does not wait for it.
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show no more."""
        self._closed.set()
        self._thread.join()
        if self._shown and self._terminal:
            print("\r\033[K", end="", flush=True)

    def _watch(self) -> None:
        while not self._closed.wait(REWRITE_S if self._terminal else REPEAT_S):
            line = self._last_line()
            if line and self._terminal:
                print(f"\r\033[K    {line[: WIDTH + 20]}", end="", flush=True)
                self._shown = line
            elif line != self._shown:
                print(f"    {line}", flush=True)
                self._shown = line

    def _last_line(self) -> str:
        try:
            with self._path.open("rb") as file:
                status = self._path.stat()
                if status.st_mtime < self._began:  # what an earlier run left
                    return ""
                file.seek(max(0, status.st_size - TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """See the module."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "steps"

    def __init__(self) -> None:
        super().__init__()
        self._began = self._task_began = time.monotonic()
        self._play: Any = None
        self._progress: Progress | None = None

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Head the play's steps with its name."""
        self._play = play
        name = play.get_name().strip()
        print(f"{name}{' (checking only)' if play.check_mode else ''}", flush=True)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002, FBT001 - Ansible's signature
        """Start the step's clock."""
        self._end_progress()
        self._task_began = time.monotonic()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Start the step's clock."""
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Show the step's progress, if it tells any."""
        template = task.vars.get("progress")
        if template and self._progress is None:
            variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, task=task)
            self._progress = Progress(Path(Templar(self._play.get_loader(), variables=variables).template(template)))

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell of a step that did, or found, what it should."""
        self._end_progress()
        action = result.task.action.rpartition(".")[2]
        if action == "debug":
            self._say("said", str(result.result.get("msg", "")))
        elif action not in SILENT:
            self._line("changed" if result.result.get("changed") else "ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002 - Ansible's signature
        """Tell in full what went wrong."""
        self._end_progress()
        if ignore_errors:
            return
        self._line("failed", result)
        loop = [item for item in result.result.get("results", []) if isinstance(item, dict) and item.get("failed")]
        for detail in loop or [result.result]:
            for key in ("msg", "stderr", "stdout", "exception"):
                text = str(detail.get(key) or "").strip()
                if text and (key != "exception" or self._display.verbosity > 0):
                    self._say("failed", text)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell of a host that does not answer."""
        self.v2_runner_on_failed(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Sum up."""
        self._end_progress()
        hosts = [stats.summarize(host) for host in stats.processed]
        changed, failed = (sum(host[key] for host in hosts) for key in ("changed", "failures"))
        state = "failed" if failed else "changed" if changed else "ok"
        text = f"{changed} changed, {failed} failed" if changed or failed else "everything is already there"
        self._say(state, f"{text}, {time.monotonic() - self._began:.1f} s")

    def _end_progress(self) -> None:
        if self._progress:
            self._progress.close()
            self._progress = None

    def _line(self, state: str, result: Any) -> None:
        host = result.host.get_name()
        where = "" if host == "localhost" else f" [{host}]"
        name = f"{result.task.get_name().strip()}{where}"
        seconds = time.monotonic() - self._task_began
        print(f"  {name:<{WIDTH}} {self._paint(state, f'{state:<7}')} {seconds:6.1f} s", flush=True)

    def _say(self, state: str, text: str) -> None:
        for line in text.splitlines():
            print(f"  {self._paint(state, line)}", flush=True)

    @staticmethod
    def _paint(state: str, text: str) -> str:
        return f"\033[{COLOURS[state]}m{text}\033[0m" if sys.stdout.isatty() else text
