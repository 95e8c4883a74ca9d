"""The life of a tenant on both clouds: its term ends, it is closed and opened again, it leaves, it is deleted, it is adopted, its
state is lost.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import swiftclient
import yaml
from harness.box import Box
from harness.cluster import BUSYBOX, claim
from harness.openshift import User
from harness.operators import OPENSHIFT, OPENSTACK, Operator, operating
from harness.tenants import connected, sdk_warnings
from harness.waiting import until
from keystoneauth1.exceptions import ClientException as KeystoneError
from openstack.exceptions import SDKException

pytest_plugins = ["harness.openshift_fixtures"]
pytestmark = sdk_warnings

TENANT, STAYS = "el-leaves", "el-stays"
TODAY = datetime.now(UTC).date()


def tenant(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "pi": "pi@example.org",
        "users": [{"name": f"{name}-user", "source": "local", "openshift_role": "admin"}],
        "openstack": {"quotas": {"object_bytes": "2 GiB"}, "application_credential": {"valid_days": 30}},
        "containers": [
            {"name": "data", "quota_bytes": "1 GiB", "read": [f"{STAYS if name == TENANT else TENANT}:*"], "tempurl": {}}
        ],
        "openshift": {"quotas": {"limits_cpu": 4}},
    }


def site_file(**changes: Any) -> dict[str, Any]:
    """A site with a tenant that leaves, and one that stays."""
    pool = {
        "name": "el-pool",
        "source": "nova",
        "size": 1,
        "tenant": TENANT,
        "image": "box-x86_64",
        "shape": {"vcpus": 2, "ram_mib": 1024, "disk_gib": 1},
    }
    return {
        "name": "box-life",
        "clouds": {"openstack": dict(OPENSTACK), "openshift": dict(OPENSHIFT)},
        "tenants": [tenant(TENANT) | changes, tenant(STAYS)],
        "node_pools": [pool],
    }


@pytest.fixture(scope="module")
def operator(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operating(box, tmp_path_factory.mktemp("life"), site_file()) as operator:
        yield operator


THEIR_CORES = 1
"""Of the box's flavor cpu-su.1, which every project may use."""
PODS = {"web": 2, "old": 1, "every": 1}


def pods_of(app: str) -> dict[str, Any]:
    """What a workload makes its pods of."""
    container = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sleep", "100000"],
        "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}, "requests": {"cpu": "1m", "memory": "16Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsUser": 1000, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": security, "terminationGracePeriodSeconds": 0}
    return {"metadata": {"labels": {"app": app}}, "spec": spec}


