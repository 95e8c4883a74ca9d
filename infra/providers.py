"""The providers, made from the site's clouds and from nothing else.

What is in the environment (``OS_CLOUD``, a default kubeconfig context) must not decide which cloud is changed. The OpenStack
provider takes ``OS_*`` where an argument is left out, and prefers ``OS_CLOUD`` to all arguments, so such variables are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_openstack as openstack

from infra.failures import explained
from infra.spec import clouds as spec

CLUSTER_NAMESPACE = "kube-system"
HARMLESS = frozenset({"OS_CLIENT_CONFIG_FILE", "OS_CLIENT_SECURE_FILE", "OS_DEBUG", "OS_MAX_RETRIES"})


def refuse_ambient_credentials(environ: Mapping[str, str]) -> None:
    """Refuse variables that would decide which cloud is changed, and as whom.

    :raises pulumi.RunError: naming them
    """
    found = sorted(name for name in environ if name.startswith("OS_") and name not in HARMLESS and environ[name])
    if found:
        unset = " ".join(f"-u {name}" for name in found)
        raise pulumi.RunError(
            f"{', '.join(found)}: the site file says which cloud is meant, and the OpenStack provider would follow the"
            f" environment; run: env {unset} pulumi ..."
        )


@dataclass(frozen=True, kw_only=True)
class CloudEntry:
    """What an entry of clouds.yaml says about how to reach a cloud; not who signs in."""

    auth_url: str
    region: str | None = None
    cacert: str | None = None
    insecure: bool = False
    interface: str = "public"

    @classmethod
    def read(cls, cloud: spec.OpenStackCloud) -> CloudEntry:
        """Read the entry that a site names.

        :raises pulumi.RunError: when it is not there or has no auth_url
        """
        from openstack.config import OpenStackConfig  # noqa: PLC0415 - half a second that sites without OpenStack need not wait
        from openstack.exceptions import ConfigException  # noqa: PLC0415 - the same

        try:
            entry = OpenStackConfig().get_one(cloud.cloud, validate=False)
        except ConfigException as error:
            cause = str(error).rstrip(".")
            raise pulumi.RunError(
                f"clouds.openstack.cloud: {cause}; add it to clouds.yaml (here, in ~/.config/openstack, /etc/openstack, or where"
                " $OS_CLIENT_CONFIG_FILE says)"
            ) from None
        url = entry.get_auth_args().get("auth_url")
        if not url:
            raise pulumi.RunError(
                f"clouds.openstack.cloud: the entry '{cloud.cloud}' of clouds.yaml has no auth.auth_url; set it"
            )
        verify, cacert = entry.get_requests_verify_args()[0], entry.config.get("cacert")
        return cls(
            auth_url=url,
            region=cloud.region or entry.get_region_name() or None,
            cacert=str(cacert) if cacert else None,
            insecure=verify is False,
            interface=entry.config.get("interface") or "public",
        )


@dataclass(frozen=True, eq=False)
class OpenStack:
    """The site's OpenStack.

    :param spec: what the site file says of it
    :param entry: how to reach it
    :param admin: the operator's provider
    """

    spec: spec.OpenStackCloud
    entry: CloudEntry
    admin: openstack.Provider
    _roles: dict[str, pulumi.Output[str]] = field(default_factory=dict)

    def inside(
        self,
        name: str,
        *,
        project_id: pulumi.Input[str],
        user: pulumi.Input[str],
        domain: str,
        password: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> openstack.Provider:
        """A provider that acts as a user inside a project: containers, servers and credentials are made where the token is."""
        return openstack.Provider(
            name,
            auth_url=self.entry.auth_url,
            region=self.entry.region,
            endpoint_type=self.entry.interface,
            cacert_file=self.entry.cacert,
            insecure=self.entry.insecure,
            tenant_id=project_id,
            user_name=user,
            user_domain_id=domain,
            password=password,
            opts=opts,
        )

    def role_id(self, name: str) -> pulumi.Output[str]:
        """The id of a Keystone role."""
        if name not in self._roles:
            self._roles[name] = self._id("Keystone role", name, "openstack:identity/getRole:getRole", {"name": name})
        return self._roles[name]

    def user_id(self, name: str, domain: str) -> pulumi.Output[str]:
        """The id of a user that Keystone has."""
        return self._id("Keystone user", name, "openstack:identity/getUser:getUser", {"name": name, "domainId": domain})

    def federated_user_id(self, unique_id: str, *, idp: str, protocol: str) -> pulumi.Output[str]:
        """The id of a user that Keystone knows by another provider's id."""
        wanted = {"uniqueId": unique_id, "idpId": idp, "protocolId": protocol}
        return self._id("federated user", unique_id, "openstack:identity/getUser:getUser", wanted)

    def external_network_id(self) -> pulumi.Output[str] | None:
        """The id of the external network; None where the site names none."""
        name = self.spec.external_network
        if name is None:
            return None
        wanted = {"name": name, "external": True}
        return self._id("external network", name, "openstack:networking/getNetwork:getNetwork", wanted)

    def _id(self, kind: str, name: str, function: str, wanted: Mapping[str, object]) -> pulumi.Output[str]:
        """Look something up. Of what is not there the provider says only that there are no results, so it is named here.

        Not by the package's ``get_..._output``: such an output ends the program with the provider's text before anybody can add
        to it.
        """

        async def found() -> str:
            try:
                answer = await pulumi.runtime.invoke_async(function, wanted, pulumi.InvokeOptions(provider=self.admin))
            except Exception as error:
                text = f"the {kind} '{name}' cannot be looked up: {error}"
                raise pulumi.RunError(f"{text}\n{explained(text)}") from error
            return str(answer["id"])

        return pulumi.Output.from_input(found())


