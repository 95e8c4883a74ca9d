"""Programs that are run on the way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from toolchain.errors import ToolchainError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Between fork and exec: a build that is killed leaves no compiler behind that a second one would compete with."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class ProcessError(ToolchainError):
    """A program failed.

    :param argv: its command line
    :param status: its exit status, negative for a signal
    :param words: what it said last
    """

    def __init__(self, argv: Sequence[str], status: int, words: str) -> None:
        self.argv, self.status, self.words = argv, status, words
        told = " ".join(words.split()[-80:]) or "it said nothing"
        super().__init__(f"{' '.join(argv[:4])} ended with status {status}: {told}")


@contextlib.contextmanager
def started(
    argv: Sequence[str], *, directory: Path | None, environment: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[str]]:
    """A program whose output and errors come through pipes. It ends before this does, and dies with this process.

    :raises ToolchainError: there is no such program
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell, our own words
            argv,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this program has one thread
        )
    except FileNotFoundError as error:
        raise ToolchainError(f"{argv[0]} is missing: {error.strerror}") from error
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def run(
    argv: Sequence[str], *, directory: Path | None = None, environment: Mapping[str, str] | None = None, seconds: float = 3600
) -> str:
    """Run a program to its end and give its output.

    :raises ProcessError: it failed, or took longer than ``seconds``
    """
    with started(argv, directory=directory, environment=environment) as process:
        try:
            output, words = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise ProcessError(argv, -signal.SIGKILL, f"not done after {seconds:.0f} s") from error
    if process.returncode:
        raise ProcessError(argv, process.returncode, words.strip() or output.strip())
    return output


def lines(process: subprocess.Popen[str], seconds: float) -> Iterator[str]:
    """What a program says on standard error, line by line; an empty string after ``seconds`` of silence.

    Its standard output must be small: it is read when the program is done.
    """
    assert process.stderr is not None  # noqa: S101 - `started` made it
    descriptor = process.stderr.fileno()
    os.set_blocking(descriptor, False)
    rest = b""
    while True:
        ready = _wait(descriptor, seconds)
        if not ready:
            yield ""
            continue
        data = os.read(descriptor, 1 << 16)
        if not data:
            break
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


def _wait(descriptor: int, seconds: float) -> bool:
    """True when there is something to read."""
    return bool(select.select([descriptor], [], [], seconds)[0])
