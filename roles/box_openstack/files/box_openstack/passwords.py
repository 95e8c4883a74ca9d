"""The cloud's secrets: drawn once for each state directory, kept in one file of mode 0600."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

from box_openstack.files import write

# The accounts that the services sign in with, and what a database or ring of this very cloud is salted with.
SERVICE_USERS = ("placement", "glance", "neutron", "nova", "cinder", "swift")
NAMES = ("admin", *SERVICE_USERS, "swift hash prefix", "swift hash suffix")


def ensure(state: Path) -> dict[str, str]:
    """The secrets by name; what is missing is drawn.

    :return: name to secret, see ``NAMES``
    """
    file = state / "passwords.json"
    found: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    drawn = {name: secrets.token_urlsafe(24) for name in NAMES} | found
    write(file, json.dumps(drawn, indent=2) + "\n", mode=0o600)
    return drawn


def ensure_keys(state: Path) -> bool:
    """The two key repositories of Keystone, as ``keystone-manage fernet_setup`` makes them: 0 is staged, 1 is primary.

    :return: whether one was made
    """
    made = False
    for name in ("fernet", "credential"):
        repository = state / "keys" / name
        repository.mkdir(mode=0o700, parents=True, exist_ok=True)
        for index in ("0", "1"):
            if not (repository / index).exists():
                write(repository / index, base64.urlsafe_b64encode(os.urandom(32)).decode(), mode=0o600)
                made = True
    return made
