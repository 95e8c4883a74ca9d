"""One service or one seeding in this process: what must happen before its libraries are imported, then they.

OpenStack's projects read their configuration, and choose between threads and eventlet, while they are imported. So each has a
module of its own here, imported when that is settled.
"""

from __future__ import annotations

import importlib
import os
import sys

from box_openstack.cloud import NEEDS, Cloud, SpecificationError


def seed(cloud: Cloud, name: str) -> None:
    """Make the databases of a project."""
    importlib.import_module(f"box_openstack.seed_{name}").seed(cloud)


def serve(cloud: Cloud, name: str) -> None:
    """Run a service until it is stopped.

    :param name: a project, or for Swift ``swift-`` and the program
    """
    project, _, program = name.partition("-")
    if project not in NEEDS:
        raise SpecificationError(f"there is no service {name}")
    os.environ.update(_environment(cloud, project))
    if project == "cinder":
        _patch_for_eventlet()
    elif project != "swift":
        # Importing oslo.messaging would choose eventlet, and Nova would then refuse threads.
        from oslo_service import backend  # noqa: PLC0415

        backend.init_backend(backend.BackendType.THREADING)
    if project == "nova":
        from nova import monkey_patch  # noqa: PLC0415

        monkey_patch.patch(backend="threading")
    if project != "swift":
        from box_openstack import sqlite  # noqa: PLC0415 - not before eventlet has patched what it imports

        sqlite.install()
    importlib.import_module(f"box_openstack.serve_{project}").serve(cloud, program)


def _environment(cloud: Cloud, project: str) -> dict[str, str]:
    """Where the WSGI module of a project finds its configuration."""
    prefix = f"OS_{project.upper()}_CONFIG"
    files = {
        "keystone": "keystone.conf",
        "neutron": "neutron.conf",
        # The first is taken as the paste configuration; an absolute one stays as it is.
        "nova": f"{sys.prefix}/etc/nova/api-paste.ini;nova.conf",
    }
    found = {f"{prefix}_DIR": str(cloud.conf)}
    if project in files:
        found[f"{prefix}_FILES"] = files[project]
    return found


def _patch_for_eventlet() -> None:
    """As cinder's own commands begin: eventlet's green threads, known to the threading module of before."""
    import eventlet  # noqa: PLC0415

    eventlet.monkey_patch()
    import threading  # noqa: PLC0415

    original = importlib.import_module("__original_module_threading")
    original.current_thread.__globals__["_active"] = threading._active  # type: ignore[attr-defined]  # noqa: SLF001
