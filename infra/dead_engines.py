"""Engines of this machine that were ended with violence, and what they leave running.

Nobody tells the program and the plugins of such an engine that it is gone: they stay, some 300 MB of memory, and one may still be
making something while the next engine looks for it.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import psutil

from infra.failures import Holder

NAMES = "pulumi-"
"""How the programs of plugins and language hosts begin, and the script that runs our program."""


def is_dead(holder: Holder) -> bool:
    """Say whether who holds a lock is an engine of this machine that is no more."""
    if holder.host != socket.gethostname():
        return False
    try:
        return "pulumi" not in psutil.Process(holder.pid).name()
    except psutil.NoSuchProcess:
        return True


def remains(engine: int) -> list[psutil.Process]:
    """What a dead engine has left running: processes of Pulumi's in the session that it led.

    The kit gives each engine a session of its own. One that a shell started shares the shell's: what that leaves is not found.

    :param engine: number of its process; where another process has it now, nothing is found
    """
    if psutil.pid_exists(engine):
        return []
    return [each for each in psutil.process_iter(["cmdline"]) if _session(each) == engine and _is_of_pulumi(each)]


def end_remains(engine: int) -> int:
    """End what a dead engine has left running; how many processes that were."""
    found = remains(engine)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return len(found)


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except OSError:
        return 0


def _is_of_pulumi(process: psutil.Process) -> bool:
    return any(word.rpartition("/")[2].startswith(NAMES) for word in process.info["cmdline"] or ())
