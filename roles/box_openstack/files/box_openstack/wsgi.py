"""Serving and reaching HTTP."""

from __future__ import annotations

import http.client
import logging
import time
import urllib.error
import urllib.request
from typing import Any

import waitress

from box_openstack.cloud import Cloud

POLL_S = 0.2
SAY_AFTER_S = 10.0


def serve(application: Any, cloud: Cloud, listener: str, *, threads: int = 8) -> None:
    """Serve a WSGI application until the process is stopped."""
    # A request that waits for a thread is no warning here.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    waitress.serve(
        application,
        host=cloud.host,
        port=cloud.port(listener),
        threads=threads,
        ident=None,
        channel_timeout=300,
        # An image may have any size.
        max_request_body_size=1 << 40,
        clear_untrusted_proxy_headers=True,
    )


def wait_for(url: str) -> None:
    """Wait, without end, until a server answers with anything but an error of its own; say so in the log now and then."""
    said = time.monotonic()
    while not _answers(url):
        if time.monotonic() - said > SAY_AFTER_S:
            logging.getLogger(__name__).warning("waiting for %s", url)
            said = time.monotonic()
        time.sleep(POLL_S)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own servers
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code < 500
    except (OSError, http.client.HTTPException):
        return False
