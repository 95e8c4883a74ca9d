"""Cinder: its API, scheduler and volume service in one process, as their messages travel through its memory."""

from __future__ import annotations

import sys
from typing import Any

import eventlet
import eventlet.wsgi
import os_brick
from cinder import service
from cinder.cmd import volume
from cinder.wsgi import wsgi
from oslo_privsep import priv_context

from box_openstack.cloud import Cloud

BACKEND = "box"


def serve(cloud: Cloud, _program: str) -> None:
    """Run all three."""
    sys.argv = ["cinder", "--config-file", str(cloud.conf / "cinder.conf")]
    application = wsgi.initialize_application()
    priv_context.init(root_helper=["sudo", "-n"])
    os_brick.setup(volume.CONF)
    volume.CONF.register_opt(volume.host_opt, group=BACKEND)
    # Its start waits, up to a minute, until a volume service has reported.
    eventlet.spawn(_create(binary="cinder-scheduler").start)
    _create(binary="cinder-volume", host=f"{volume.CONF.host}@{BACKEND}", service_name=BACKEND, coordination=True).start()
    eventlet.wsgi.server(eventlet.listen((cloud.host, cloud.port("cinder"))), application, log_output=False)


def _create(**arguments: Any) -> Any:
    """A service that reports for itself: the id to report under is a class attribute, and the last one made would win."""
    created = service.Service.create(**arguments)
    report, identity = created.report_state, service.Service.service_id

    def report_state() -> None:
        service.Service.service_id = identity
        report()

    created.report_state = report_state
    return created