class Life:
    """What of the tenant can be seen from outside.

    :param words: the user's password
    """

    def __init__(self, operator: Operator, admin: User, box: Box) -> None:
        self.operator, self.admin, self.box = operator, admin, box
        self.project = operator.project(TENANT)
        self.password = operator.outputs()["secrets"]["pfmoc_user_passwords"][f"{TENANT}/{TENANT}-user"]
        swift = operator.swift(TENANT)
        swift.put_object("data", "precious", contents=b"x" * 1000)
        deployment = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": pods_of("web")}
        admin.apps.create_namespaced_deployment(TENANT, {"metadata": {"name": "web"}, "spec": deployment})
        controller = {"replicas": 1, "selector": {"app": "old"}, "template": pods_of("old")}
        admin.core.create_namespaced_replication_controller(TENANT, {"metadata": {"name": "old"}, "spec": controller})
        everywhere = {"selector": {"matchLabels": {"app": "every"}}, "template": pods_of("every")}
        admin.apps.create_namespaced_daemon_set(TENANT, {"metadata": {"name": "every"}, "spec": everywhere})
        admin.core.create_namespaced_persistent_volume_claim(TENANT, claim("theirs", "ReadWriteOnce"))
        until(lambda: self.pods == PODS, what="the pods", deadline_s=60)

    @property
    def pods(self) -> dict[str, int]:
        """Pods, by what makes them."""
        return Counter(each.metadata.labels["app"] for each in self.admin.core.list_namespaced_pod(TENANT).items)

    @contextmanager
    def server_of_their_own(self) -> Iterator[Any]:
        """A server that the user has made, beside those of the pool."""
        with connected(self.box, auth=self.auth) as cloud:
            flavor, image = cloud.compute.find_flavor("cpu-su.1"), cloud.image.find_image("box-x86_64")
            made = cloud.compute.create_server(name="theirs", flavor_id=flavor.id, image_id=image.id, networks="none")
            compute = self.operator.cloud.compute
            try:
                yield cloud.compute.wait_for_server(made, interval=0.2)
            finally:
                compute.delete_server(made)
                compute.wait_for_delete(made, interval=0.2)

    @property
    def auth(self) -> dict[str, str]:
        """What the user signs in to the project with."""
        user = {"username": f"{TENANT}-user", "password": self.password, "user_domain_id": "default"}
        return user | {"project_id": self.project}

    def signs_in(self) -> bool:
        """Whether the user gets a token of the project."""
        try:
            with connected(self.box, auth=self.auth) as cloud:
                return bool(cloud.auth_token)
        except (KeystoneError, SDKException):
            return False

    @property
    def server(self) -> Any:
        """The pool's server."""
        servers = self.operator.cloud.compute.servers(all_projects=True, project_id=self.project)
        (server,) = (each for each in servers if each.name == "el-pool-0")
        return server

    def credentials(self) -> int:
        """Application credentials of the service user."""
        service = self.operator.cloud.identity.find_user(f"{TENANT}-pfmoc")
        return len(list(self.operator.cloud.identity.application_credentials(service)))

    def state(self) -> dict[str, Any]:
        """All that a quarantine changes."""
        cloud, core = self.operator.cloud, self.admin.core
        nova = cloud.compute.get(f"/os-quota-sets/{self.project}").json()["quota_set"]
        neutron = cloud.network.get(f"/quotas/{self.project}").json()["quota"]
        swift = self.operator.swift(TENANT)
        container = swift.head_container("data")
        return {
            "signs in": self.signs_in(),
            "credentials": self.credentials(),
            "server": self.server.status,
            "cores": nova["cores"],
            "networks": neutron["network"],
            "bytes": swift.head_account()["x-account-meta-quota-bytes"],
            "shared": bool(container.get("x-container-read")),
            "signed": bool(container.get("x-container-meta-temp-url-key")),
            "cpu": core.read_namespaced_resource_quota(f"{TENANT}-project", TENANT).spec.hard["limits.cpu"],
            "bound": "admin" in {each.metadata.name for each in self.admin.rbac.list_namespaced_role_binding(TENANT).items},
            "replicas": self.admin.apps.read_namespaced_deployment("web", TENANT).spec.replicas,
            "enabled": cloud.identity.get_project(self.project).is_enabled,
        }

    def keeps_its_data(self) -> None:
        """Nothing of it is lost, and it is the same project."""
        assert self.operator.project(TENANT) == self.project
        assert self.operator.swift(TENANT).get_object("data", "precious")[1] == b"x" * 1000
        assert self.admin.core.read_namespaced_persistent_volume_claim("theirs", TENANT)


OPEN = {
    "signs in": True,
    "credentials": 1,
    "server": "ACTIVE",
    "cores": 20,
    "networks": 10,
    "bytes": str(2 * 2**30),
    "shared": True,
    "signed": True,
    "cpu": "4",
    "bound": True,
    "replicas": 2,
    "enabled": True,
}
CLOSED = OPEN | {
    "signs in": False,
    "credentials": 0,
    "server": "SHUTOFF",
    # What the server and the network use, and no more.
    "cores": 2,
    "networks": 1,
    "bytes": "1",
    "shared": False,
    "signed": False,
    "cpu": "0",
    "bound": False,
    "replicas": 0,
}


@pytest.fixture(scope="module")
def life(operator: Operator, admin: User, box: Box) -> Life:
    return Life(operator, admin, box)


def test_what_is_refused_or_only_looked_at_marks_nobody(operator, life):
    operator.write(site_file(expires_at=TODAY - timedelta(days=3)))
    assert operator.run("expire", "--quarantine")[0] == 1, "nobody is there to be asked"
    assert operator.run("quarantine", TENANT)[0] == 1
    gone = site_file()
    gone["tenants"], gone["node_pools"] = gone["tenants"][1:], []
    gone["tenants"][0]["containers"][0]["read"] = []
    operator.write(gone)
    assert operator.run("preview")[0] == 0
    assert json.loads(operator.run("quarantine", "--json")[1]) == {"quarantined": []}
    operator.write(site_file())
    assert "0 changes made" in operator.up()
    assert life.state() == OPEN