@dataclass(frozen=True, eq=False)
class OpenShift:
    """The site's OpenShift.

    :param spec: what the site file says of it
    :param provider: the operator's provider
    """

    spec: spec.OpenShiftCloud
    provider: kubernetes.Provider

    def cluster_uid(self) -> pulumi.Output[str]:
        """What tells the cluster from all others: the uid of its namespace kube-system, which is looked up and never changed."""
        found = kubernetes.core.v1.Namespace.get(
            CLUSTER_NAMESPACE, CLUSTER_NAMESPACE, pulumi.ResourceOptions(provider=self.provider)
        )
        return found.metadata.apply(lambda metadata: str(metadata.uid))


class Clouds:
    """The clouds of a site, each with its provider; None where the site has none.

    :param clouds: what the site file says
    :param entry: how to reach OpenStack
    """

    def __init__(self, clouds: spec.Clouds, entry: CloudEntry | None) -> None:
        self.openstack = _openstack(clouds.openstack, entry) if clouds.openstack and entry else None
        self.openshift = _openshift(clouds.openshift) if clouds.openshift else None


def _openstack(cloud: spec.OpenStackCloud, entry: CloudEntry) -> OpenStack:
    admin = openstack.Provider("openstack", cloud=cloud.cloud, region=entry.region, endpoint_type=entry.interface)
    return OpenStack(cloud, entry, admin)


def _openshift(cloud: spec.OpenShiftCloud) -> OpenShift:
    file = str(Path(cloud.kubeconfig).expanduser()) if cloud.kubeconfig else None
    provider = kubernetes.Provider(
        "openshift",
        context=cloud.context,
        kubeconfig=file,
        enable_server_side_apply=True,
        # Else a changed Secret is deleted and made anew, and pods that start meanwhile find none.
        enable_secret_mutable=True,
    )
    return OpenShift(cloud, provider)


@cache
def tags(site: str, tenant: str) -> tuple[str, ...]:
    """Tags that tell whose a resource of OpenStack is, and what manages it."""
    return ("managed-by=pfmoc", f"pfmoc-site={site}", f"pfmoc-tenant={tenant}")
