"""What must be there before a service starts: configuration, keys, databases, catalogue, rings."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from box_openstack import catalogue, client, databases, passwords, render, rings
from box_openstack.cloud import Cloud
from box_openstack.files import write


def prepare(cloud: Cloud, *, programs: Path | None, progress: Path, check: bool) -> list[str]:
    """Bring the state directory in line with the cloud. What is right is left alone.

    :param programs: directory that gets the clients
    :param progress: file that says what takes its time
    :param check: change nothing, and tell only whether the cloud is to be another
    :return: what was changed
    :raise SpecificationError: the state was made by another release, or its policies would lose data
    """
    if check:
        return [] if cloud.is_recorded() else [str(cloud.record)]
    cloud.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    cloud.state.chmod(0o700)
    cloud.refuse_loss()
    databases.refuse_other_release(cloud)
    secrets = passwords.ensure(cloud.state)
    changes = render.render(cloud, secrets)
    if write(cloud.record, cloud.dump(), mode=0o644):
        changes.append(str(cloud.record))
    if passwords.ensure_keys(cloud.state):
        changes.append("Keystone's keys")
    changes += databases.ensure(cloud, progress)
    changes += catalogue.ensure(cloud, secrets)
    if "swift" in cloud.services:
        changes += rings.ensure(cloud)
    return changes + (_write_clients(programs) if programs else [])


def _write_clients(programs: Path) -> list[str]:
    """Give the clients of this environment a place that stays when the environment becomes another."""
    # Libraries warn of each other's deprecations, which is no matter of who uses them.
    python = shlex.join([sys.executable, "-W", "ignore", str(Path(client.__file__))])
    texts = {programs / name: f'#!/bin/sh\nexec {python} {name} "$@"\n' for name in client.CLIENTS}
    return [str(program) for program, text in texts.items() if write(program, text, mode=0o755)]
