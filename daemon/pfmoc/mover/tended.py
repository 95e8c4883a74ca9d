"""Work in a child process that is made anew when it crashes: Kubernetes starts no container again in a pod that is ending.

It does not help where the container is killed as a whole, as it is under cgroup v2 when it takes more memory than its limit,
unless the kubelet has ``singleProcessOOMKill``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from pfmoc.backoff import Backoff
from pfmoc.mover.report import say

ENDINGS = frozenset({0, 1, 2})
"""Statuses with which the work says how it ended: that stands, and is not repeated."""
_CRASHED = 70


def tended(work: Callable[[str | None], int]) -> int:
    """Do the work, again after each crash, until it ends by itself.

    To be called by a process of one thread, which the child is a copy of, blocked signals included.

    :param work: is given how the last child died, None at first; returns one of ``ENDINGS``
    """
    pauses = Backoff(first_s=0.5, longest_s=5.0, factor=2.0).pauses()
    death: str | None = None
    while True:
        child = os.fork()
        if not child:
            _be_child(work, death)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code in ENDINGS:
            return code
        death = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        say("error", f"crashed with {death}, and begins again")
        time.sleep(next(pauses))


def _be_child(work: Callable[[str | None], int], death: str | None) -> None:
    status = _CRASHED
    try:
        status = work(death)
    finally:
        os._exit(status)  # whatever was raised: never back into the parent's code
