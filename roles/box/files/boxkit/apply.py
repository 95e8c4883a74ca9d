"""Make the supervisor run a group of services, and wait until all of them are healthy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boxkit import processes
from boxkit.health import Health, look, process_of
from boxkit.layout import SANDBOX, Layout, write
from boxkit.service import Service, SpecificationError, as_json, parse, stored
from boxkit.settings import settings
from boxkit.supervisor import Supervisor, sections

TAIL_LINES = 15
HOPELESS = 6
"""So many failures in a row, and the service is not waited for any more."""


class ApplyError(Exception):
    """A group does not become healthy; the text is for people."""


def read_group(layout: Layout, group: str, documents: Any, *, check: bool) -> list[Service]:
    """The services that a role hands over.

    :param check: nothing has been done, so that the groups before this one may be missing
    :raises SpecificationError: they are none, or do not go with those of other groups
    """
    services = [parse(document, group) for document in documents]
    others = {service.name: service.group for name, members in stored(layout).items() if name != group for service in members}
    names = [service.name for service in services]
    for service in services:
        if names.count(service.name) > 1 or service.name in others:
            msg = f"service {service.name!r} of group {group}: the name is taken by group {others.get(service.name, group)}"
            raise SpecificationError(msg)
        unknown = set(service.waits_for) - {*names, *others}
        if unknown and not check:
            msg = f"service {service.name!r} of group {group}: it waits for {sorted(unknown)}, which nobody handed over"
            raise SpecificationError(msg)
    return services


def configure(layout: Layout, group: str, services: Sequence[Service], fingerprints: Mapping[str, str]) -> bool:
    """Write down the group; False if it was so already."""
    configuration = sections(layout, services, dict(fingerprints))
    # Each in any case: no short circuit.
    changes = [
        write(layout.groups / f"{group}.json", as_json(services)),
        write(layout.groups / f"{group}.conf", configuration),
    ]
    return any(changes)


def differs(layout: Layout, group: str, services: Sequence[Service]) -> bool:
    """True if ``configure`` would change something. Files that are not made yet are a difference."""
    try:
        fingerprints = {service.name: service.fingerprint() for service in services}
        texts = (as_json(services), sections(layout, services, fingerprints))
        return texts != tuple((layout.groups / f"{group}{suffix}").read_text() for suffix in (".json", ".conf"))
    except (SpecificationError, OSError):
        return True


def run(layout: Layout, group: str, services: Sequence[Service], deadline_s: float) -> dict[str, Any]:
    """Bring the group to life.

    :returns: for each thing that was done, to which services
    :raises ApplyError: a service is not healthy in time
    """
    began = time.monotonic()
    supervisor = Supervisor(layout)
    supervisor.wait()
    configured = configure(layout, group, services, {service.name: service.fingerprint() for service in services})
    started, restarted, removed = supervisor.take_up()
    if SANDBOX in removed:
        processes.end(layout, settings(layout).cgroup, walled_only=True)
    started |= supervisor.start([service.name for service in services])
    _wait(layout, group, services, began + deadline_s)
    return {
        "changed": configured or bool(started | restarted | removed),
        "started": sorted(started),
        "restarted": sorted(restarted),
        "removed": sorted(removed),
        "seconds": round(time.monotonic() - began, 1),
    }


def _wait(layout: Layout, group: str, services: Sequence[Service], deadline: float) -> None:
    pending = {service.name: service for service in services}
    progress = layout.run / f"progress-{group}"
    while True:
        health = look(layout, pending.values())
        pending = {name: service for name, service in pending.items() if not health[name].well}
        if not pending:
            progress.unlink(missing_ok=True)
            return
        what = ", ".join(f"{name} {health[name].detail}" for name in list(pending)[:3])
        write(progress, f"{len(services) - len(pending)} of {len(services)} services are healthy; {what}\n")
        found = {name: process_of(layout, name) for name in pending}
        hopeless = [name for name, process in found.items() if process and process.failures >= HOPELESS]
        if hopeless or time.monotonic() > deadline:
            names = hopeless or list(pending)
            raise ApplyError("\n".join(_obituary(layout, pending[name], health[name]) for name in names))
        time.sleep(0.3)


def _obituary(layout: Layout, service: Service, health: Health) -> str:
    log = layout.log_of(service.name)
    return f"service {service.name} is not healthy: it {health.detail}. The end of its log, {log}:\n{tail(log, TAIL_LINES)}"


def tail(path: Path, lines: int) -> str:
    """The last lines of a log."""
    size = 64 << 10
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
