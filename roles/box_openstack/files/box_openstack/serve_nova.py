"""Nova: its API, conductor, scheduler and compute services in one process, as their messages travel through its memory."""

from __future__ import annotations

import sys

import os_vif
from nova import conf, context, service
from nova.compute import rpcapi as compute
from nova.conductor import rpcapi as conductor
from nova.objects import host_mapping
from nova.scheduler import rpcapi as scheduler
from nova.wsgi.osapi_compute import application

from box_openstack import compute_driver, wsgi
from box_openstack.cloud import Cloud

# Nova looks for drivers below its own package only.
sys.modules["nova.virt.box"] = compute_driver

# Creating a server takes a thread of the API for a call to the conductor, which calls back.
API_THREADS = 32


def serve(cloud: Cloud, _program: str) -> None:
    """Run all of them."""
    # The compute service gives up for a minute when it cannot register its nodes at once.
    wsgi.wait_for(f"{cloud.url('keystone')}/v3")
    wsgi.wait_for(cloud.url("placement"))
    os_vif.initialize()
    # The order matters: each calls those before it while it starts.
    _start("nova-conductor", conductor.RPC_TOPIC)
    _start("nova-scheduler", scheduler.RPC_TOPIC)
    for host in compute_driver.HOSTS:
        _start("nova-compute", compute.RPC_TOPIC, host=host, topic_alt=compute.RPC_TOPIC_ALT)
    host_mapping.discover_hosts(context.get_admin_context())
    wsgi.serve(application, cloud, "nova", threads=API_THREADS)


def _start(binary: str, topic: str, *, host: str | None = None, topic_alt: str | None = None) -> None:
    """Start a service.

    :param host: its name of the machine, if it is not the configured one
    """
    if host:
        # Its driver looks here while it is made, as in Nova's own tests, which run several in one process.
        conf.CONF.set_override("host", host)
    started = service.Service.create(binary=binary, topic=topic, topic_alt=topic_alt, host=host)
    started.start()
    conf.CONF.clear_override("host")
    _running.append(started)


# Held for as long as the process lives.
_running: list[service.Service] = []
