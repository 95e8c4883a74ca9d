"""The databases: seeded once for a lock, kept as golden copies, copied into each new cloud.

Seeding runs the services' own migrations and takes some ten seconds of each of them; copying takes none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from box_openstack import passwords, render
from box_openstack.cloud import Cloud, SpecificationError

OF_SERVICE = {
    "keystone": ["keystone"],
    "placement": ["placement"],
    "glance": ["glance"],
    "neutron": ["neutron"],
    "nova": ["nova_api", "nova_cell0", "nova_cell1"],
    "cinder": ["cinder"],
}


def _lock(cloud: Cloud) -> Path:
    """The file that says which lock the databases are for."""
    return cloud.state / "databases" / "lock"


def refuse_other_release(cloud: Cloud) -> None:
    """Raise SpecificationError if the databases are those of another lock: Neutron's could not be migrated, see seed_neutron."""
    lock = _lock(cloud)
    if lock.exists() and lock.read_text() != cloud.lock:
        raise SpecificationError(
            f"the databases in {lock.parent} are those of another OpenStack release. "
            f"To begin anew, stop the box and remove {cloud.state}"
        )


def ensure(cloud: Cloud, progress: Path) -> list[str]:
    """Give each service its databases.

    :param progress: file that says how far it is
    :return: the services whose databases were made
    """
    missing = [
        service
        for service in cloud.services
        if not all(cloud.database_file(name).exists() for name in OF_SERVICE.get(service, []))
    ]
    if not missing:
        return []
    golden = _golden(cloud, missing, progress)
    lock = _lock(cloud)
    lock.parent.mkdir(mode=0o700, exist_ok=True)
    lock.write_text(cloud.lock)
    for service in missing:
        for name in OF_SERVICE[service]:
            target = cloud.database_file(name)
            draft = target.with_suffix(".new")
            shutil.copyfile(golden / target.name, draft)
            draft.rename(target)
    return [f"the databases of {service}" for service in missing]


def _golden(cloud: Cloud, services: list[str], progress: Path) -> Path:
    """The directory with the seeded databases of these services."""
    golden = cloud.golden / _key(cloud)
    missing = [s for s in services if not all((golden / f"{name}.sqlite").exists() for name in OF_SERVICE[s])]
    if not missing:
        return golden
    golden.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cloud.golden) as name:
        draft = replace(cloud, state=Path(name), services=cloud.services, clouds_yaml=Path(name) / "clouds.yaml")
        (draft.state / "databases").mkdir()
        draft.record.write_text(draft.dump())
        render.render(draft, dict.fromkeys(passwords.NAMES, "unset"))
        passwords.ensure_keys(draft.state)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for number, _ in enumerate(pool.map(lambda service: _seed(draft, service), missing)):
                progress.write_text(f"databases: {number + 1} of {len(missing)} made; usually 20 s for all\n")
        for service in missing:
            for database in OF_SERVICE[service]:
                draft.database_file(database).rename(golden / f"{database}.sqlite")
    return golden


def _key(cloud: Cloud) -> str:
    """Digest of all that the seeded databases depend on."""
    digest = hashlib.sha256(f"{cloud.lock} {sys.version_info[:2]} {cloud.region}".encode())
    for file in sorted(Path(__file__).parent.glob("seed*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _seed(draft: Cloud, service: str) -> None:
    """Seed in a process of its own: the configuration of an OpenStack project is global to its process."""
    log = draft.state / f"seed-{service}.log"
    argv = [sys.executable, "-W", "ignore", "-m", "box_openstack", "seed", service, str(draft.state)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "XDG_CACHE_HOME": str(draft.state / "cache")}
    with log.open("w") as output:
        done = subprocess.run(argv, env=environment, stdout=output, stderr=output, check=False)  # noqa: S603 - our own program
    if done.returncode:
        last_words = "\n".join(log.read_text().splitlines()[-15:])
        raise SpecificationError(f"the databases of {service} could not be made:\n{last_words}")
    for name in OF_SERVICE[service]:
        # Neither a log nor a lock file may be left beside it.
        with closing(sqlite3.connect(draft.database_file(name))) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
