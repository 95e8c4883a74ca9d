"""What a tenant can do to another one: nothing. Everything is tried for real, with the tenant's own credentials.

Those are its user in Keystone, its application credential, its user of the cluster and the daemon's service account.
A path that does not exist is refused too, so what can be read is read with the other's own credentials first.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import yaml
from harness.box import Box
from harness.neighbours import A, B
from harness.openshift import User
from harness.operators import Operator
from harness.tenants import connected, sdk_warnings
from keystoneauth1.exceptions import ClientException

pytest_plugins = ["harness.neighbours_fixtures"]
pytestmark = sdk_warnings

CLOSED = (401, 403, 404)
REFUSED = ("could not be found", "not allowed for current user")
"""What is said with status 400, in place of a plain refusal."""
SECRET = "f-secret"
TIMEOUT_S = 60

READS = {
    "compute": [
        "/servers/{server}",
        "/servers/{server}/os-interface",
        "/servers/{server}/os-volume_attachments",
        "/servers/{server}/metadata",
        "/servers/{server}/ips",
        "/os-simple-tenant-usage/{project}",
        "/os-quota-sets/{project}",
        "/flavors/{flavor}",
    ],
    "network": [
        "/v2.0/networks/{network}",
        "/v2.0/subnets/{subnet}",
        "/v2.0/routers/{router}",
        "/v2.0/ports/{port}",
        "/v2.0/security-groups/{security_group}",
        "/v2.0/quotas/{project}",
    ],
    "block-storage": ["/volumes/{volume}", "/volumes/{volume}/metadata"],
    "image": ["/v2/images/{image}", "/v2/images/{image}/file"],
    "identity": [
        "/users/{user}",
        "/users/{user}/projects",
        "/users/{user}/groups",
        "/users/{user}/application_credentials",
        "/users/{user}/credentials/OS-EC2",
    ],
    "object-store": ["{account}", "{account}/data", "{account}/data/theirs"],
}
"""What its owner may read."""

ACTS: dict[str, list[tuple[str, str, Any]]] = {
    "compute": [
        ("DELETE", "/servers/{server}", None),
        ("PUT", "/servers/{server}", {"server": {"name": "mine"}}),
        ("POST", "/servers/{server}/action", {"os-stop": None}),
        ("POST", "/servers/{server}/action", {"reboot": {"type": "HARD"}}),
        ("POST", "/servers/{server}/action", {"createImage": {"name": "mine"}}),
        ("POST", "/servers/{server}/action", {"os-getConsoleOutput": {}}),
        ("POST", "/servers/{server}/action", {"changePassword": {"adminPass": "mine"}}),
        ("POST", "/servers/{server}/os-interface", {"interfaceAttachment": {"net_id": "{own_network}"}}),
        ("POST", "/servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": "{volume}"}}),
        ("DELETE", "/servers/{server}/os-interface/{port}", None),
        ("PUT", "/os-quota-sets/{project}", {"quota_set": {"cores": 0}}),
        ("GET", "/os-hypervisors", None),
        ("POST", "/flavors", {"flavor": {"name": "mine", "vcpus": 64, "ram": 64, "disk": 1}}),
    ],
    "network": [
        ("DELETE", "/v2.0/networks/{network}", None),
        ("PUT", "/v2.0/networks/{network}", {"network": {"name": "mine"}}),
        ("POST", "/v2.0/ports", {"port": {"network_id": "{network}"}}),
        ("POST", "/v2.0/subnets", {"subnet": {"network_id": "{network}", "ip_version": 4, "cidr": "10.9.0.0/24"}}),
        ("PUT", "/v2.0/routers/{own_router}/add_router_interface", {"subnet_id": "{subnet}"}),
        ("PUT", "/v2.0/routers/{router}/remove_router_interface", {"subnet_id": "{subnet}"}),
        ("DELETE", "/v2.0/routers/{router}", None),
        ("DELETE", "/v2.0/ports/{port}", None),
        ("PUT", "/v2.0/ports/{port}", {"port": {"security_groups": []}}),
        (
            "POST",
            "/v2.0/security-group-rules",
            {"security_group_rule": {"security_group_id": "{security_group}", "direction": "ingress"}},
        ),
        ("DELETE", "/v2.0/security-groups/{security_group}", None),
        ("POST", "/v2.0/networks", {"network": {"name": "mine", "project_id": "{project}"}}),
        ("PUT", "/v2.0/quotas/{project}", {"quota": {"port": 0}}),
        ("PUT", "/v2.0/quotas/{own_project}", {"quota": {"port": 5000}}),
        (
            "POST",
            "/v2.0/rbac-policies",
            {
                "rbac_policy": {
                    "object_type": "network",
                    "object_id": "{network}",
                    "action": "access_as_shared",
                    "target_tenant": "{own_project}",
                }
            },
        ),
    ],
    "block-storage": [
        ("DELETE", "/volumes/{volume}", None),
        ("PUT", "/volumes/{volume}", {"volume": {"name": "mine"}}),
        ("POST", "/volumes/{volume}/action", {"os-extend": {"new_size": 2}}),
        ("POST", "/volumes/{volume}/action", {"os-force_delete": {}}),
        ("POST", "/snapshots", {"snapshot": {"volume_id": "{volume}", "name": "mine"}}),
        ("POST", "/volume-transfers", {"transfer": {"volume_id": "{volume}", "name": "mine"}}),
        ("POST", "/volumes", {"volume": {"size": 1, "source_volid": "{volume}"}}),
        ("PUT", "/os-quota-sets/{project}", {"quota_set": {"volumes": 0}}),
    ],
    "image": [
        ("DELETE", "/v2/images/{image}", None),
        ("PUT", "/v2/images/{image}/file", None),
        ("GET", "/v2/images/{image}/members", None),
        ("POST", "/v2/images/{image}/members", {"member": "{own_project}"}),
        ("POST", "/v2/images/{image}/actions/deactivate", None),
    ],
    "identity": [
        ("GET", "/users", None),
        ("GET", "/projects", None),
        ("GET", "/role_assignments", None),
        ("GET", "/projects/{project}", None),
        ("PATCH", "/projects/{project}", {"project": {"enabled": False}}),
        ("DELETE", "/projects/{project}", None),
        ("PATCH", "/users/{user}", {"user": {"password": "mine"}}),
        ("POST", "/users/{user}/password", {"user": {"password": "mine", "original_password": "guessed"}}),
        ("DELETE", "/users/{user}", None),
        ("POST", "/users", {"user": {"name": "f-mine"}}),
        ("POST", "/projects", {"project": {"name": "f-mine"}}),
        ("PUT", "/groups/{group}/users/{own_user}", None),
        ("PUT", "/projects/{project}/users/{own_user}/roles/{role}", None),
        ("DELETE", "/projects/{project}/groups/{group}/roles/{role}", None),
        ("POST", "/users/{user}/application_credentials", {"application_credential": {"name": "mine"}}),
        ("DELETE", "/users/{service_user}/application_credentials/{credential}", None),
        ("GET", "/users/{service_user}/application_credentials/{credential}", None),
        ("POST", "/users/{user}/credentials/OS-EC2", {"tenant_id": "{project}"}),
        ("POST", "/credentials", {"credential": {"type": "totp", "blob": "x", "user_id": "{user}"}}),
        ("DELETE", "/auth/tokens", None),
        ("GET", "/auth/tokens", None),
    ],
    "object-store": [
        ("POST", "{account}", None),
        ("PUT", "{account}/mine", None),
        ("DELETE", "{account}/data", None),
        ("POST", "{account}/data", None),
        ("PUT", "{account}/data/mine", None),
        ("POST", "{account}/data/theirs", None),
        ("DELETE", "{account}/data/theirs", None),
        ("COPY", "{account}/data/theirs", None),
        ("DELETE", "{account}", None),
    ],
}
"""What nobody but its owner or an administrator may do."""


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """What the other tenant has.

    :param ids: of all that is named in paths, `own_...` of the tenant that tries
    """

    cloud: Any
    ids: Mapping[str, str]
    token: str


@pytest.fixture(scope="module")
def outputs(neighbours: Operator) -> dict[str, Any]:
    return neighbours.outputs()


def _as_user(box: Box, outputs: Mapping[str, Any], tenant: str, user: str) -> Any:
    word = outputs["secrets"]["pfmoc_user_passwords"][f"{tenant}/{user}"]
    auth = {"username": user, "password": word, "project_name": tenant}
    return connected(box, auth=auth | {"user_domain_id": "default", "project_domain_id": "default"})


@pytest.fixture(scope="module")
def theirs(box: Box, neighbours: Operator, outputs: dict[str, Any]) -> Iterator[Theirs]:
    """A server, a volume, a private image, an object, a secret, networks: of the tenant that is tried at."""
    admin, core = neighbours.cloud, neighbours.cluster.core
    project, own = neighbours.project(B), neighbours.project(A)
    swift = neighbours.swift(B)
    with _as_user(box, outputs, B, "f-bob") as cloud:
        volume = cloud.block_storage.create_volume(name="theirs", size=1)
        cloud.block_storage.wait_for_status(volume, "available", interval=0.2, wait=TIMEOUT_S)
        image = cloud.image.create_image(
            name="theirs", data=b"theirs", disk_format="raw", container_format="bare", visibility="private", wait=True
        )
        swift.put_object("data", "theirs", contents=b"theirs")
        core.create_namespaced_secret(B, {"metadata": {"name": SECRET}, "stringData": {"word": "theirs"}})
        (server,) = cloud.compute.servers()
        (network,) = cloud.network.networks(project_id=project)
        service = admin.identity.find_user(f"{B}-pfmoc")
        (credential,) = admin.identity.application_credentials(service)
        ids = {
            "project": project,
            "account": swift.url,
            "server": server.id,
            "volume": volume.id,
            "image": image.id,
            "network": network.id,
            "subnet": network.subnet_ids[0],
            "router": next(cloud.network.routers(project_id=project)).id,
            "port": next(cloud.network.ports(device_id=server.id)).id,
            "security_group": next(cloud.network.security_groups(project_id=project)).id,
            "flavor": admin.compute.find_flavor("f-bpool", get_extra_specs=False).id,
            "user": admin.identity.find_user("f-bob").id,
            "service_user": service.id,
            "credential": credential.id,
            "group": admin.identity.find_group(f"{B}-member").id,
            "role": admin.identity.find_role("member").id,
            "own_project": own,
            "own_user": admin.identity.find_user("f-ann").id,
            "own_network": next(admin.network.networks(project_id=own)).id,
            "own_router": next(admin.network.routers(project_id=own)).id,
        }
        yield Theirs(cloud=cloud, ids=ids, token=cloud.auth_token)
        core.delete_namespaced_secret(SECRET, B)
        swift.delete_object("data", "theirs")
        cloud.image.delete_image(image)
        cloud.block_storage.delete_volume(volume)
        cloud.block_storage.wait_for_delete(volume, interval=0.2, wait=TIMEOUT_S)


@pytest.fixture(scope="module", params=["user", "application credential"])
def mine(request: pytest.FixtureRequest, box: Box, outputs: dict[str, Any]) -> Iterator[Any]:
    """The tenant that tries, with either of its credentials."""
    if request.param == "user":
        with _as_user(box, outputs, A, "f-ann") as cloud:
            yield cloud
        return
    told = outputs["secrets"]["pfmoc_secret_settings"]
    auth = {
        "application_credential_id": told["OS_APPLICATION_CREDENTIAL_ID"],
        "application_credential_secret": told["OS_APPLICATION_CREDENTIAL_SECRET"],
    }
    with connected(box, auth_type="v3applicationcredential", auth=auth) as cloud:
        yield cloud


def filled(value: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(below, ids) for key, below in value.items()}
    return value.format_map(ids) if isinstance(value, str) else value


def ask(cloud: Any, service: str, method: str, path: str, body: Any, theirs: Theirs) -> Any:
    """Ask a service; its answer, whatever it is."""
    headers = {"X-Subject-Token": theirs.token} if path == "/auth/tokens" else {}
    if service == "identity":
        path = f"/v3{path}" if not cloud.session.get_endpoint(service_type="identity").rstrip("/").endswith("/v3") else path
    if method == "COPY":
        headers["Destination-Account"] = f"AUTH_{theirs.ids['own_project']}"
        headers["Destination"] = "data/stolen"
    more: dict[str, Any] = {"json": filled(body, theirs.ids)} if body is not None else {}
    if path.endswith("/file") and method == "PUT":
        more, headers = {"data": b"mine"}, headers | {"Content-Type": "application/octet-stream"}
    place = {} if service == "object-store" else {"endpoint_filter": {"service_type": service, "interface": "public"}}
    return cloud.session.request(path.format_map(theirs.ids), method, headers=headers, raise_exc=False, **place, **more)


@pytest.mark.parametrize("service", READS)
def test_nothing_is_read_by_others(mine, theirs, service):
    for path in READS[service]:
        own = ask(theirs.cloud, service, "GET", path, None, theirs)
        assert own.status_code < 300, (path, own.status_code, own.text)
        told = ask(mine, service, "GET", path, None, theirs)
        assert told.status_code in CLOSED, (path, told.status_code, told.text)


@pytest.mark.parametrize("service", ACTS)
def test_nothing_is_done_by_others(mine, theirs, service):
    for method, path, body in ACTS[service]:
        told = ask(mine, service, method, path, body, theirs)
        closed = told.status_code in CLOSED or (told.status_code == 400 and any(word in told.text for word in REFUSED))
        assert closed, (method, path, body, told.status_code, told.text)


def test_nothing_is_deleted_in_bulk(mine, theirs):
    """Swift answers 200, and tells in the body what became of each."""
    headers = {"Content-Type": "text/plain", "Accept": "application/json"}
    url = f"{theirs.ids['account']}?bulk-delete"
    told = mine.session.request(url, "POST", headers=headers, data="/data/theirs\n", raise_exc=False).json()
    assert (told["Number Deleted"], [status for _, status in told["Errors"]]) in (
        (0, ["401 Unauthorized"]),
        (0, ["403 Forbidden"]),
    )


def test_nothing_of_others_is_listed(mine, theirs):
    listed = {
        "server": mine.compute.servers(),
        "volume": mine.block_storage.volumes(),
        "image": mine.image.images(),
        "network": mine.network.networks(),
        "subnet": mine.network.subnets(),
        "router": mine.network.routers(),
        "port": mine.network.ports(),
        "security_group": mine.network.security_groups(),
        "flavor": mine.compute.flavors(),
    }
    for what, found in listed.items():
        ids = {each.id for each in found}
        assert theirs.ids[what] not in ids, what
        seen = {each.id for each in getattr(theirs.cloud, _SERVICE[what]).__getattribute__(f"{what}s")()}
        assert theirs.ids[what] in seen, what


_SERVICE = {
    **dict.fromkeys(("server", "flavor"), "compute"),
    **dict.fromkeys(("network", "subnet", "router", "port", "security_group"), "network"),
    "volume": "block_storage",
    "image": "image",
}


def test_no_server_starts_on_the_network_of_others(mine, theirs):
    image = next(mine.image.images(name="box-x86_64")).id
    flavor = next(mine.compute.flavors()).id
    for network in ({"uuid": theirs.ids["network"]}, {"port": theirs.ids["port"]}):
        server = {"name": "mine", "imageRef": image, "flavorRef": flavor, "networks": [network]}
        told = ask(mine, "compute", "POST", "/servers", {"server": server}, theirs)
        assert told.status_code in (400, 403, 404), told.text
    assert list(mine.compute.servers()) == []


def test_a_token_of_one_project_is_not_had_for_another(box, outputs, theirs):
    word = outputs["secrets"]["pfmoc_user_passwords"][f"{A}/f-ann"]
    told = outputs["secrets"]["pfmoc_secret_settings"]
    user = {"username": "f-ann", "password": word, "user_domain_id": "default", "project_id": theirs.ids["project"]}
    other = {
        "application_credential_id": theirs.ids["credential"],
        "application_credential_secret": told["OS_APPLICATION_CREDENTIAL_SECRET"],
    }
    for more in ({"auth": user}, {"auth": user | {"username": "f-bob"}}, {"auth_type": "v3applicationcredential", "auth": other}):
        with connected(box, **more) as cloud, pytest.raises(ClientException) as caught:
            cloud.session.get_token()
        assert caught.value.http_status == 401


def test_a_signature_opens_only_ones_own(box, neighbours, outputs, theirs):
    key = outputs["secrets"]["pfmoc_secret_settings"]["SWIFT_TEMPURL_KEY"]
    other = neighbours.swift(B).head_container("data")["x-container-meta-temp-url-key"]
    base, path = f"http://127.0.0.1:{box.port(6)}", f"/v1/AUTH_{theirs.ids['project']}/data/theirs"
    for method in ("GET", "PUT", "DELETE"):
        until = int(time.time()) + 600

        def signed(word: str, method: str = method, until: int = until) -> int:
            mac = hmac.new(word.encode(), f"{method}\n{until}\n{path}".encode(), "sha256").hexdigest()
            url = f"{base}{path}?temp_url_sig={mac}&temp_url_expires={until}"
            return requests.request(method, url, timeout=TIMEOUT_S).status_code

        assert signed(key) == 401
        if method == "GET":
            assert signed(other) == 200


def test_the_others_have_all_they_had(neighbours, theirs):
    """After all that was tried."""
    cloud, ids = theirs.cloud, theirs.ids
    assert cloud.compute.get_server(ids["server"]).status == "ACTIVE"
    assert cloud.block_storage.get_volume(ids["volume"]).size == 1
    assert cloud.image.download_image(ids["image"]).content == b"theirs"
    swift = neighbours.swift(B)
    assert swift.get_object("data", "theirs")[1] == b"theirs"
    assert [each["name"] for each in swift.get_account()[1]] == ["data", "more"]
    assert [each.name for each in neighbours.swift(A).get_container("data")[1]] == []
    assert [each.id for each in cloud.network.networks(project_id=ids["project"])] == [ids["network"]]


# OpenShift


@pytest.fixture(scope="module", params=["user", "service account"])
def person(request: pytest.FixtureRequest, box: Box, neighbours: Operator, tmp_path_factory: Any) -> Iterator[User]:
    """The tenant in the cluster: its user, and the daemon's service account."""
    if request.param == "user":
        kubeconfig = box.directory / "users" / "f-ann.kubeconfig"
        made = box.make("box-user", U="f-ann")
        assert made.returncode == 0, made.stderr
    else:
        request_body = {"spec": {"expirationSeconds": 3600}}
        token = neighbours.cluster.core.create_namespaced_service_account_token("pfmoc", A, request_body).status.token
        document = yaml.safe_load(box.kubeconfig.read_text())
        document["users"][0]["user"] = {"token": token}
        kubeconfig = tmp_path_factory.mktemp("person") / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(document))
        kubeconfig.chmod(0o600)
    user = User(kubeconfig)
    yield user
    user.close()
    kubeconfig.unlink()


