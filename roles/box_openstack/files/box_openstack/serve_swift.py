"""Swift's servers and daemons, each a process of its own."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

from swift.common import constraints, storage_policy, utils
from swift.common.daemon import run_daemon
from swift.common.wsgi import run_wsgi

from box_openstack.cloud import Cloud
from box_openstack.services import SWIFT_CONF, SWIFT_SERVERS

DAEMONS = {
    "container-updater": ("swift.container.updater", "ContainerUpdater"),
    "object-updater": ("swift.obj.updater", "ObjectUpdater"),
    "object-expirer": ("swift.obj.expirer", "ObjectExpirer"),
    "account-reaper": ("swift.account.reaper", "AccountReaper"),
}


def serve(cloud: Cloud, program: str) -> None:
    """Run one of them.

    :param program: a key of ``SWIFT_CONF``
    """
    directory = cloud.conf / "swift"
    conf = str(directory / SWIFT_CONF[program])
    if utils.set_swift_dir(str(directory)):
        # Both were read from /etc/swift while they were imported.
        storage_policy.reload_storage_policies()
        constraints.reload_constraints()
    if program in SWIFT_SERVERS:
        # Verbose is what keeps standard error open.
        sys.exit(run_wsgi(conf, f"{program}-server", verbose=True))
    module, name = DAEMONS[program]
    daemon = getattr(importlib.import_module(module), name)
    if program.endswith("-updater"):
        daemon = type(name, (daemon,), {"run_forever": sweep_for_ever})
    run_daemon(daemon, conf, section=program, verbose=True)


def sweep_for_ever(updater: Any, *_arguments: Any, **_options: Any) -> None:
    """Report containers to their accounts, or objects to their containers, again and again, in this process.

    Swift forks for each sweep, and each child patches the standard library anew: with sweeps as near as the box has them, that
    takes half a processor.

    :param updater: Swift's container or object updater
    """
    while True:
        updater.run_once()
        time.sleep(updater.interval)
