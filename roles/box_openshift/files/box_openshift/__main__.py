"""OpenShift's controllers and the router's, in one process.

    python -m box_openshift SETTINGS

SETTINGS is a JSON file, see ``main``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import resources
from .cluster import Cluster
from .configuration import Configuration
from .controller import Controller
from .default_bindings import DefaultBindings
from .informer import Informer
from .machine_sets import MachineSets
from .machines import Machines
from .project_finalizer import ProjectFinalizer
from .project_rights import ProjectRights
from .router import Router
from .uid_ranges import UidRanges

_log = logging.getLogger(__name__)


def main() -> None:
    """Run until killed. The settings are ``kubeconfig``, and ``router`` with ``directory``, ``program``, ``settings``
    (see ``haproxy.Settings``) and ``canonical_host``.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stdout)
    settings = json.loads(Path(sys.argv[1]).read_text())
    cluster = Cluster(Path(settings["kubeconfig"]))
    namespaces, bindings, cluster_bindings, nodes, machines, machine_sets, routes, slices = informers = [
        Informer(cluster, resource)
        for resource in (
            resources.NAMESPACES,
            resources.ROLE_BINDINGS,
            resources.CLUSTER_ROLE_BINDINGS,
            resources.NODES,
            resources.MACHINES,
            resources.MACHINE_SETS,
            resources.ROUTES,
            resources.ENDPOINT_SLICES,
        )
    ]
    router = settings["router"]
    configuration = Configuration.read(router)
    # Each with what it must have seen all of before it may decide anything.
    controllers: list[tuple[Controller, list[Informer]]] = [
        (UidRanges(cluster, namespaces), [namespaces]),
        (ProjectFinalizer(cluster, namespaces), [namespaces]),
        (ProjectRights(cluster, namespaces, bindings, cluster_bindings), [namespaces, bindings, cluster_bindings]),
        (DefaultBindings(cluster, namespaces, bindings), [namespaces, bindings]),
        (MachineSets(cluster, machine_sets, machines), [machine_sets, machines]),
        (Machines(cluster, machines, machine_sets, nodes), [machines, machine_sets, nodes]),
        (Router(cluster, routes, slices, configuration, router["canonical_host"]), [routes, slices]),
    ]
    for informer in informers:
        _start(informer.run)
    for controller, needed in controllers:
        _start(partial(_after, needed, controller))
    threading.Event().wait()


def _after(needed: list[Informer], controller: Controller) -> None:
    for informer in needed:
        informer.synced.wait()
    _log.info("%s begins", type(controller).__name__)
    controller.run()


def _start(work: Callable[[], None]) -> None:
    """Run a thread that must not end; the process ends with it, to be started again."""

    def run() -> None:
        try:
            work()
        finally:
            _log.exception("a worker has ended")
            os._exit(1)

    threading.Thread(target=run, daemon=True).start()


if __name__ == "__main__":
    main()