def test_a_tenant_past_its_term_is_listed_closed_and_opened_again(operator, life):
    compute = operator.cloud.compute
    with life.server_of_their_own() as theirs:
        assert life.state() == OPEN
        operator.write(site_file(expires_at=TODAY - timedelta(days=3)))
        code, out, _ = operator.run("expire", "--json")
        assert code == 2, "somebody is past the term, and open"
        (term,) = json.loads(out)["terms"]
        assert (term["tenant"], term["days"], term["quarantined"]) == (TENANT, -3, None)
        code, out, err = operator.run("expire", "--quarantine", "--yes")
        assert code == 0, out + err
        for what in ("deployment {}/web", "replication controller {}/old", "daemon set {}/every"):
            assert f"{what.format(TENANT)} is scaled to zero" in err
        assert f"server theirs ({theirs.id}) is shut off" in err
        assert life.state() == CLOSED | {"cores": 2 + THEIR_CORES}
        until(lambda: compute.get_server(theirs.id).status == "SHUTOFF", what="their own server is off", deadline_s=60)
        until(lambda: not life.pods, what="the end of the pods", deadline_s=60)
        life.keeps_its_data()
        code, out, _ = operator.run("expire", "--json")
        assert code == 0, "nobody is past the term and open"
        operator.require_in_step()

        operator.write(site_file())
        code, out, err = operator.run("quarantine", TENANT, "--release", "--yes")
        assert code == 0, out + err
        assert f"deployment {TENANT}/web is as before its quarantine" in err
        assert life.state() == OPEN
        until(lambda: compute.get_server(theirs.id).status == "ACTIVE", what="their own server again", deadline_s=60)
        until(lambda: life.pods == PODS, what="the pods again", deadline_s=60)
        life.keeps_its_data()


def test_a_tenant_that_leaves_the_file_is_closed_and_not_deleted(operator, life):
    gone = site_file()
    gone["tenants"] = [each for each in gone["tenants"] if each["name"] != TENANT]
    gone["tenants"][0]["containers"][0]["read"] = []
    gone["node_pools"] = []
    operator.write(gone)
    code, out, err = operator.run("up", "--yes")
    assert code == 0, out + err
    assert f"{TENANT} is not in the site file any more: it goes into quarantine and keeps its data" in err
    assert life.state() == CLOSED
    life.keeps_its_data()
    (mark,) = json.loads(operator.run("quarantine", "--json")[1])["quarantined"]
    assert (mark["tenant"], mark["reason"], mark["in_file"]) == (TENANT, "removed", False)
    assert mark["until"] == (TODAY + timedelta(days=30)).isoformat()
    code, _, err = operator.run("purge", TENANT, "--yes")
    assert code == 2
    assert "its grace ends on" in err


def test_a_purge_lets_nothing_else_go(operator, life):
    """The tenant that stays loses a container that is not empty, by the file: the purge is refused, and nobody loses anything."""
    before = operator.file.read_text()
    site = yaml.safe_load(before)
    site["tenants"][0]["containers"] = []
    operator.swift(STAYS).put_object("data", "theirs", contents=b"x" * 1000)
    head = operator.swift(STAYS).head_container
    until(lambda: head("data")["x-container-object-count"] == "1", what="the object is counted")
    operator.write(site)
    code, _, err = operator.run("purge", TENANT, "--now", "--yes")
    assert code == 2, err
    assert f"container/{STAYS}/data would be deleted with 1 objects" in err
    assert operator.swift(STAYS).get_object("data", "theirs")[1] == b"x" * 1000
    operator.file.write_text(before)
    operator.swift(STAYS).delete_object("data", "theirs")
    assert life.state() == CLOSED
    life.keeps_its_data()


def test_a_purge_deletes_it_with_its_data_and_nothing_else(operator, life, admin):
    code, out, err = operator.run("purge", TENANT, "--now", "--yes")
    assert code == 0, out + err
    cloud = operator.cloud
    assert cloud.identity.find_project(TENANT) is None
    assert cloud.identity.find_user(f"{TENANT}-user") is None
    assert cloud.identity.find_user(f"{TENANT}-pfmoc") is None
    assert not list(cloud.compute.servers(all_projects=True, project_id=life.project))
    assert not list(cloud.network.networks(project_id=life.project))
    assert cloud.compute.find_flavor("el-pool") is None
    with pytest.raises(swiftclient.ClientException) as gone:
        operator_swift(operator, life.project).head_container("data")
    assert gone.value.http_status == 404
    admin.wait_until_gone(admin.core.list_namespace, TENANT)
    assert operator.project(STAYS)
    assert admin.core.read_namespace(STAYS)
    operator.require_in_step()


def operator_swift(operator: Operator, project: str) -> Any:
    """The account of a project that is no more."""
    base = operator.cloud.object_store.get_endpoint().rpartition("/")[0]
    return swiftclient.Connection(preauthurl=f"{base}/AUTH_{project}", preauthtoken=operator.cloud.session.get_token())


ADOPTED = "el-adopted"


