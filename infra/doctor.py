"""What must be so before a site can be deployed: looked at one by one, each with what to do when it is not so.

Nothing is changed. Whether a right is there is asked without using it: Kubernetes says so, and Keystone is asked for a project
below one that does not exist, which it refuses in any case, and differently to those who may not make one.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import kubernetes
import swiftclient
from pulumi.automation import LocalWorkspace
from pulumi.automation.errors import CommandError

from infra.clients import TIMEOUT_S, kubernetes_client, openstack_connection, sentences, swift_connection
from infra.engine import Engine, Installation, cache
from infra.failures import OperatorError, first_sentence
from infra.sites import ROOT
from infra.spec import Site
from infra.stack import WORK, Place

NOBODY = "0" * 32
"""An id that no project has."""
PLUGINS = {"kubernetes": "pulumi-kubernetes", "openstack": "pulumi-openstack"}
"""Provider plugins, and the Python packages that they go with."""
SERVER_ERROR = 500
QUOTAS = {"compute": "quotas of Nova", "block-storage": "quotas of Cinder", "network": "quotas of Neutron"}
RBAC, KUEUE = "rbac.authorization.k8s.io", "kueue.x-k8s.io"
Right = tuple[str, str, str]
"""API group, resource, verb."""
RIGHTS: tuple[Right, ...] = (
    ("", "namespaces", "create"),
    ("", "resourcequotas", "create"),
    ("", "limitranges", "create"),
    ("", "secrets", "create"),
    ("", "serviceaccounts", "patch"),
    (RBAC, "roles", "create"),
    (RBAC, "rolebindings", "create"),
    ("networking.k8s.io", "networkpolicies", "create"),
    ("scheduling.k8s.io", "priorityclasses", "create"),
)
"""What the operator has to be allowed in any cluster."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    :param subject: what
    :param good: whether it is as it must be; None when it cannot be told, or is not needed
    :param says: what was found
    :param fix: what to do; empty when nothing is to be done
    """

    subject: str
    good: bool | None
    says: str
    fix: str = ""

    def document(self) -> dict[str, Any]:
        """The check for programs."""
        return {"subject": self.subject, "good": self.good, "says": self.says, "fix": self.fix}


def examine(site: Site, environ: Mapping[str, str]) -> Iterator[Check]:
    """Look at everything, as it goes."""
    yield from _guarded("engine", lambda: engine(site, environ))
    if site.clouds.openstack:
        yield from _guarded("OpenStack", lambda: openstack(site))
    if site.clouds.openshift:
        yield from _guarded("OpenShift", lambda: openshift(site))


def _guarded(subject: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Make a check of what goes wrong in a look."""
    try:
        with sentences():
            yield from look()
    except OperatorError as error:
        yield Check(subject=subject, good=False, says=error.cause, fix=error.fix)


def engine(site: Site, environ: Mapping[str, str]) -> Iterator[Check]:
    """The engine, its plugins, the state, the passphrase."""
    installation = Installation.found(environ, cache() / "toolchain")
    place = Place.of(site, environ, cache() / "pulumi")
    tool = Engine(installation, {**place.environment})
    said = tool.execute(["version"], cwd=str(ROOT)).stdout.strip().removeprefix("v")
    yield compatible("engine", said, version("pulumi"), f"{installation.program}")
    listed = tool.execute(["plugin", "ls"], cwd=str(ROOT)).stdout
    yield from plugins(listed, site)
    yield passphrase(place, site)
    yield state(place, site, tool)


def state(place: Place, site: Site, tool: Engine) -> Check:
    """Look for the site's state; one that is no directory only the engine can look into."""
    there = place.has(site.name)
    if there is None:
        try:
            listed = LocalWorkspace(work_dir=str(WORK), pulumi_command=tool).list_stacks()
        except CommandError as error:
            fix = "check $PULUMI_BACKEND_URL or state.url of the site file, and the variables that sign in there"
            return Check(subject="state", good=False, says=f"{place.backend}: {first_sentence(str(error))}", fix=fix)
        there = site.name in {each.name for each in listed}
    says, fix = ("there", "") if there else ("not made yet", f"python -m infra up {site.name}")
    return Check(subject="state", good=True, says=f"{place.backend}: {says}", fix=fix)