def answer(person: User, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
    """What the API server answers."""
    who = person.api.configuration
    token = who.auth_settings().get("BearerToken", {}).get("value")
    return requests.request(
        method,
        f"{who.host}{path}",
        json=body,
        headers={"Accept": "application/json", **({"Authorization": token} if token else {}), **headers},
        verify=who.ssl_ca_cert,
        cert=(who.cert_file, who.key_file) if who.cert_file else None,
        timeout=TIMEOUT_S,
    )


def call(person: User, method: str, path: str, body: Any = None, **headers: str) -> int:
    """The status of an answer of the API server."""
    return answer(person, method, path, body, **headers).status_code


def kinds(admin: User) -> Iterator[tuple[str, str, str, list[str]]]:
    """All kinds that live in projects: path of their API, plural, kind, verbs."""
    groups = answer(admin, "GET", "/apis").json()["groups"]
    for version in ["api/v1", *(f"apis/{group['preferredVersion']['groupVersion']}" for group in groups)]:
        for each in answer(admin, "GET", f"/{version}").json()["resources"]:
            # The webhook of a build takes no credentials but the secret in its path.
            if each["namespaced"] and not each["name"].endswith("/webhooks"):
                yield version, each["name"], each["kind"], each["verbs"]


def test_nothing_in_the_project_of_others(person, neighbours):
    """Every verb on every kind that the cluster has; what would change something is asked as a dry run."""
    tried = 0
    for version, plural, kind, verbs in kinds(neighbours.cluster):
        name, _, sub = plural.partition("/")
        base = f"/{version}/namespaces/{B}/{name}"
        single = f"{base}/{SECRET}{f'/{sub}' if sub else ''}"
        group = version.partition("/")[2]
        body = {"apiVersion": group if "/" in group else "v1", "kind": kind, "metadata": {"name": SECRET}}
        asked = {
            "list": ("GET", base, None),
            "get": ("GET", single, None),
            "create": ("POST", f"{single if sub else base}?dryRun=All", body),
            "delete": ("DELETE", f"{single}?dryRun=All", None),
            "deletecollection": ("DELETE", f"{base}?dryRun=All", None),
            "update": ("PUT", f"{single}?dryRun=All", body),
        }
        for verb in asked.keys() & set(verbs):
            assert call(person, *asked[verb]) == 403, (verb, plural)
            tried += 1
    assert tried > 150


CLUSTER = [
    ("GET", "/api/v1/nodes", None),
    ("GET", "/api/v1/nodes/box-0", None),
    ("GET", "/api/v1/nodes/box-0/proxy/pods", None),
    ("PATCH", "/api/v1/nodes/box-0?dryRun=All", {"spec": {"unschedulable": True}}),
    ("GET", "/api/v1/namespaces", None),
    ("GET", f"/api/v1/namespaces/{B}", None),
    ("DELETE", f"/api/v1/namespaces/{B}?dryRun=All", None),
    (
        "PATCH",
        f"/api/v1/namespaces/{A}?dryRun=All",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
    ),
    ("GET", f"/apis/project.openshift.io/v1/projects/{B}", None),
    ("DELETE", f"/apis/project.openshift.io/v1/projects/{B}?dryRun=All", None),
    ("GET", "/api/v1/secrets", None),
    ("GET", "/api/v1/pods", None),
    ("GET", "/api/v1/namespaces/kube-system/secrets", None),
    ("GET", "/api/v1/persistentvolumes", None),
    ("POST", f"/api/v1/namespaces/{B}/serviceaccounts/default/token", {"spec": {}}),
    ("POST", f"/api/v1/namespaces/{B}/pods/any/exec?command=id", None),
    ("GET", "/apis/security.openshift.io/v1/securitycontextconstraints", None),
    ("POST", "/apis/security.openshift.io/v1/securitycontextconstraints?dryRun=All", {"metadata": {"name": "mine"}}),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings?dryRun=All", {"metadata": {"name": "mine"}}),
    ("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{A}/rolebindings?dryRun=All", {"metadata": {"name": "mine"}}),
    ("PATCH", f"/api/v1/namespaces/{A}/resourcequotas/{A}-project?dryRun=All", {"spec": {"hard": {"limits.cpu": "999"}}}),
    ("DELETE", f"/apis/networking.k8s.io/v1/namespaces/{A}/networkpolicies/x?dryRun=All", None),
    ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests?dryRun=All", {"metadata": {"name": "mine"}}),
]


def test_nothing_of_the_cluster(person):
    for method, path, body in CLUSTER:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        if "networkpolicies" in path and person.may("delete", "networking.k8s.io", "networkpolicies", namespace=A):
            continue  # OpenShift's role `edit` has it for one's own project
        assert call(person, method, path, body, **headers) == 403, (method, path)


@pytest.mark.parametrize(
    "whom",
    [
        {"Impersonate-User": "f-bob"},
        {"Impersonate-User": "kubernetes-admin"},
        {"Impersonate-User": "f-ann", "Impersonate-Group": "system:masters"},
        {"Impersonate-User": f"system:serviceaccount:{B}:default"},
    ],
)
def test_nobody_else_is_played(person, whom):
    assert call(person, "GET", f"/api/v1/namespaces/{B}/secrets/{SECRET}", None, **whom) == 403


def test_no_constraint_but_the_usual_one(person, neighbours, theirs):
    for constraint in ("privileged", "anyuid", "hostaccess"):
        for namespace in (A, B):
            assert not person.may(
                "use", "security.openshift.io", "securitycontextconstraints", name=constraint, namespace=namespace
            )
    assert person.projects() <= {A}
    own = [{"name": "x", "image": "localhost/none:1", "securityContext": {"privileged": True}}]
    pod = {"metadata": {"name": "mine"}, "spec": {"containers": own}}
    path = f"/api/v1/namespaces/{A}/pods?dryRun=All"
    assert call(person, "POST", path, pod) == 403
    host = {"containers": [{"name": "x", "image": "localhost/none:1"}], "volumes": [{"name": "h", "hostPath": {"path": "/"}}]}
    assert call(person, "POST", path, {"metadata": {"name": "mine"}, "spec": host}) == 403
    words = neighbours.cluster.core.read_namespaced_secret(SECRET, B).data
    assert words, f"the secret of {theirs.ids['project']} is there"


def test_it_can_do_its_own(person):
    """So that what is refused above is not refused to everybody."""
    made = {"metadata": {"name": "mine"}, "data": {"a": "b"}}
    assert call(person, "POST", f"/api/v1/namespaces/{A}/configmaps?dryRun=All", made) == 201
    assert call(person, "GET", f"/api/v1/namespaces/{A}/pods") == 200
