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