def compatible(subject: str, has: str, wants: str, where: str) -> Check:
    """Compare the version of a program with that of the Python package that speaks to it."""
    good = has.partition("+")[0].partition("-")[0] == wants
    fix = "" if good else f"install version {wants}: make box builds it, and pyproject.toml pins it"
    return Check(subject=subject, good=good, says=f"{has} ({where})", fix=fix)


def plugins(listed: str, site: Site) -> Iterator[Check]:
    """Find the provider plugins in the engine's list."""
    rows = [line.split() for line in listed.splitlines()]
    there = {row[0]: row[2].removeprefix("v") for row in rows if len(row) > 2 and row[1] == "resource"}
    needed = {"openstack": site.clouds.openstack, "kubernetes": site.clouds.openshift}
    for name, package in PLUGINS.items():
        if not needed[name]:
            continue
        if name in there:
            yield compatible(f"plugin {name}", there[name], version(package), "installed")
        else:
            fix = f"pulumi plugin install resource {name} {version(package)}, or for the toolchain's engine: make box"
            yield Check(subject=f"plugin {name}", good=False, says="not installed", fix=fix)


def passphrase(place: Place, site: Site) -> Check:
    """Look at the file that the state's secrets rest on."""
    file = place.passphrase
    if file is None:
        return Check(subject="passphrase", good=True, says="from the environment")
    if not file.exists():
        missing = bool(place.has(site.name))
        fix = f"put the passphrase of the stack into {file}" if missing else ""
        return Check(subject="passphrase", good=not missing, says=f"{file}: not there", fix=fix)
    mode = stat.S_IMODE(file.stat().st_mode)
    good = not mode & 0o077
    return Check(subject="passphrase", good=good, says=f"{file}: mode {mode:04o}", fix="" if good else f"chmod 600 {file}")


def openstack(site: Site) -> Iterator[Check]:
    """Credentials, endpoints, rights, policies of storage."""
    cloud = site.clouds.openstack
    if cloud is None:
        return
    connection: Any = openstack_connection(site)
    with sentences("credentials"):
        access = connection.session.auth.get_access(connection.session)
    roles = ", ".join(sorted(access.role_names)) or "none"
    says = f"{access.username} in {access.project_name or 'no project'}; roles {roles}"
    fix = "" if access.project_id else "give the entry in clouds.yaml a project_name"
    yield Check(subject="credentials of OpenStack", good=bool(access.project_id), says=says, fix=fix)
    yield from _each([("make projects", _projects), ("external network", _external)], site, connection)
    for service in cloud.services:
        yield from _guarded(service, partial(_service, service, connection))
    for kind, subject in QUOTAS.items():
        if kind in cloud.services:
            yield from _guarded(subject, partial(_quotas, kind, subject, connection))
    if "object-store" in cloud.services:
        yield from _each([("accounts of Swift", _accounts), ("storage policies", _policies)], site, connection)


Look = Callable[[Site, Any], Iterable[Check]]


def _each(looks: Iterable[tuple[str, Look]], site: Site, connection: Any) -> Iterator[Check]:
    for subject, look in looks:
        yield from _guarded(subject, partial(look, site, connection))


def _projects(site: Site, connection: Any) -> Iterator[Check]:
    """Ask for a project below one that is not there."""
    domain = site.clouds.openstack.domain if site.clouds.openstack else "default"
    project = {"name": "pfmoc-doctor", "domain_id": domain, "parent_id": NOBODY, "enabled": False}
    answer = connection.identity.post("/projects", json={"project": project})
    yield may_make_projects(answer.status_code)


