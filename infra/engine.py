"""The Pulumi engine: which one is used, in what environment, how it is run and stopped.

Not done here: what is asked of it (``infra.stack``).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from pulumi.automation import CommandResult, PulumiCommand
from pulumi.automation.errors import create_command_error

from infra.dead_engines import end_remains
from infra.failures import EXIT_INTERRUPTED, OperatorError
from infra.providers import HARMLESS

Event = Mapping[str, Any]
"""An event of the engine, as it writes it."""
OnEvent = Callable[[Event], None]

ENOUGH = 3
"""Signals after which the engine is told to end at once, whatever that leaves behind."""


class Interrupted(OperatorError):
    """The operator ended the command, and the engine has put away what it was doing."""

    def __init__(self) -> None:
        super().__init__("interrupted", "what was made is in the state; run it again to go on", code=EXIT_INTERRUPTED)


def cache() -> Path:
    """Where the kit keeps what it makes."""
    return Path(os.environ.get("PFMOC_CACHE") or Path.home() / ".cache" / "pfmoc")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """An engine on this machine.

    :param program: its program
    :param environment: settings that belong to it
    """

    program: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def found(cls, environ: Mapping[str, str], toolchain: Path) -> Installation:
        """The one on PATH, else the toolchain's. The toolchain's has plugins of its own, which only its settings tell of.

        :raises OperatorError: when there is none
        """
        own = toolchain / "bin" / "pulumi"
        on_path = shutil.which("pulumi", path=environ.get("PATH"))
        if on_path and not (own.exists() and Path(on_path).resolve() == own.resolve()):
            return cls(program=Path(on_path))
        if not own.exists():
            raise OperatorError(
                "there is no Pulumi engine: no `pulumi` on PATH, and none in the toolchain",
                "install it as https://www.pulumi.com/docs/install says, or build it: make box",
            )
        settings = settings_of(toolchain / "pulumi.env")
        return cls(program=own, environment={**settings, **{name: environ[name] for name in settings if name in environ}})


def settings_of(file: Path) -> dict[str, str]:
    """Read a file of ``NAME=value`` lines; empty where there is none."""
    if not file.exists():
        return {}
    lines = [line.partition("=") for line in file.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return {name.strip(): value for name, _, value in lines}


def without_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which nothing but the site file says which cloud is meant."""
    return {name: value for name, value in environ.items() if not name.startswith("OS_") or name in HARMLESS}


class Engine(PulumiCommand):
    """The engine, as the Automation API runs it.

    It gets a process group of its own, so that Ctrl-C reaches it once, through here, and it can put away what it is doing: a
    second signal would have it leave everything behind.

    :param installation: which one
    :param environment: more variables for it: backend, passphrase
    :param on_interrupt: called when the operator has asked to end, with how often
    """

    def __init__(
        self,
        installation: Installation,
        environment: Mapping[str, str],
        on_interrupt: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.command = str(installation.program)
        self.version = None
        self.environment = {**without_credentials(os.environ), **installation.environment, **environment}
        self._on_interrupt = on_interrupt

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,
        on_error: Callable[[str], Any] | None = None,
    ) -> CommandResult:
        """Run a command for the Automation API.

        :raises CommandError: when it fails
        """
        return self.execute(args, cwd=cwd, environment=additional_env, on_output=on_output, on_error=on_error)

    def execute(
        self,
        args: list[str],
        *,
        cwd: str,
        environment: Mapping[str, str] | None = None,
        stdin: str | None = None,
        on_output: Callable[[str], Any] | None = None,
        on_error: Callable[[str], Any] | None = None,
    ) -> CommandResult:
        """Run a command.

        :param stdin: what it reads: secrets go this way, as others can see a command line
        :raises CommandError: when it fails
        :raises Interrupted: when the operator ended it
        """
        texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        with (
            subprocess.Popen(  # noqa: S603 - no shell, and the program is the engine
                [self.command, "--non-interactive", "--color", "never", *args],
                cwd=cwd,
                env={**self.environment, **(environment or {}), "PULUMI_AUTOMATION_API": "true"},
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            ) as process,
            self._ended_by_signals(process) as signals,
        ):
            readers = [
                threading.Thread(target=_read, args=(stream, texts[name], then), daemon=True)
                for name, stream, then in (("stdout", process.stdout, on_output), ("stderr", process.stderr, on_error))
            ]
            for reader in readers:
                reader.start()
            if stdin is not None and process.stdin:
                with suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(stdin)
            process.wait()
            if process.returncode < 0:
                # Nobody has told its program and its plugins; they hold its output open, too.
                end_remains(process.pid)
            for reader in readers:
                reader.join()
        result = CommandResult("\n".join(texts["stdout"]), "\n".join(texts["stderr"]), process.returncode)
        if signals:
            raise Interrupted
        if process.returncode:
            raise create_command_error(result)
        return result

    def events(self, args: list[str], *, cwd: str, on_event: OnEvent) -> CommandResult:
        """Run an operation, telling its events as they happen.

        :raises CommandError: when it fails
        """
        # The log has what the program told the engine, secrets too: it lies where nobody else may look, and not for long.
        with tempfile.TemporaryDirectory(prefix="pfmoc-") as directory:
            log = Path(directory) / "events"
            log.touch()
            ended = threading.Event()
            follower = threading.Thread(target=_follow, args=(log, ended, on_event), daemon=True)
            follower.start()
            try:
                return self.execute([*args, "--event-log", str(log)], cwd=cwd, environment={"PULUMI_DEBUG_COMMANDS": "true"})
            finally:
                ended.set()
                follower.join()

    @contextmanager
    def _ended_by_signals(self, process: subprocess.Popen[str]) -> Iterator[list[int]]:
        """Hand signals on to the engine, the first as a request, the third as an order."""
        received: list[int] = []

        def hand_on(number: int, _frame: FrameType | None) -> None:
            received.append(number)
            self._on_interrupt(len(received))
            if process.poll() is None:
                process.send_signal(signal.SIGINT if len(received) < ENOUGH else signal.SIGKILL)

        if threading.current_thread() is not threading.main_thread():
            yield received
            return
        before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield received
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _read(stream: Any, lines: list[str], then: Callable[[str], Any] | None) -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))
        if then:
            then(line.rstrip("\n"))


def _follow(log: Path, ended: threading.Event, on_event: OnEvent) -> None:
    """Tell the events of a growing file, until the engine has ended and all is read."""
    with log.open() as stream:
        partial = ""
        while True:
            last = ended.is_set()
            partial += stream.read()
            *whole, partial = partial.split("\n")
            for line in whole:
                event = json.loads(line)
                if event.get("diagnosticEvent", {}).get("severity") != "debug":
                    on_event(event)
            if last:
                return
            ended.wait(0.1)
