#!/usr/bin/env python3
"""Become a service of the box: wait until what it needs is healthy, enter the sandbox, and execute the program.

    enter.py BOX NAME

The supervisor starts this and sees one process, whose number the program keeps. It dies with the supervisor. A program that
keeps ending soon after its start is started later each time, up to half a minute, and without end. Standard library only.
"""
# ruff: noqa: T201 - standard output is the service's log

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from boxkit import processes
from boxkit.environment import environment_of
from boxkit.health import has_walls, look, process_of
from boxkit.layout import SANDBOX, Layout, read_json, write
from boxkit.service import Service, by_name
from boxkit.settings import settings

LASTED_S = 60.0  # a program that ran this long has not failed to start
MAX_DELAY_S = 30.0
PAUSES_S = (0.1, 2.0)  # between two looks at another service: at first, and in the end


class Record:
    """What others may know of this process, in a file."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._path = layout.record(name)
        before = read_json(self._path) or {"pid": 0, "waits_for": "", "since": 0.0, "failures": 0}
        failed = before["pid"] and not before["waits_for"] and time.time() - before["since"] < LASTED_S
        self.failures = before["failures"] + 1 if failed else 0
        self.group_before = before["pid"]
        stat = processes.stat_of(os.getpid())
        self._start = stat.start if stat else 0

    def note(self, waits_for: str) -> None:
        """Write down what this process does now."""
        document = {
            "pid": os.getpid(),
            "start": self._start,
            "failures": self.failures,
            "since": time.time(),
            "waits_for": waits_for,
        }
        write(self._path, json.dumps(document))


def wait_for(layout: Layout, service: Service, record: Record) -> None:
    """Return when all that the service needs is healthy."""
    for name in service.waits_for:
        pause, said = PAUSES_S[0], False
        while True:
            # Read anew: another role may have changed what is to be waited for.
            needed = by_name(layout).get(name)
            health = look(layout, [needed])[name] if needed else None
            if health and health.well:
                break
            if not said:
                said = True
                record.note(name)
                print(f"enter: waits for {name}, which {health.detail if health else 'is not there'}", flush=True)
            time.sleep(pause)
            pause = min(pause * 1.5, PAUSES_S[1])


def go_inside(layout: Layout) -> None:
    """Enter the namespaces of the sandbox; end if it ends meanwhile, to be started again."""
    sandbox = process_of(layout, SANDBOX)
    if sandbox is None or not has_walls(sandbox.pid):
        sys.exit("enter: the sandbox has just ended")
    processes.enter(sandbox.pid)
    now = process_of(layout, SANDBOX)
    if now is None or now.pid != sandbox.pid:
        sys.exit("enter: the sandbox has just ended")


def main() -> None:
    """Run the command line."""
    processes.die_with_parent()
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        # As a program expects to find them; Python changes these.
        signal.signal(number, signal.SIG_DFL)
    layout, name = Layout(Path(sys.argv[1])), sys.argv[2]
    service = by_name(layout)[name]
    record = Record(layout, name)
    if record.failures:
        delay = min(2.0 ** (record.failures - 2), MAX_DELAY_S) if record.failures > 1 else 0.0
        print(f"enter: ended soon after its start, {record.failures} in a row; starts again in {delay:.0f} s", flush=True)
        record.note("its next try")
        time.sleep(delay)
    if record.group_before:
        processes.end_group(record.group_before, layout)
    wait_for(layout, service, record)
    if name == SANDBOX:
        # Its last incarnation is gone; what lived in there has no network any more and starts anew.
        processes.end(layout, settings(layout).cgroup, walled_only=True)
        processes.wall_off(layout)
    if service.inside:
        go_inside(layout)
    os.chdir(service.directory or layout.run)
    record.note("")
    try:
        os.execve(service.argv[0], list(service.argv), environment_of(service))  # noqa: S606 - its purpose
    except OSError as error:
        sys.exit(f"enter: {service.argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
