"""The daemon's side of a run's supervisor (``shim``): start it, find it again, and clean up after one that was killed.

Everything here blocks, and is called off the event loop.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Self

import pfmoc
from pfmoc.compute import proc, rundir, shim
from pfmoc.compute.cgroup import MemoryCgroup

MARK = "PFMOC_RUN"
"""Variable in the plugin's environment by which its processes are known once their supervisor is gone."""

TERM_GRACE_S = 5.0
"""Seconds that a supervisor gets to kill its run, which takes milliseconds, before it is killed too."""

_SPAWNED_FDS_FROM = 10


class NotStarted(Exception):
    """The supervisor could not execute the plugin."""


class Supervisor:
    """A supervisor while it is being started.

    :param pid: of our child
    :param talk: our end of the socket that is its standard input and output
    """

    def __init__(self, pid: int, talk: socket.socket) -> None:
        self._pidfd: int | None = os.pidfd_open(pid)
        self._talk = talk
        self._answers = talk.makefile("rb")

    @classmethod
    def spawn(cls, directory: Path, *, deadline: float) -> Self:
        """Start one, in a session of its own, with nothing of ours but the lock and the socket.

        :param deadline: seconds that each word of the talk may take
        """
        argv = [sys.executable, "-S", "-P", "-m", "pfmoc.compute.shim", str(directory)]
        env = {"PYTHONPATH": str(Path(pfmoc.__file__).parent.parent), "LANG": "C.UTF-8"}
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as held:
            held.enter_context(theirs)
            failed = held.enter_context(contextlib.ExitStack())
            failed.enter_context(ours)
            ours.settimeout(deadline)
            lock = rundir.take_lock(directory)
            held.callback(os.close, lock)
            errors = os.open(directory / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, errors)
            # Copies with high numbers: a source must not be overwritten by an earlier action's target.
            talk, lock, errors = (_high(held, number) for number in (theirs.fileno(), lock, errors))
            pid = os.posix_spawn(
                sys.executable,
                argv,
                env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, talk, shim.ORDER_FD),
                    (os.POSIX_SPAWN_DUP2, talk, shim.ANSWER_FD),
                    (os.POSIX_SPAWN_DUP2, errors, 2),
                    (os.POSIX_SPAWN_DUP2, lock, shim.LOCK_FD),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
            failed.pop_all()
            return cls(pid, ours)

    def order(self, order: shim.Order) -> None:
        """Have it run a plugin; returns once that really executes.

        :raises NotStarted: it cannot be executed
        :raises OSError: the machine is at fault
        """
        try:
            self._expect("ready")
            self._talk.sendall(json.dumps(order).encode())
            self._talk.shutdown(socket.SHUT_WR)
            self._expect("started")
        except (TimeoutError, BrokenPipeError, ConnectionResetError) as error:
            raise OSError(error.errno, "a supervisor did not start") from error

    def detach(self) -> int:
        """Let it go on without us; returns the descriptor that stands for it."""
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is None:
            raise ValueError("detached twice")
        return pidfd

    def close(self) -> None:
        """End the talk, and the supervisor with all that it began unless it was detached."""
        self._answers.close()
        self._talk.close()
        if self._pidfd is not None:
            ended = select.poll()
            ended.register(self._pidfd, select.POLLIN)
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)
                if ended.poll(TERM_GRACE_S * 1000):
                    break
            reap(self._pidfd)

    def _expect(self, word: str) -> None:
        answer = self._answers.readline().decode(errors="replace").strip()
        if answer == word:
            return
        kind, _, reason = answer.partition(" ")
        if kind == "refused":
            raise NotStarted(reason)
        raise OSError(0, reason or "a supervisor did not start")


def look_for(directory: Path, deadline: float) -> tuple[int, dict[str, Any]] | None:
    """The supervisor of a run that an earlier daemon has started, and what was asked of it; None when it is gone.

    One that was still being started when its daemon died has either its whole order and soon executes it, or soon ends.

    :raises OSError: it does neither within the deadline
    """
    until = time.monotonic() + deadline
    while rundir.alive(directory):
        named = rundir.read_lock(directory)
        run = rundir.read_document(directory / rundir.RUN)
        started = (directory / rundir.STARTED).exists()
        if started and named is not None and run is not None and (pidfd := proc.open_pidfd(*named)) is not None:
            return pidfd, run
        if time.monotonic() > until:
            raise OSError(0, "a supervisor neither starts its run nor ends")
        time.sleep(0.01)
    return None


def kill_leftovers(directory: Path, deadline: float) -> None:
    """Kill the processes of a run whose supervisor is gone, and remove its cgroup.

    :raises OSError: some live on; the kernel holds them
    """
    run = rundir.read_document(directory / rundir.RUN)
    if run is None or rundir.read_document(directory / rundir.ENDED) is not None:
        return
    started = rundir.read_document(directory / rundir.STARTED) or {}
    group = MemoryCgroup(Path(started["cgroup"])) if started.get("cgroup") else None
    until = time.monotonic() + deadline
    while left := {*proc.bearing(f"{MARK}={run['mark']}"), *(group.pids() if group else ())}:
        proc.kill(left)
        if time.monotonic() > until:
            raise OSError(0, "processes of a run cannot be killed: the kernel holds them")
        time.sleep(0.01)
    if group is not None:
        group.remove()


def reap(pidfd: int) -> None:
    """Take a dead supervisor out of the process table when it is ours: our child, or an orphan if we are process 1."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    os.close(pidfd)


def _high(held: contextlib.ExitStack, descriptor: int) -> int:
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _SPAWNED_FDS_FROM)
    held.callback(os.close, high)
    return high
