"""What the daemon finds when it is installed: rights, secrets, a volume, a route.

Not managed here: the daemon itself, its Deployment and Service, which Ansible installs, upgrades and rolls back; its container
and application credential, which are its tenant's.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from infra.keys import Keys
from infra.object_store import signing_slot
from infra.objects import metadata
from infra.openshift_project import OpenShiftProject
from infra.providers import Clouds, OpenShift
from infra.spec import Site
from infra.spec.containers import Container
from infra.tenant import Tenant

NAME = "pfmoc"
USER = "pfcon"


@dataclass(frozen=True, kw_only=True)
class DaemonArgs:
    """What the daemon's tenant has: None where it has nothing on that cloud."""

    site: Site
    clouds: Clouds
    tenant: Tenant | None
    project: OpenShiftProject | None
    keys: Keys


class DaemonPrerequisites(pulumi.ComponentResource):
    """ServiceAccount, Role, Secrets, PersistentVolumeClaim, Route."""

    settings: dict[str, pulumi.Input[str]]
    """Secret settings of the daemon, by the names that it reads them under."""
    storage: dict[str, pulumi.Input[str]]
    """What it signs in to Swift with, by the names that it reads them under; empty without Swift."""

    def __init__(self, name: str, args: DaemonArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:DaemonPrerequisites", name, None, opts)
        daemon = args.site.daemon
        self.settings = {
            "PFCON_USER": USER,
            "PFCON_PASSWORD": args.keys.derive("daemon", "password"),
            "SECRET_KEY": args.keys.derive("daemon", "secret-key"),
        }
        self.storage = _storage(args)
        self.route_host: str | None = None
        if daemon.in_cluster and args.project and args.clouds.openshift:
            self._in_cluster(args, args.project, args.clouds.openshift)
        self.register_outputs({"routeHost": self.route_host})

    def _in_cluster(self, args: DaemonArgs, project: OpenShiftProject, cloud: OpenShift) -> None:
        daemon, core, rbac = args.site.daemon, kubernetes.core.v1, kubernetes.rbac.v1
        child = pulumi.ResourceOptions(parent=self, provider=cloud.provider)
        labels = {**project.own_labels, "app.kubernetes.io/name": NAME}

        def meta(name: str = NAME, **annotations: str) -> kubernetes.meta.v1.ObjectMetaArgs:
            return metadata(name, namespace=project.name, labels=labels, annotations=annotations)

        core.ServiceAccount(NAME, metadata=meta(), opts=child)
        rbac.Role(NAME, metadata=meta(), rules=_rules(), opts=child)
        rbac.RoleBinding(
            NAME,
            metadata=meta(),
            role_ref=rbac.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=NAME),
            subjects=[rbac.SubjectArgs(kind="ServiceAccount", name=NAME, namespace=project.name)],
            opts=child,
        )
        core.Secret(f"{NAME}-settings", metadata=meta(f"{NAME}-settings"), string_data=self.settings, opts=child)
        if self.storage:
            core.Secret(f"{NAME}-storage", metadata=meta(f"{NAME}-storage"), string_data=self.storage, opts=child)
        if daemon.on_volume and daemon.volume_gib:
            core.PersistentVolumeClaim(
                NAME,
                # A class may bind the volume only when a pod wants it, and Pulumi would wait for that.
                metadata=meta(**{"pulumi.com/skipAwait": "true"}),
                spec=core.PersistentVolumeClaimSpecArgs(
                    access_modes=[daemon.volume_access],
                    storage_class_name=daemon.storage_class,
                    resources=core.VolumeResourceRequirementsArgs(requests={"storage": f"{daemon.volume_gib}Gi"}),
                ),
                opts=child,
            )
        domain = cloud.spec.routes_domain
        self.route_host = daemon.route_host or (f"{NAME}-{project.namespace}.{domain}" if domain else None)
        kubernetes.apiextensions.CustomResource(
            NAME,
            api_version="route.openshift.io/v1",
            kind="Route",
            metadata=meta(),
            spec={
                **({"host": self.route_host} if self.route_host else {}),
                "to": {"kind": "Service", "name": NAME, "weight": 100},
                "port": {"targetPort": "http"},
                "tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"},
                "wildcardPolicy": "None",
            },
            opts=child,
        )


def _storage(args: DaemonArgs) -> dict[str, pulumi.Input[str]]:
    container = _container(args)
    if not container or not args.tenant or not args.tenant.credential or not args.clouds.openstack:
        return {}
    credential, entry = args.tenant.credential, args.clouds.openstack.entry
    found: dict[str, pulumi.Input[str]] = {
        "OS_AUTH_URL": entry.auth_url,
        "OS_AUTH_TYPE": "v3applicationcredential",
        "OS_APPLICATION_CREDENTIAL_ID": credential.id,
        "OS_APPLICATION_CREDENTIAL_SECRET": pulumi.Output.secret(credential.secret),
        "SWIFT_CONTAINER_NAME": container.name,
    }
    if entry.region:
        found["OS_REGION_NAME"] = entry.region
    if container.tempurl:
        generation = container.tempurl.generation
        found["SWIFT_TEMPURL_KEY"] = args.keys.derive("tempurl", args.tenant.spec.name, container.name, generation)
        found["SWIFT_TEMPURL_SLOT"] = str(signing_slot(container.tempurl) + 1)
    return found


def _container(args: DaemonArgs) -> Container | None:
    daemon = args.site.daemon
    if not daemon.in_swift or daemon.tenant is None:
        return None
    containers = args.site.tenant(daemon.tenant).containers
    return next((each for each in containers if daemon.container in (None, each.name)), None)


def _rules() -> list[kubernetes.rbac.v1.PolicyRuleArgs]:
    """What the daemon may do in its project: run jobs, follow them, read their logs, keep what they need."""
    rules: list[tuple[list[str], list[str], list[str]]] = [
        ([""], ["configmaps"], ["create", "delete", "get", "list", "patch", "update", "watch"]),
        # OpenShift asks for `delete`, too, of whoever gives a Secret or a ConfigMap to its owner.
        ([""], ["secrets"], ["create", "delete", "list", "patch"]),
        ([""], ["pods"], ["delete", "list", "watch"]),
        ([""], ["pods/log"], ["get"]),
        ([""], ["events"], ["list", "watch"]),
        ([""], ["namespaces"], ["get"]),  # its own: which user ids pods may have there
        (["batch"], ["jobs"], ["create", "delete", "get", "list", "patch", "watch"]),
    ]
    return [
        kubernetes.rbac.v1.PolicyRuleArgs(api_groups=groups, resources=resources, verbs=verbs)
        for groups, resources, verbs in rules
    ]
