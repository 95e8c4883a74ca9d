"""What in Keystone's and Nova's databases depends on the very cloud: endpoints, the services' passwords, where the cells are.

Written into the tables: the endpoints must be right before the first service starts, and follow when a port changes.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import closing
from dataclasses import dataclass

import bcrypt

from box_openstack.cloud import Cloud
from box_openstack.files import write
from box_openstack.passwords import SERVICE_USERS

INTERFACES = ("public", "internal", "admin")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One service of the catalogue.

    :param project: the project that serves it, and its port
    :param type: the service's type
    :param name: the service's name
    :param path: what its URL ends with
    """

    project: str
    type: str
    name: str
    path: str


ENTRIES = (
    Entry(project="keystone", type="identity", name="keystone", path="/v3"),
    Entry(project="placement", type="placement", name="placement", path=""),
    Entry(project="glance", type="image", name="glance", path=""),
    Entry(project="neutron", type="network", name="neutron", path=""),
    Entry(project="nova", type="compute", name="nova", path="/v2.1"),
    Entry(project="cinder", type="block-storage", name="cinder", path="/v3"),
    # Nova and older clients look for the type under its former name.
    Entry(project="cinder", type="volumev3", name="cinderv3", path="/v3"),
    Entry(project="swift", type="object-store", name="swift", path="/v1/AUTH_%(project_id)s"),
)


def ensure(cloud: Cloud, passwords: dict[str, str]) -> list[str]:
    """Make the rows say what the cloud is.

    :param passwords: secrets by the name of their user
    :return: what was changed
    """
    with closing(sqlite3.connect(cloud.database_file("keystone"), timeout=60)) as keystone, keystone:
        endpoints = _endpoints(keystone, cloud)
        users = [f"the password of {name}" for name in ("admin", *SERVICE_USERS) if _password(keystone, name, passwords[name])]
        listed = keystone.execute("SELECT interface, url FROM endpoint ORDER BY url, interface").fetchall()
    # A running Keystone has the former ones in memory; its supervisor sees that this file is another.
    write(cloud.conf / "catalogue.json", json.dumps(listed, indent=2) + "\n", mode=0o644)
    cells = _cells(cloud) if "nova" in cloud.services else []
    return [*(f"the endpoint {url}" for url in endpoints), *users, *cells]


def _endpoints(database: sqlite3.Connection, cloud: Cloud) -> list[str]:
    """The endpoints that were made, moved or taken away, as ``type interface url``."""
    changed = []
    for entry in ENTRIES:
        row = database.execute("SELECT id FROM service WHERE type = ?", (entry.type,)).fetchone()
        if entry.project not in cloud.services:
            if row:
                database.execute("DELETE FROM endpoint WHERE service_id = ?", row)
                database.execute("DELETE FROM service WHERE id = ?", row)
                changed.append(f"{entry.type}, which is no longer served")
            continue
        service = row[0] if row else uuid.uuid4().hex
        if not row:
            extra = json.dumps({"name": entry.name, "description": ""})
            database.execute("INSERT INTO service (id, type, enabled, extra) VALUES (?, ?, 1, ?)", (service, entry.type, extra))
        for interface in INTERFACES:
            host = cloud.internal_host if interface == "internal" else cloud.host
            url = f"http://{host}:{cloud.port(entry.project)}{entry.path}"
            known = database.execute(
                "SELECT id, url FROM endpoint WHERE service_id = ? AND interface = ? AND region_id = ?",
                (service, interface, cloud.region),
            ).fetchone()
            if known and known[1] == url:
                continue
            if known:
                database.execute("UPDATE endpoint SET url = ? WHERE id = ?", (url, known[0]))
            else:
                database.execute(
                    "INSERT INTO endpoint (id, interface, service_id, url, extra, enabled, region_id)"
                    " VALUES (?, ?, ?, ?, '{}', 1, ?)",
                    (uuid.uuid4().hex, interface, service, url, cloud.region),
                )
            changed.append(f"{entry.type} {interface} {url}")
    return changed


def _password(database: sqlite3.Connection, user: str, password: str) -> bool:
    """Give a user of the default domain a password; False if it is that one."""
    identity, known = database.execute(
        "SELECT password.id, password_hash FROM password JOIN local_user ON local_user.id = local_user_id"
        " WHERE name = ? AND domain_id = 'default' ORDER BY created_at_int DESC",
        (user,),
    ).fetchone()
    if bcrypt.checkpw(password.encode(), known.encode()):
        return False
    # The salt's cost is keystone.conf's password_hash_rounds.
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    database.execute("UPDATE password SET password_hash = ? WHERE id = ?", (hashed, identity))
    return True


def _cells(cloud: Cloud) -> list[str]:
    """Point Nova's cells at this cloud's files."""
    changed = []
    with closing(sqlite3.connect(cloud.database_file("nova_api"), timeout=60)) as nova, nova:
        for cell in ("cell0", "cell1"):
            done = nova.execute(
                "UPDATE cell_mappings SET database_connection = ? WHERE name = ? AND database_connection != ?",
                (url := cloud.database(f"nova_{cell}"), cell, url),
            )
            if done.rowcount:
                changed.append(f"the mapping of {cell}")
    return changed
