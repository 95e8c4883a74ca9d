"""Processes of this machine, as tests look for them."""

from __future__ import annotations

import psutil


def processes_with(word: str) -> list[int]:
    """Pids of processes that have a word in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if word in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def lives(process: int | psutil.Process) -> bool:
    """True while a process, told by its pid or known from before, is there and no zombie."""
    try:
        known = psutil.Process(process) if isinstance(process, int) else process
        return known.is_running() and known.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
