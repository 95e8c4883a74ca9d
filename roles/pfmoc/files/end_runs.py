#!/usr/bin/env python3
"""End the plugins that a stopped daemon has left running as plain processes; print the name of each.

They outlive their daemon on purpose. Each has a supervisor that holds a lock in its directory (pfmoc.compute.rundir
describes both) and takes its plugin along when it is asked to end. Standard library only.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

DEADLINE_S = 20.0


def held(lock: Path) -> bool:
    """True while a supervisor lives."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def end(lock: Path) -> None:
    """Ask the supervisor that holds the lock to end, and wait."""
    until = time.monotonic() + DEADLINE_S
    while held(lock):
        words = lock.read_text().split()
        if words:
            # One that somebody has stopped acts on nothing before it is continued.
            for number in (signal.SIGTERM, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(words[0]), number)
        if time.monotonic() > until:
            sys.exit(f"the run in {lock.parent} does not end")
        time.sleep(0.05)


def main() -> None:
    """Run the command line: one argument, the daemon's directory of runs."""
    for lock in sorted(Path(sys.argv[1]).glob("*/lock")):
        if held(lock):
            end(lock)
            print(lock.parent.name)


if __name__ == "__main__":
    main()
