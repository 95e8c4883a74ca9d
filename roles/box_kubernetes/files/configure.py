#!/usr/bin/env python3
"""Write what the services of a cluster are configured with: certificates, kubeconfigs and files.

    configure.py [--check] < SPECIFICATION > RESULT

Both are JSON. The specification has

- ``pki``: the directory of certificates; ``authorities``: names; ``key_pairs``: names; ``certificates``: see ``pki.Request``
- ``kubeconfigs``: each ``path``, ``server``, ``authority`` and ``certificate`` (names), and ``name`` of the context
- ``files``: each ``path``, ``content``, and ``mode`` in octal digits

and the result lists under ``changed`` what was written, or with ``--check`` would be.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import base64
import datetime as dt
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pki


def kubeconfig(directory: Path, entry: Mapping[str, str]) -> str:
    """A kubeconfig with its certificates inside, so that it is one file to hand around. JSON is YAML."""

    def data(file: str) -> str:
        path = directory / file
        # With --check there may be none yet.
        return base64.b64encode(path.read_bytes()).decode() if path.exists() else ""

    name = entry["name"]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {"server": entry["server"], "certificate-authority-data": data(f"{entry['authority']}.crt")},
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": data(f"{entry['certificate']}.crt"),
                    "client-key-data": data(f"{entry['certificate']}.key"),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(document, indent=2) + "\n"


def differs(path: Path, content: bytes, mode: int) -> bool:
    """True if the file is not there, says something else, or is open to others than ``mode`` says."""
    try:
        return path.read_bytes() != content or path.stat().st_mode & 0o777 != mode
    except FileNotFoundError:
        return True


def main() -> None:
    """Run the command line."""
    check = "--check" in sys.argv[1:]
    specification: dict[str, Any] = json.load(sys.stdin)
    place = Path(specification["pki"])
    directory = pki.Directory(place, now=dt.datetime.now(dt.UTC), dry=check)
    for name in specification["authorities"]:
        directory.authority(name)
    for name in specification["key_pairs"]:
        directory.key_pair(name)
    for request in specification["certificates"]:
        directory.certificate(pki.Request(**request))
    files = [(entry["path"], entry["content"], entry["mode"]) for entry in specification["files"]]
    files += [(entry["path"], kubeconfig(place, entry), "0600") for entry in specification["kubeconfigs"]]
    changed = [f"{place}/{name}" for name in directory.written]
    for name, text, digits in files:
        path, content, mode = Path(name), text.encode(), int(digits, 8)
        if differs(path, content, mode):
            changed.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                pki.write(path, content, mode)
    print(json.dumps({"changed": changed}))


if __name__ == "__main__":
    main()
