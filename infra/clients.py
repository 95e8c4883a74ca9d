"""Clients of a site's clouds, for what the engine does not tell: use, identity, what the providers never read back.

They follow the site file as the program does, and no ``OS_*`` variable but those that say where clouds.yaml is. Failures become
``OperatorError``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes
import swiftclient
import urllib3
from keystoneauth1.exceptions import ClientException as KeystoneError
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException as KubeconfigError
from kubernetes.config import new_client_from_config
from openstack.config import OpenStackConfig, loader
from openstack.connection import Connection
from openstack.exceptions import ConfigException, SDKException

from infra.failures import OperatorError, explained
from infra.spec import Site

TIMEOUT_S = 30
"""For one answer of a cloud: as long as a busy Keystone may take."""


@contextmanager
def sentences(where: str = "") -> Iterator[None]:
    """Make a sentence of what a client raises.

    :param where: what was asked, put before the sentence
    :raises OperatorError: in place of the client's own
    """
    try:
        yield
    except (
        ApiException,
        ConfigException,
        KeystoneError,
        KubeconfigError,
        SDKException,
        swiftclient.ClientException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        found = explained(_text(error))
        raise OperatorError(f"{where}: {found.cause}" if where else found.cause, found.fix) from error


def _text(error: Exception) -> str:
    """What an error says, with what the services wrote into it."""
    if isinstance(error, ApiException):
        return f"({error.status}) {error.reason} {error.body or ''}"
    if isinstance(error, swiftclient.ClientException):
        return f"{error} HTTP {error.http_status}"
    status = getattr(error, "http_status", None) or getattr(error, "status_code", None)
    return f"{error} HTTP {status}" if status else str(error)


def openstack_connection(site: Site) -> Connection:
    """A connection as the operator whom the site file names.

    :raises OperatorError: when the site has no OpenStack, or clouds.yaml no such entry
    """
    cloud = site.clouds.openstack
    if cloud is None:
        raise OperatorError(f"the site {site.name} has no OpenStack", "name one in clouds.openstack")
    with sentences("clouds.openstack.cloud"):
        config = OpenStackConfig(
            load_envvars=False,
            config_files=_files("OS_CLIENT_CONFIG_FILE", loader.CONFIG_FILES),
            secure_files=_files("OS_CLIENT_SECURE_FILE", loader.SECURE_FILES),
        )
        more: dict[str, Any] = {"region_name": cloud.region} if cloud.region else {}
        return Connection(config=config.get_one(cloud.cloud, api_timeout=TIMEOUT_S, **more))


def _files(variable: str, usual: list[str]) -> list[str]:
    return [os.environ[variable], *usual] if os.environ.get(variable) else usual


def swift_connection(connection: Connection, project_id: str) -> Any:
    """A connection to the Swift account of any project, as the operator: that takes Swift's reseller admin role.

    :raises OperatorError: when there is no Swift, or it cannot be asked
    """
    with sentences("Swift"):
        own = connection.object_store.get_endpoint()
        if not own:
            raise OperatorError("the catalogue has no object store", "take object-store out of clouds.openstack.services")
        base, _, account = own.rstrip("/").rpartition("/")
        own_id = connection.current_project_id or ""
        prefix = account.removesuffix(own_id) if own_id and account.endswith(own_id) else "AUTH_"
        verify, cacert = connection.config.get_requests_verify_args()[0], connection.config.config.get("cacert")
        return swiftclient.Connection(
            preauthurl=f"{base}/{prefix}{project_id}",
            preauthtoken=connection.session.get_token(),
            retries=1,
            timeout=TIMEOUT_S,
            insecure=verify is False,
            cacert=cacert,
        )


def kubernetes_client(site: Site) -> kubernetes.client.ApiClient:
    """A client as the operator whom the site file names.

    :raises OperatorError: when the site has no OpenShift, or the kubeconfig no such context
    """
    cloud = site.clouds.openshift
    if cloud is None:
        raise OperatorError(f"the site {site.name} has no OpenShift", "name one in clouds.openshift")
    file = str(Path(cloud.kubeconfig).expanduser()) if cloud.kubeconfig else os.environ.get("KUBECONFIG")
    with sentences("clouds.openshift.context"):
        made: kubernetes.client.ApiClient = new_client_from_config(config_file=file, context=cloud.context)  # type: ignore[no-untyped-call]
        return made