@pytest.fixture
def by_hand(operator: Operator, admin: User) -> dict[str, str]:
    """A project on each cloud that somebody has made, with what is in it: kind and id."""
    cloud = operator.cloud
    project = cloud.identity.create_project(name=ADOPTED, domain_id="default", description="made by hand")
    network = cloud.network.create_network(name="default", project_id=project.id)
    subnet = cloud.network.create_subnet(
        name="default", project_id=project.id, network_id=network.id, ip_version=4, cidr="192.168.0.0/24"
    )
    router = cloud.network.create_router(
        name=ADOPTED,
        project_id=project.id,
        external_gateway_info={"network_id": cloud.network.find_network("external").id},
    )
    port = cloud.network.add_interface_to_router(router, subnet=subnet.id)["port_id"]
    operator.swift(ADOPTED).put_container("data")
    operator.swift(ADOPTED).put_object("data", "precious", contents=b"x" * 1000)
    admin.core.create_namespace({"metadata": {"name": ADOPTED, "labels": {"example.org/theirs": "stays"}}})
    admin.core.create_namespaced_resource_quota(
        ADOPTED, {"metadata": {"name": f"{ADOPTED}-project"}, "spec": {"hard": {"limits.cpu": "4"}}}
    )
    return {
        "Project": project.id,
        "Network": network.id,
        "Subnet": subnet.id,
        "Router": router.id,
        "RouterInterface": port,
        "Container": "data",
        "Namespace": ADOPTED,
        "ResourceQuota": f"{ADOPTED}/{ADOPTED}-project",
    }


def test_what_somebody_has_made_is_adopted_and_not_made_anew(operator, admin, by_hand, box, tmp_path):
    site = site_file() | {"name": "box-adopt", "node_pools": [], "tenants": [tenant(ADOPTED)]}
    site["tenants"][0]["containers"][0]["read"] = []
    uid = admin.core.read_namespace(ADOPTED).metadata.uid
    with operating(box, tmp_path, site, up=False) as adopting:
        code, out, err = adopting.run("up", "--yes")
        assert code == 2, "a namespace that is there is not taken silently"
        assert "adopt" in err
        code, out, err = adopting.run("adopt", ADOPTED, "--json")
        assert code == 0, out + err
        imports = {each["type"].rpartition(":")[2]: each["id"] for each in json.loads(out)["imports"]}
        assert by_hand.items() <= imports.items()
        code, out, err = adopting.run("adopt", ADOPTED, "--yes")
        assert code == 0, out + err
        found = adopting.cloud.identity.get_project(by_hand["Project"])
        assert found.description == "made by hand", "nothing of it is changed by the import"
        adopting.up("--allow", f"tenant/{ADOPTED}")
        assert "0 changes made" in adopting.up()
        assert adopting.project(ADOPTED) == by_hand["Project"]
        assert [each.id for each in adopting.cloud.network.networks(project_id=by_hand["Project"])] == [by_hand["Network"]]
        assert adopting.swift(ADOPTED).get_object("data", "precious")[1] == b"x" * 1000
        namespace = admin.core.read_namespace(ADOPTED).metadata
        assert namespace.uid == uid
        assert namespace.labels["example.org/theirs"] == "stays"
        assert namespace.labels["nerc.mghpcc.org/project"] == "true"
        adopting.swift(ADOPTED).delete_object("data", "precious")


LOST = "el-lost"


def test_a_site_whose_state_and_seed_are_lost_is_adopted(box, tmp_path):
    site = site_file() | {"name": "box-lost", "node_pools": [], "tenants": [tenant(LOST)]}
    site["tenants"][0]["containers"][0]["read"] = []
    with operating(box, tmp_path, site) as operator:
        project, state = operator.project(LOST), operator.directory / "state"
        operator.swift(LOST).put_object("data", "precious", contents=b"x" * 1000)
        seed = yaml.safe_load(operator.settings.read_text())["config"]["pfmoc:seed"]
        shutil.rmtree(state)
        code, out, err = operator.run("adopt", LOST, "--json")
        assert code == 0, err
        assert {"Project", "User", "Container", "Namespace"} <= {
            each["type"].rpartition(":")[2] for each in json.loads(out)["imports"]
        }
        assert not state.exists(), "what only lists makes no state"
        operator.run("preview")
        assert yaml.safe_load(operator.settings.read_text())["config"]["pfmoc:seed"] == seed, "another one is other passwords"
        shutil.rmtree(state)
        operator.settings.unlink()
        code, out, err = operator.run("adopt", LOST, "--yes")
        assert code == 0, out + err
        assert f"the service user of {LOST} has the password now that this stack gives it" in err
        assert "deleted its application credential pfmoc-member-1" in err
        operator.up("--allow", f"tenant/{LOST}")
        assert "0 changes made" in operator.up()
        assert operator.project(LOST) == project
        assert operator.swift(LOST).get_object("data", "precious")[1] == b"x" * 1000
        identity = operator.cloud.identity
        assert len(list(identity.application_credentials(identity.find_user(f"{LOST}-pfmoc")))) == 1
        # It goes with its object when all of it is given up by name, as it is below.
