"""What the program asks the clouds for, against clouds that refuse what they do not know."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pulumi
import pytest
import yaml
from fakes.clouds import OUTPUTS, MockClouds, NotKnownToTheMock

from infra import inventory_export
from infra.keys import derived
from infra.object_store import in_slot, signing_slot
from infra.providers import refuse_ambient_credentials
from infra.roster import InUse, Mark
from infra.spec import load
from infra.spec.checks import resources
from infra.spec.containers import TempUrl
from infra.spec.openstack import ComputeQuota, LoadBalancerQuota, NetworkQuota, VolumeQuota

ROOT = Path(__file__).resolve().parents[3]
SITES = sorted(path.parent.name for path in (ROOT / "inventories").glob("*/site.yml"))
SEED = "a seed for tests"


@pytest.fixture
def small(deployed, read, document):
    """Deploy the small site, after a change of its document."""

    def deploy(change=None, **kwargs) -> MockClouds:
        if change:
            change(document)
        return deployed(read(document)[0], **kwargs)

    return deploy


@pytest.mark.parametrize("name", SITES)
def test_every_site_of_this_repository_deploys(deployed, name):
    pulumi.runtime.set_all_config({"pfmoc:pluginsRegistry": json.dumps({"auths": {}})})
    site, _ = load(ROOT / "inventories" / name / "site.yml")
    clouds = deployed(site)
    assert len(clouds.of("Project")) == len([tenant for tenant in site.tenants if tenant.openstack])
    assert len(clouds.of("Namespace")) == len([tenant for tenant in site.tenants if tenant.openshift])
    assert len(clouds.of("Container")) == sum(len(tenant.containers) for tenant in site.tenants)
    for made in clouds.made:
        # The kit's own provider is told with each resource which cluster is meant.
        own = made.type.startswith("pulumi:providers:") or "context" in made.inputs
        assert made.provider or own, f"{made.type} {made.name} has no provider of ours"


def test_a_resource_that_is_not_known_is_refused(small, monkeypatch):
    monkeypatch.delitem(OUTPUTS, "openstack:identity/project:Project")

    def like_no_other(document):
        document["description"] = "not deployed before"

    with pytest.raises(NotKnownToTheMock, match="identity/project:Project"):
        small(like_no_other)


def test_all_names_that_are_made_of_two_are_known_to_the_check(deployed, read, document):
    """What the check on names does not know could be one resource to the engine."""
    tenant = document["tenants"][0]
    tenant["openstack"] |= {"security_groups": [{"name": "web", "rules": [{"group": "web"}]}]}
    tenant["users"][0]["openstack_roles"] = ["member", "reader"]
    tenant["openshift"] |= {
        "role_bindings": [{"role": "view", "groups": ["auditors"]}],
        "scc": [{"name": "nonroot-v2", "service_accounts": ["robot"]}],
        "image_pull_secrets": [{"name": "quay", "config_key": "quay"}],
    }
    pulumi.runtime.set_all_config({"pfmoc:quay": json.dumps({"auths": {}})})
    site = read(document)[0]
    known = {(kind, "-".join(parts)) for kind, parts, _ in resources.named(site)}
    for kind, name in list(known):
        known |= {(other, name) for other in {"Network": ("Subnet", "RouterInterface")}.get(kind, ())}
    alone = {
        *(each.name for each in (*site.tenants, *site.node_pools)),
        "gpu-0",
        "gpu-1",
        "openstack",
        "openshift",
        "kube-system",
    }
    ends = ("-project", "-default", "-default-deny", "-allow-dns", "-allow-same-project", "-allow-from-router", "-allow-egress")
    for made in deployed(site).made:
        kind, name = made.type.rpartition(":")[2], made.name
        if (
            name in alone
            or name.startswith("pfmoc")
            or (kind in ("openstack", "SharedList", "NetworkPolicy") and name.endswith(ends))
        ):
            continue
        stem = name.rpartition("-")[0] if kind in ("SecGroupRule", "ApplicationCredential") else name
        assert ({"SecGroupRule": "SecGroup"}.get(kind, kind), stem) in known, f"{kind} {name}"


def test_a_project_and_its_people(small):
    clouds = small()
    assert clouds.one("Project", "chris") == {
        "name": "chris",
        "domainId": "default",
        "description": "",
        "enabled": True,
        "tags": ["managed-by=pfmoc", "pfmoc-site=small", "pfmoc-tenant=chris"],
    }
    assert {name: each.inputs["name"] for name, each in clouds.of("User").items()} == {
        "chris-ann": "ann",
        "chris-service": "chris-pfmoc",
        "other-service": "other-pfmoc",
    }
    assert clouds.one("GroupV3", "chris-member")["name"] == "chris-member"
    grant = {"groupId": "chris-member-id", "projectId": "chris-id", "roleId": "role:member"}
    assert clouds.one("RoleAssignment", "chris-member") == grant
    members = {name: each.inputs["userId"] for name, each in clouds.of("UserMembershipV3").items()}
    assert members == {"chris-member-ann": "chris-ann-id", "chris-member-bob": "user:bob", "other-member-eve": "user:eve"}


def test_what_is_inside_a_project_is_made_by_its_service_user(small):
    clouds = small()
    inside = clouds.one("openstack", "chris-project")
    assert inside["authUrl"] == "http://keystone.example.org/v3"
    assert (inside["tenantId"], inside["userName"], inside["userDomainId"]) == ("chris-id", "chris-pfmoc", "default")
    assert "cloud" not in inside
    for kind, name in (("ApplicationCredential", "chris-pfmoc-member-1"), ("Container", "chris-data"), ("Instance", "gpu-0")):
        assert "chris-project" in clouds.of(kind)[name].provider
    assert clouds.one("openstack", "openstack")["cloud"] == "small"


def test_a_federated_user_is_found_by_the_id_of_the_other_provider(small):
    def federate(document):
        document["clouds"]["openstack"]["federation"] = {"idp": "campus"}
        document["tenants"][0]["users"][1] = {"name": "bob@campus", "source": "federated"}

    assert small(federate).one("UserMembershipV3", "chris-member-bob@campus")["userId"] == "user:bob@campus"


@pytest.mark.parametrize(
    ("lookup", "expected"),
    [
        ("getUser", "the Keystone user 'bob' cannot be looked up: .*no results.*\\nKeystone has no user 'bob'"),
        ("getRole", "the Keystone role 'member' cannot be looked up: .*no results.*\\nthere is no Keystone role 'member'"),
        ("getNetwork", "the external network 'external' cannot be looked up: .*no results.*\\nthere is no external network"),
    ],
)
def test_what_is_not_there_is_named(small, monkeypatch, lookup, expected):
    answered = MockClouds.call

    def call(self, args):
        if args.token.endswith(lookup):
            return {}, [("", "your query returned no results")]
        return answered(self, args)

    def only_chris(document):
        document["description"] = f"without {lookup}"
        document["tenants"] = document["tenants"][:1]

    monkeypatch.setattr(MockClouds, "call", call)
    with pytest.raises(pulumi.RunError, match=expected):
        small(only_chris)


def test_every_field_of_every_quota_is_sent(small):
    clouds = small()
    for kind, quota in (
        ("QuotaSetV2", ComputeQuota),
        ("QuoteSetV3", VolumeQuota),
        ("QuotaV2", NetworkQuota),
        ("Quota", LoadBalancerQuota),
    ):
        inputs = clouds.one(kind, "chris")
        assert inputs.pop("projectId") == "chris-id"
        assert len(inputs) == len(quota.model_fields), f"{kind}: {sorted(inputs)}"
    assert clouds.one("QuotaSetV2", "chris")["ram"] == 51_200
    assert clouds.one("Quota", "chris")["member"] == 50


def test_quotas_are_set_for_services_that_are_there(small):
    def without(document):
        document["clouds"]["openstack"]["services"] = ["compute", "network", "object-store"]

    clouds = small(without)
    assert not clouds.of("Quota")
    assert not clouds.of("QuoteSetV3")


def test_networks(small):
    def more(document):
        document["tenants"][0]["openstack"] |= {
            "networks": [{"name": "default"}, {"name": "six", "cidr": "fd00::/64"}],
            "security_groups": [
                {"name": "web", "rules": [{"protocol": "tcp", "ports": [80, 80]}]},
                {"name": "db", "rules": [{"group": "web", "protocol": "tcp", "ports": [5432, 5432]}]},
            ],
        }

    clouds = small(more)
    assert clouds.one("Router", "chris")["externalNetworkId"] == "network:external"
    subnet = clouds.one("Subnet", "chris-six")
    assert (subnet["networkId"], subnet["cidr"], subnet["ipVersion"]) == ("chris-six-id", "fd00::/64", 6)
    assert clouds.one("RouterInterface", "chris-six") == {"routerId": "chris-id", "subnetId": "chris-six-id"}
    rule = clouds.one("SecGroupRule", "chris-db-0")
    assert (rule["remoteGroupId"], rule["portRangeMin"]) == ("chris-web-id", 5432)
    assert all(
        each.inputs["tenantId"] in ("chris-id", "other-id")
        for kind in ("Network", "Subnet", "Router", "SecGroup")
        for each in clouds.of(kind).values()
    )


def test_a_credential_that_is_counted_in_days_is_not_made_anew_each_day(small):
    credential = small().one("ApplicationCredential", "chris-pfmoc-member-1")
    assert credential == {
        "name": "pfmoc-member-1",
        "description": "pfmoc, for chris",
        "roles": ["member"],
        "expiresAt": "2026-12-21T00:00:00Z",
        "unrestricted": False,
    }


def test_a_credential_of_another_day_has_another_name(small):
    def dated(document):
        document["tenants"][0]["openstack"]["application_credential"] = {"expires_at": "2027-03-01", "generation": 2}

    credential = small(dated).one("ApplicationCredential", "chris-pfmoc-member-2-20270301")
    assert (credential["name"], credential["expiresAt"]) == ("pfmoc-member-2-20270301", "2027-03-01T00:00:00Z")


def test_containers(small):
    def more(document):
        document["tenants"][0]["openstack"]["quotas"] = {"object_bytes": "1 TiB"}
        document["tenants"][0]["containers"][0] |= {
            "quota_bytes": "1 GiB",
            "quota_objects": 10,
            "read": ["other:*", "other:eve", "*:bob", ".rlistings", "auditor"],
            "write": ["chris:ann"],
            "versioning": True,
            "expire_after_days": 7,
        }

    clouds = small(more)
    assert clouds.one("AccountV1", "chris") == {"projectId": "chris-id", "metadata": {"Quota-Bytes": str(1 << 40)}}
    container = clouds.one("Container", "chris-data")
    assert container["containerRead"] == "other-id:*,other-id:user:eve,*:user:bob,.rlistings,auditor"
    assert container["containerWrite"] == "chris-id:chris-ann-id"
    assert (container["storagePolicy"], container["versioning"], container["forceDestroy"]) == ("gold", True, False)
    assert container["metadata"] == {
        "Pfmoc-Tenant": "chris",
        "Pfmoc-Expire-After-Days": "7",
        "Quota-Bytes": str(1 << 30),
        "Quota-Count": "10",
        "Temp-Url-Key": derived(SEED, "tempurl\0chris\0data\x001"),
        "Temp-Url-Key-2": "",
    }


def test_what_a_container_no_longer_has_is_sent_empty(small):
    # Swift removes metadata that is sent empty; the provider removes none.
    def less(document):
        del document["tenants"][0]["containers"][0]["tempurl"]

    metadata = small(less).one("Container", "chris-data")["metadata"]
    assert {key for key, value in metadata.items() if value == ""} == {
        "Pfmoc-Expire-After-Days",
        "Quota-Bytes",
        "Quota-Count",
        "Temp-Url-Key",
        "Temp-Url-Key-2",
    }


def test_in_quarantine_no_signature_opens_anything(small):
    keys = {"Temp-Url-Key": "", "Temp-Url-Key-2": ""}
    closed = small(quarantined={"chris": Mark(since=date(2026, 11, 21), reason="asked")}).one("Container", "chris-data")[
        "metadata"
    ]
    assert keys.items() <= closed.items()
    assert small().one("Container", "chris-data")["metadata"]["Temp-Url-Key"] == derived(SEED, "tempurl\0chris\0data\x001")


@pytest.mark.parametrize(("generation", "slots", "signing"), [(1, (1, None), 0), (2, (1, 2), 1), (3, (3, 2), 0), (4, (3, 4), 1)])
def test_rotation_keeps_the_last_key(generation, slots, signing):
    tempurl = TempUrl(generation=generation)
    assert (in_slot(tempurl, 0), in_slot(tempurl, 1)) == slots
    assert signing_slot(tempurl) == signing


def test_keys_differ_by_purpose_and_seed():
    made = {derived(seed, label) for seed in ("a", "b") for label in ("x", "x\0y", "xy")}
    assert len(made) == 6
    assert all(len(key) == 43 for key in made)


def test_a_project_on_openshift(small):
    def more(document):
        document["tenants"][0]["description"] = "Images"
        document["tenants"][0]["openshift"] |= {
            "role_bindings": [
                {"role": "view", "groups": ["auditors"]},
                {"role": "admin", "users": ["ann", "zoe"], "service_accounts": ["robot"]},
            ],
            "scc": [{"name": "nonroot-v2", "service_accounts": ["robot"]}],
        }

    clouds = small(more)
    metadata = clouds.one("Namespace", "chris")["metadata"]
    assert metadata["name"] == "chris"
    assert metadata["labels"]["nerc.mghpcc.org/project"] == "true"
    assert metadata["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert metadata["annotations"]["openshift.io/display-name"] == "Images"
    quota = clouds.one("ResourceQuota", "chris")
    assert (quota["metadata"]["name"], quota["metadata"]["namespace"]) == ("chris-project", "chris")
    assert quota["spec"]["hard"] == {
        "limits.cpu": "16",
        "limits.memory": "65536Mi",
        "limits.ephemeral-storage": "20Gi",
        "requests.storage": "20Gi",
        "persistentvolumeclaims": "2",
        "requests.nvidia.com/gpu": "2",
    }
    limits = clouds.one("LimitRange", "chris")
    assert limits["metadata"]["name"] == "chris-limits"
    assert limits["spec"]["limits"][0]["default"] == {"cpu": "1000m", "memory": "4096Mi", "nvidia.com/gpu": "0"}
    bindings = {name: each.inputs for name, each in clouds.of("RoleBinding").items()}
    assert [subject["name"] for subject in bindings["chris-admin"]["subjects"]] == ["ann", "zoe", "robot"]
    assert bindings["chris-admin"]["subjects"][2] == {"kind": "ServiceAccount", "name": "robot", "namespace": "chris"}
    assert [subject["name"] for subject in bindings["chris-edit"]["subjects"]] == ["bob"]
    assert bindings["chris-scc-nonroot-v2"]["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": "scc-nonroot-v2",
    }


def test_all_is_denied_but_what_is_said(small):
    def more(document):
        document["clouds"]["openshift"]["egress"] = [{"cidr": "10.89.0.1/32", "ports": [6443]}]
        document["tenants"][0]["openshift"]["network_policy"] = {"same_project": False}

    policies = {name: each.inputs["spec"] for name, each in small(more).of("NetworkPolicy").items() if name.startswith("chris-")}
    assert policies.keys() == {"chris-default-deny", "chris-allow-dns", "chris-allow-from-router", "chris-allow-egress"}
    # What is not said is not ours to server-side apply, and would stay as somebody opened it.
    nobody = [{"ipBlock": {"cidr": "255.255.255.255/32"}}]
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": nobody}], "egress": [{"to": nobody}]}
    assert policies["chris-default-deny"] == deny
    assert policies["chris-allow-egress"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "10.89.0.1/32"}}], "ports": [{"port": 6443, "protocol": "TCP"}]}
    ]
    dns = policies["chris-allow-dns"]["egress"][0]
    assert dns["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "openshift-dns"}
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP")}


def test_servers_of_a_pool(small):
    clouds = small()
    assert clouds.one("Flavor", "gpu")["isPublic"] is False
    assert clouds.one("FlavorAccess", "gpu") == {"flavorId": "gpu-id", "tenantId": "chris-id"}
    assert clouds.of("Instance").keys() == {"gpu-0", "gpu-1"}
    server = clouds.one("Instance", "gpu-0")
    assert (server["flavorId"], server["imageName"], server["powerState"]) == ("gpu-id", "linux", "active")
    assert server["networks"] == [{"uuid": "chris-default-id"}]
    assert server["schedulerHints"] == [{"group": "gpu-id"}]
    assert server["metadata"]["gpu_product"] == "Tesla-V100-PCIE-32GB"


def test_a_project_has_the_annotations_of_nerc_and_of_its_tenant(small):
    def numbered(document):
        document["tenants"][0]["openshift"]["annotations"] = {"cf_project_id": "101"}

    found = small(numbered).one("Namespace", "chris")["metadata"]["annotations"]
    wanted = {"cf_pi": "ann", "cf_project_id": "101", "openshift.io/display-name": "chris", "openshift.io/requester": "ann"}
    assert wanted.items() <= found.items()


def test_nodes_that_are_there_are_labelled_and_tainted(small):
    def gpu(document):
        document["node_pools"][1]["gpu"] = {"product": "NVIDIA-A100-SXM4-40GB", "count": 4}

    clouds = small(gpu)
    node = clouds.one("NodePatch", "big-node-1")
    assert node["metadata"]["labels"] == {
        "chrisproject.org/node-pool": "big",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
    }
    assert "spec" not in node, "the list of taints is not ours alone"
    taints = clouds.one("SharedList", "big-node-1-taints")
    assert (taints["path"], taints["field"], taints["key"]) == ("/api/v1/nodes/node-1", "spec.taints", "key,effect")
    assert taints["entries"] == [{"effect": "NoSchedule", "key": "nvidia.com/gpu.product", "value": "NVIDIA-A100-SXM4-40GB"}]


def test_machines_of_openshift(small):
    def machines(document):
        document["node_pools"][1] = {"name": "big", "source": "machineset", "size": 3, "flavor": "m1", "image": "rhcos"}

    machine_set = small(machines).one("MachineSet", "big")
    assert machine_set["metadata"]["name"] == "small-x1-big"
    assert machine_set["spec"]["replicas"] == 3
    assert machine_set["spec"]["template"]["spec"]["providerSpec"]["value"]["flavor"] == "m1"


def borrow(document):
    document["queueing"] = {
        "kueue": True,
        "priority_classes": [{"name": "batch", "value": 10}],
        "borrowing": [
            {"borrower": "other", "lender": "chris", "amount": {"cpu": 8, "gpus": {"Tesla-V100-PCIE-32GB": 1}}},
        ],
    }


def test_queues(small):
    clouds = small(borrow)
    assert clouds.one("PriorityClass", "batch")["preemptionPolicy"] == "Never"
    assert clouds.of("ResourceFlavor").keys() == {"resourceflavor-general", "resourceflavor-tesla-v100-pcie-32gb"}
    lender, borrower = (clouds.one("ClusterQueue", f"clusterqueue-{name}")["spec"] for name in ("chris", "other"))
    assert lender["cohort"] == borrower["cohort"] == "cohort-chris"
    cpu = {"name": "cpu", "nominalQuota": "16", "borrowingLimit": "0", "lendingLimit": "8"}
    assert lender["resourceGroups"][0]["flavors"][0]["resources"][0] == cpu
    gpu = {"name": "nvidia.com/gpu", "nominalQuota": "0", "borrowingLimit": "1", "lendingLimit": "0"}
    assert borrower["resourceGroups"][1]["flavors"] == [{"name": "tesla-v100-pcie-32gb", "resources": [gpu]}]
    assert clouds.one("LocalQueue", "localqueue-other")["metadata"]["namespace"] == "other"


def test_the_wall_around_a_project_leaves_room_for_what_it_borrows(small):
    hard = small(borrow).one("ResourceQuota", "other")["spec"]["hard"]
    assert (hard["limits.cpu"], hard["requests.nvidia.com/gpu"]) == ("12", "1")


def test_the_daemon_finds_what_it_needs(small):
    clouds = small()
    storage = clouds.one("Secret", "pfmoc-storage")["stringData"]
    assert storage["OS_APPLICATION_CREDENTIAL_ID"] == "chris-pfmoc-member-1-id"
    assert storage["OS_APPLICATION_CREDENTIAL_SECRET"] == "made by Keystone"
    assert storage["SWIFT_TEMPURL_KEY"] == clouds.one("Container", "chris-data")["metadata"]["Temp-Url-Key"]
    assert clouds.one("Route", "pfmoc")["spec"]["to"]["name"] == "pfmoc"
    assert clouds.one("ServiceAccount", "pfmoc")["metadata"]["namespace"] == "chris"
    assert not clouds.of("PersistentVolumeClaim")


@pytest.mark.parametrize("name", SITES)
def test_no_secret_is_sent_in_the_open(deployed, name):
    pulumi.runtime.set_all_config({"pfmoc:pluginsRegistry": json.dumps({"auths": {}})}, ["pfmoc:pluginsRegistry"])
    kinds = {"User": "password", "Secret": "stringData", "openstack": "password"}
    for made in deployed(load(ROOT / "inventories" / name / "site.yml")[0]).made:
        field = kinds.get(made.type.rpartition(":")[2])
        assert field not in made.inputs or field in made.secret, f"{made.type} {made.name}: {field}"
        if made.type.endswith(":Container") and made.inputs["metadata"]["Temp-Url-Key"]:
            assert "metadata" in made.secret


def test_the_daemon_has_a_volume_where_it_shares_one(small):
    def shared(document):
        document["daemon"] |= {"storage": "fslink", "volume_gib": 7}

    claim = small(shared).one("PersistentVolumeClaim", "pfmoc")
    assert claim["spec"]["resources"]["requests"] == {"storage": "7Gi"}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]

    def alone(document):
        shared(document)
        document["daemon"] |= {"volume_access": "ReadWriteOnce", "replicas": 1}

    assert small(alone).one("PersistentVolumeClaim", "pfmoc")["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_only_openstack(small):
    def only(document):
        del document["clouds"]["openshift"], document["node_pools"][1], document["daemon"]
        for tenant in document["tenants"]:
            del tenant["openshift"]

    assert not [made for made in small(only).made if "kubernetes" in made.type]


def test_only_openshift(small):
    def only(document):
        del document["clouds"]["openstack"], document["node_pools"][0], document["daemon"]
        for tenant in document["tenants"]:
            tenant.pop("containers", None)
            del tenant["openstack"]
        del document["tenants"][0]["openshift"]["quotas"]["gpus"]

    assert not [made for made in small(only).made if "openstack" in made.type]


def test_quarantine_takes_all_rights_and_keeps_all_data(small):
    before = small()
    mark = Mark(since=date(2026, 11, 21), reason="asked", in_use=InUse(compute={"instances": 2, "cores": 16}))
    after = small(quarantined={"chris": mark})
    assert "pfmoc-quarantined=2026-11-21" in after.one("Project", "chris")["tags"]
    assert after.one("User", "chris-ann")["enabled"] is False
    quota = {key: value for key, value in after.one("QuotaSetV2", "chris").items() if value}
    assert quota == {"projectId": "chris-id", "instances": 2, "cores": 16}
    for kind in ("QuoteSetV3", "QuotaV2", "Quota"):
        assert {value for key, value in after.one(kind, "chris").items() if key != "projectId"} == {0}
    assert set(after.one("ResourceQuota", "chris")["spec"]["hard"].values()) == {"0"}
    assert {server.inputs["powerState"] for server in after.of("Instance").values()} == {"shutoff"}
    gone = {(made.type, made.name) for made in before.made} - {(made.type, made.name) for made in after.made}
    assert {(kind.rpartition(":")[2], name) for kind, name in gone} == {
        ("ApplicationCredential", "chris-pfmoc-member-1"),
        ("RoleAssignment", "chris-member"),
        ("RoleBinding", "chris-admin"),
        ("RoleBinding", "chris-edit"),
        ("Secret", "pfmoc-storage"),
    }
    assert after.exported["tenants"]["chris"]["quarantined_since"] == "2026-11-21"


def test_what_ansible_learns(small, tmp_path):
    outputs = small().exported
    files = inventory_export.write(outputs, tmp_path / "made")
    assert [file.stat().st_mode & 0o777 for file in files] == [0o644, 0o600]
    inventory, secrets = (yaml.safe_load(file.read_text()) for file in files)
    pools = inventory["all"]["children"]["node_pool"]["children"]
    assert pools["pool_gpu"]["hosts"] == {"gpu-0": {"ansible_host": "192.168.0.10"}, "gpu-1": {"ansible_host": "192.168.0.10"}}
    assert pools["pool_big"]["hosts"] == {"node-1": {}}
    assert pools["pool_gpu"]["vars"]["node_pool_gpu"]["count"] == 1
    assert inventory["all"]["vars"]["pfmoc_namespace"] == "chris"
    assert secrets["all"]["vars"]["pfmoc_user_passwords"] == {"chris/ann": derived(SEED, "user\0chris\0ann")}
    plain = files[0].read_text()
    assert not [word for word in secrets["all"]["vars"]["pfmoc_secret_settings"].values() if len(word) > 40 and word in plain]


def test_what_was_changed_by_hand_is_taken_back(small):
    for made in small(borrow).made:
        if "metadata" in made.inputs and made.type.startswith("kubernetes:"):
            assert made.inputs["metadata"]["annotations"]["pulumi.com/patchForce"] == "true", made.name


def test_what_is_in_the_environment_does_not_decide():
    refuse_ambient_credentials({"OS_CLIENT_CONFIG_FILE": "/clouds.yaml", "PATH": "/bin", "OS_CLOUD": ""})
    with pytest.raises(pulumi.RunError, match=r"OS_CLOUD, OS_PASSWORD: .* run: env -u OS_CLOUD -u OS_PASSWORD pulumi"):
        refuse_ambient_credentials({"OS_PASSWORD": "x", "OS_CLOUD": "other"})