def may_make_projects(status: int) -> Check:
    """What Keystone's answer to a request that it cannot grant says of the right to make one."""
    subject = "right to make projects"
    if status in (400, 404):
        return Check(subject=subject, good=True, says="there")
    if status in (401, 403):
        fix = "the entry in clouds.yaml must be of an administrator of the cloud or of the domain"
        return Check(subject=subject, good=False, says="Keystone refuses it", fix=fix)
    return Check(subject=subject, good=None, says=f"Keystone answered {status}, which tells nothing")


def _external(site: Site, connection: Any) -> Iterator[Check]:
    name = site.clouds.openstack.external_network if site.clouds.openstack else None
    if name is None:
        return
    there = [network.name for network in connection.network.networks(**{"router:external": True})]
    fix = "" if name in there else f"set clouds.openstack.external_network to one of: {', '.join(there) or 'none is there'}"
    yield Check(subject="external network", good=name in there, says=f"{name}: {'there' if not fix else 'not there'}", fix=fix)


def _service(service: str, connection: Any) -> Iterator[Check]:
    place = {
        "service_type": service,
        "interface": connection.config.get_interface(service) or "public",
        "region_name": connection.config.get_region_name(service),
    }
    url = connection.session.get_endpoint(**place)
    if not url:
        fix = f"take {service} out of clouds.openstack.services, or have the cloud's catalogue name it"
        yield Check(subject=service, good=False, says="not in the catalogue", fix=fix)
        return
    # The look at the versions swallows what goes wrong, so that an endpoint at which nothing listens would be well.
    answer = connection.session.get(url, raise_exc=False)
    if answer.status_code >= SERVER_ERROR:
        fix = "look at the service and at what stands before it; for the box: make box-status"
        yield Check(subject=service, good=False, says=f"{url} answered {answer.status_code}", fix=fix)
        return
    data = connection.session.get_endpoint_data(**place, discover_versions=True)
    microversion = ".".join(map(str, data.max_microversion)) if data and data.max_microversion else ""
    yield Check(subject=service, good=True, says=f"{url}{f' (up to {microversion})' if microversion else ''}")


def _quotas(service: str, subject: str, connection: Any) -> Iterator[Check]:
    project = connection.current_project_id
    paths = {
        "compute": (connection.compute, f"/os-quota-sets/{project}/detail"),
        "block-storage": (connection.block_storage, f"/os-quota-sets/{project}?usage=True"),
        "network": (connection.network, f"/quotas/{project}/details.json"),
    }
    proxy, path = paths[service]
    answer = proxy.get(path)
    good = answer.status_code < 300
    fix = "" if good else "the entry in clouds.yaml must be of an administrator of the cloud"
    yield Check(subject=subject, good=good, says="can be read" if good else f"answered {answer.status_code}", fix=fix)


def _accounts(_site: Site, connection: Any) -> Iterator[Check]:
    """Look into the account of a project that is not the operator's own: one that is not there will do."""
    try:
        swift_connection(connection, NOBODY).head_account()
    except swiftclient.ClientException as error:
        yield may_see_accounts(error.http_status)
    else:
        yield may_see_accounts(204)


def may_see_accounts(status: int) -> Check:
    """What Swift's answer says of the right to see and change the accounts of others."""
    subject = "accounts of Swift"
    if status in (200, 204, 404):
        return Check(subject=subject, good=True, says="those of other projects can be seen")
    if status in (401, 403):
        fix = "give the operator Swift's reseller admin role; needed for quantities in use, drift, and object_bytes"
        return Check(subject=subject, good=False, says="those of other projects are closed", fix=fix)
    return Check(subject=subject, good=None, says=f"Swift answered {status}, which tells nothing")


