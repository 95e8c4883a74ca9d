#!/usr/bin/env python3
"""Keep one program running in the background, on a machine without systemd or on which we are not root.

    supervise.py ensure DIRECTORY NAME [--fingerprint TEXT] [--env NAME=VALUE ...] -- PROGRAM [ARGUMENT ...]
    supervise.py stop   DIRECTORY NAME
    supervise.py status DIRECTORY NAME

``ensure`` prints ``started``, ``restarted`` (the fingerprint differs from the running one's) or ``unchanged``; ``stop``
prints ``stopped`` or ``unchanged``; ``status`` prints ``running`` or ``stopped``. DIRECTORY gets NAME.pid and NAME.log.

The supervisor holds a lock on NAME.pid as long as it lives, so a stale file is never taken for a process, nor a
stranger who inherited the number for ours. A program that dies is started again, each time later, and in the end no more.
Standard library only: it runs before anything is installed, and outlives upgrades of what it runs.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

GRACE_S = 45.0  # the daemon drains for 30 s
HEALTHY_S = 60.0  # a program that ran this long has not failed to start
MAX_FAILURES = 5
MAX_LOG_BYTES = 10 << 20
PR_SET_PDEATHSIG = 1


class Slot:
    """The files of one background process."""

    def __init__(self, directory: Path, name: str) -> None:
        directory = directory.resolve()
        self.pid_file = directory / f"{name}.pid"
        self.log_file = directory / f"{name}.log"

    def lock(self) -> int | None:
        """Take the slot: a descriptor that holds it, or None while a supervisor does."""
        descriptor = os.open(self.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def running(self) -> bool:
        """True while a supervisor holds the slot."""
        if not self.pid_file.exists():
            return False
        descriptor = self.lock()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def read(self) -> Mapping[str, str]:
        """What the holder wrote: its pid and fingerprint."""
        with contextlib.suppress(ValueError, OSError):
            document = json.loads(self.pid_file.read_text())
            if isinstance(document, dict):
                return document
        return {}

    def stop(self) -> bool:
        """End the holder and its program; False if there was none."""
        if not self.running():
            return False
        pid = int(self.read()["pid"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S + 5
        while self.running():
            if time.monotonic() > deadline:
                sys.exit(f"process {pid} does not end; see {self.log_file}")
            time.sleep(0.05)
        return True


def start(slot: Slot, fingerprint: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Detach a supervisor for ``argv``; return once it holds the slot."""
    if slot.log_file.exists() and slot.log_file.stat().st_size > MAX_LOG_BYTES:
        slot.log_file.replace(slot.log_file.with_suffix(".log.1"))
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        with os.fdopen(ready) as answer:
            if answer.read() != "ready":
                sys.exit(f"the supervisor did not start; see {slot.log_file}")
        return
    os.setsid()
    os.chdir(slot.pid_file.parent)  # not "/": what the program leaves where it stands (conmon does) is then found and removed
    log = os.open(slot.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    lock = slot.lock()
    if lock is None:
        os._exit(1)
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps({"pid": os.getpid(), "fingerprint": fingerprint}).encode())
    os.write(tell, b"ready")
    # Ansible waits for the end of its own pipes, which a descendant must not keep open.
    os.closerange(3, lock)
    os.closerange(lock + 1, os.sysconf("SC_OPEN_MAX"))
    try:
        status = Supervisor(argv, environment).run()
    except OSError as error:
        print(f"supervise: {argv[0]}: {error.strerror}", flush=True)
        status = 1
    os._exit(status)


class Supervisor:
    """Run a program until told to stop, again and again when it dies."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._argv = argv
        self._environment = environment
        self._stop_by: float | None = None

    def run(self) -> int:
        """Return the supervisor's own exit status."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        failures = 0
        while self._stop_by is None:
            began = time.monotonic()
            status = self._run_once()
            if self._stop_by is not None or status == 0:
                return 0
            failures = 1 if time.monotonic() - began > HEALTHY_S else failures + 1
            print(f"supervise: {self._argv[0]} ended with status {status}, failure {failures} in a row", flush=True)
            if failures == MAX_FAILURES:
                return 1
            time.sleep(2.0 ** (failures - 2))
        return 0

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_by = self._stop_by or time.monotonic() + GRACE_S

    def _run_once(self) -> int:
        child = subprocess.Popen(  # noqa: S603 - running what it is given is its purpose
            self._argv,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - there is one thread
        )
        asked = False
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(timeout=0.1)
            if self._stop_by is None:
                continue
            if not asked:
                asked = True
                child.terminate()
            elif time.monotonic() > self._stop_by:
                child.kill()


def _die_with_parent() -> None:
    """Ask the kernel to end the program if its supervisor is killed: nobody could stop it any more."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["ensure", "stop", "status"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("name")
    parser.add_argument("--fingerprint", default="")
    parser.add_argument("--env", action="append", default=[])
    # By hand: argparse gives a "*" positional nothing when an option stands before it.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    argv = sys.argv[cut + 1 :]
    arguments = parser.parse_args(sys.argv[1:cut])
    slot = Slot(arguments.directory.absolute(), arguments.name)
    if arguments.command == "status":
        print("running" if slot.running() else "stopped")
    elif arguments.command == "stop":
        print("stopped" if slot.stop() else "unchanged")
    else:
        running = slot.running()
        if running and slot.read().get("fingerprint") == arguments.fingerprint:
            print("unchanged")
            return
        slot.stop()
        # Only what is named, so that what happens to be set in the caller's shell configures nothing.
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TZ") if name in os.environ}
        environment = {"LANG": "C.UTF-8", **inherited, **dict(pair.split("=", 1) for pair in arguments.env)}
        start(slot, arguments.fingerprint, argv, environment)
        print("restarted" if running else "started")


if __name__ == "__main__":
    main()
