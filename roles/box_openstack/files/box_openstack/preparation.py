"""What must be there before a service starts: configuration, keys, databases, catalogue, rings."""

from __future__ import annotations

import sys
from pathlib import Path

from box_openstack import catalogue, databases, passwords, render, rings
from box_openstack.cloud import Cloud
from box_openstack.files import write

CLIENTS = ("openstack", "swift")


def prepare(cloud: Cloud, *, programs: Path | None, progress: Path, check: bool) -> list[str]:
    """Bring the state directory in line with the cloud. What is right is left alone.

    :param programs: directory that gets links to the clients
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
    return changes + (_link_clients(programs) if programs else [])


def _link_clients(programs: Path) -> list[str]:
    """Give the clients of this environment a place that stays when the environment becomes another."""
    programs.mkdir(parents=True, exist_ok=True)
    changed = []
    for name in CLIENTS:
        link, target = programs / name, Path(sys.prefix) / "bin" / name
        if not (link.is_symlink() and link.readlink() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            changed.append(str(link))
    return changed