def _policies(site: Site, connection: Any) -> Iterator[Check]:
    answer = swift_connection(connection, NOBODY).get_capabilities()
    yield policies_agree(site, [str(policy["name"]) for policy in answer["swift"].get("policies", ()) if policy.get("name")])


def policies_agree(site: Site, there: list[str]) -> Check:
    """Compare the storage policies that the site file names with those of Swift."""
    subject, cloud = "storage policies", site.clouds.openstack
    named = list((cloud and cloud.storage_policies) or ())
    named += [each.storage_policy for tenant in site.tenants for each in tenant.containers if each.storage_policy]
    missing = sorted(set(named) - set(there))
    says = f"Swift has {', '.join(there) or 'none'}"
    if missing:
        fix = f"set clouds.openstack.storage_policies to [{', '.join(there)}], and each container's storage_policy to one of them"
        return Check(subject=subject, good=False, says=f"{says}; not {', '.join(missing)}", fix=fix)
    return Check(subject=subject, good=True, says=says)


def openshift(site: Site) -> Iterator[Check]:
    """Credentials, version, rights."""
    client = kubernetes_client(site)
    told = kubernetes.client.VersionApi(client).get_code(_request_timeout=TIMEOUT_S)
    groups = {group.name for group in kubernetes.client.ApisApi(client).get_api_versions(_request_timeout=TIMEOUT_S).groups}
    yield Check(subject="credentials of OpenShift", good=True, says=f"{client.configuration.host}: Kubernetes {told.git_version}")
    yield from apis_are_there(site, groups)
    yield from _rights(client, rights(site))


def apis_are_there(site: Site, groups: set[str]) -> Iterator[Check]:
    """Compare the APIs that the site needs with those that the cluster has."""
    needed = {"project.openshift.io": "it is no OpenShift: projects are plain namespaces there"}
    if site.daemon.in_cluster:
        needed["route.openshift.io"] = "the daemon's Route needs OpenShift's router"
    if site.queueing.kueue:
        needed[KUEUE] = "install Kueue, or set queueing.kueue to false"
    if any(pool.source == "machineset" for pool in site.node_pools):
        needed["machine.openshift.io"] = "pools of MachineSets need OpenShift's Machine API; use another source"
    for group, fix in needed.items():
        there = group in groups
        yield Check(subject=f"API {group}", good=there, says="there" if there else "not there", fix="" if there else fix)


def rights(site: Site) -> tuple[Right, ...]:
    """What the operator has to be allowed in the site's cluster."""
    sources = {pool.source for pool in site.node_pools}
    needed = list(RIGHTS)
    if "existing" in sources:
        needed.append(("", "nodes", "patch"))
    if "machineset" in sources:
        needed.append(("machine.openshift.io", "machinesets", "create"))
    if site.daemon.in_cluster:
        needed += [("", "serviceaccounts", "create"), ("route.openshift.io", "routes", "create")]
        if site.daemon.volume_gib:
            needed.append(("", "persistentvolumeclaims", "create"))
    if site.queueing.kueue:
        kinds = ("clusterqueues", "localqueues", "resourceflavors", "workloadpriorityclasses")
        needed += [(KUEUE, kind, "create") for kind in kinds]
    return tuple(needed)


def _rights(client: kubernetes.client.ApiClient, needed: Iterable[Right]) -> Iterator[Check]:
    reviews = kubernetes.client.AuthorizationV1Api(client)
    refused = []
    for group, resource, verb in needed:
        asked = {"spec": {"resourceAttributes": {"group": group, "resource": resource, "verb": verb}}}
        answer = reviews.create_self_subject_access_review(asked, _request_timeout=TIMEOUT_S)  # type: ignore[arg-type]
        if not (answer.status and answer.status.allowed):
            refused.append(f"{verb} {resource}")
    fix = "use a context of a cluster administrator" if refused else ""
    yield Check(
        subject="rights in OpenShift", good=not refused, says=f"may not {', '.join(refused)}" if refused else "all there", fix=fix
    )
