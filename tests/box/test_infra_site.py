"""A site with both clouds: one file, one state, every field of it read back from the clouds themselves."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import pools, sites
from harness.box import Box
from harness.openshift import User
from harness.operators import Operator, operating
from harness.tenants import connected, sdk_warnings
from harness.waiting import until

from infra.spec import Site, load
from infra.spec.openstack import ComputeQuota, NetworkQuota, VolumeQuota
from infra.spec.tenant import Tenant

pytest_plugins = ["harness.openshift_fixtures"]
pytestmark = sdk_warnings

CHRIS, NEIGHBOUR, GUEST = "e-chris", "e-neighbour", "e-guest"
A100, V100 = "NVIDIA-A100-SXM4-40GB", "Tesla-V100-PCIE-32GB"
WORKERS = [{"name": "e-site", "count": 2, "cpu": 64, "memory": "256Gi"}]
MACHINES = "openshift-machine-api"
REGISTRY = json.dumps({"auths": {"registry.example.org": {"auth": base64.b64encode(b"robot:not a real one").decode()}}})


def site_file() -> dict[str, Any]:
    """The site `box`, and all that a site file can say beside what is there."""
    site = sites.inventory("box", "e")
    site["clouds"]["openshift"] |= {"machine_cluster": "e-box", "labels": {"nerc.mghpcc.org/allow-unencrypted-routes": "true"}}
    chris, neighbour = sites.tenant(site, CHRIS), sites.tenant(site, NEIGHBOUR)
    chris |= {"expires_at": date(2027, 6, 30), "labels": {"example.org/kind": "site"}}
    chris["users"].append({"name": GUEST, "openstack_roles": ["reader", "member"], "openshift_role": "view"})
    chris["openstack"] |= {
        "networks": [
            {"name": "default", "cidr": "192.168.20.0/24", "dns_nameservers": ["192.0.2.53"], "mtu": 1400},
            {"name": "second", "cidr": "192.168.21.0/24"},
        ],
        "security_groups": [
            {"name": "peers", "description": "One another"},
            {
                "name": "web",
                "description": "From anywhere",
                "rules": [
                    {"protocol": "tcp", "ports": [443, 443], "cidr": "0.0.0.0/0", "description": "https"},
                    {"protocol": "udp", "ports": [5000, 5010], "group": "peers"},
                    {"protocol": "icmp", "cidr": "198.51.100.0/24"},
                ],
            },
        ],
    }
    chris["openstack"]["quotas"] |= {
        "volume": {"volumes": 3, "gigabytes": 300, "per_volume_gigabytes": 100, "snapshots": 4, "backups": 5, "groups": 6},
        "network": {"networks": 4, "ports": 60, "floating_ips": 7, "security_groups": 8, "rbac_policies": 9},
    }
    chris["containers"].append(
        {
            "name": "shared",
            "quota_bytes": "1 GiB",
            "quota_objects": 50,
            "read": [f"{NEIGHBOUR}:*", ".rlistings"],
            "write": [f"{NEIGHBOUR}:{NEIGHBOUR}-user"],
            "versioning": True,
            "expire_after_days": 14,
            "tempurl": {"generation": 2},
        }
    )
    chris["openshift"] |= {
        "display_name": "ChRIS",
        "annotations": {"cf_project_id": "101"},
        "limits": {"default_cpu_m": 800, "default_memory_mib": 2048, "min_cpu_m": 2},
        "role_bindings": [{"role": "view", "groups": ["auditors"], "service_accounts": ["reporter"]}],
        "network_policy": {"from_router": False, "egress": [{"cidr": "203.0.113.0/24", "ports": [443, 8443]}]},
        "image_pull_secrets": [{"name": "plugins", "config_key": "registry"}],
        "scc": [{"name": "nonroot-v2", "service_accounts": ["plugins"]}],
    }
    chris["openshift"]["quotas"] |= {
        "requests_storage_gib": 30,
        "storage_class_gib": {"local-path": 10},
        "persistentvolumeclaims": 3,
        "pods": 40,
    }
    neighbour["openshift"] = {"pod_security": "baseline", "quotas": {"gpus": {V100: 2}}}
    site["node_pools"] += [
        {
            "name": "e-machines",
            "source": "machineset",
            "size": 2,
            "flavor": "gpu-su-v100.1",
            "image": "box-x86_64",
            "gpu": {"product": V100, "count": 1, "driver": "550"},
        },
        {
            "name": "e-nodes",
            "source": "existing",
            "size": 2,
            "nodes": ["e-site-0", "e-site-1"],
            "gpu": {"product": A100, "count": 4, "driver": "580"},
            "labels": {"example.org/rack": "r1"},
            "taints": [{"key": "example.org/reserved", "value": "chris", "effect": "PreferNoSchedule"}],
        },
    ]
    site["queueing"] |= {
        "kueue": True,
        "borrowing": [{"borrower": CHRIS, "lender": NEIGHBOUR, "amount": {"cpu": 2, "memory_mib": 4096, "gpus": {V100: 1}}}],
    }
    return site


@pytest.fixture(scope="module")
def operator(box: Box, admin: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("site")
    with (
        sites.kueue(admin),
        pools.simulated(box, WORKERS, owner="e-site"),
        operating(box, directory, site_file(), up=False) as operator,
        ExitStack() as ends,
    ):
        # Keystone has this one already: it is put into a group, and never made or removed.
        guest = operator.cloud.identity.create_user(name=GUEST, domain_id="default", password=secrets.token_urlsafe())
        ends.callback(operator.cloud.identity.delete_user, guest)
        (directory / "state").mkdir()
        plain(operator, "stack", "init", operator.name)
        plain(operator, "config", "set", "--secret", "pfmoc:registry", REGISTRY)
        # As a person would: it stays whatever the kit does with its own.
        taint(admin, "e-site-0", {"key": "example.org/repair", "effect": "NoSchedule"})
        operator.up()
        yield operator


@pytest.fixture(scope="module")
def site(operator: Operator) -> Site:
    return load(operator.file)[0]


@pytest.fixture(scope="module")
def outputs(operator: Operator) -> dict[str, Any]:
    return operator.outputs()


def plain(operator: Operator, *words: str) -> str:
    """Run plain pulumi, which must succeed; what it printed."""
    code, out, err = operator.pulumi(*words)
    assert code == 0, out + err
    return out


def taint(admin: User, node: str, more: dict[str, str]) -> None:
    """Add a taint as `oc adm taint` does."""
    taints = admin.api.sanitize_for_serialization(admin.core.read_node(node).spec.taints or [])
    admin.core.patch_node(node, {"spec": {"taints": [*taints, more]}})


def has(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """All that is wanted is there, with its value; the difference is shown."""
    assert {key: found.get(key) for key in wanted} == wanted


# OpenStack


def test_projects(operator, site):
    for tenant in site.tenants:
        project = operator.cloud.identity.find_project(tenant.name)
        has(project.to_dict(), {"description": tenant.description, "domain_id": "default", "is_enabled": True})
        assert set(project.tags) == {"managed-by=pfmoc", f"pfmoc-site={site.name}", f"pfmoc-tenant={tenant.name}"}


def test_users_groups_and_roles(operator, site, box, outputs):
    identity = operator.cloud.identity
    roles = {role.id: role.name for role in identity.roles()}
    for tenant in site.tenants:
        project = operator.project(tenant.name)
        granted = {
            ((each.group or each.user)["id"], roles[each.role["id"]])
            for each in identity.role_assignments(scope_project_id=project)
        }
        service = identity.find_user(f"{tenant.name}-pfmoc")
        assert service.default_project_id == project
        wanted = {(service.id, "member")}
        for role in {role for user in tenant.users for role in user.openstack_roles}:
            group = identity.find_group(f"{tenant.name}-{role}")
            wanted.add((group.id, role))
            members = {each.name for each in identity.group_users(group)}
            assert members == {user.name for user in tenant.users if role in user.openstack_roles}
        assert granted == wanted
    words = outputs["secrets"]["pfmoc_user_passwords"]
    assert set(words) == {f"{CHRIS}/{CHRIS}-operator", f"{NEIGHBOUR}/{NEIGHBOUR}-user"}
    auth = {"username": f"{CHRIS}-operator", "password": words[f"{CHRIS}/{CHRIS}-operator"], "project_name": CHRIS}
    with connected(box, auth=auth | {"user_domain_id": "default", "project_domain_id": "default"}) as cloud:
        assert cloud.current_project_id == operator.project(CHRIS)


def test_the_application_credential(operator, site, box, outputs):
    service = operator.cloud.identity.find_user(f"{CHRIS}-pfmoc")
    (credential,) = operator.cloud.identity.application_credentials(service)
    day = datetime.now(UTC).date() + timedelta(days=90)
    assert abs((datetime.fromisoformat(credential.expires_at).date() - day).days) <= 1, "a midnight may lie between"
    assert {role["name"] for role in credential.roles} >= {"member"}
    assert credential.unrestricted is False
    secret = outputs["secrets"]["pfmoc_secret_settings"]
    assert secret["OS_APPLICATION_CREDENTIAL_ID"] == credential.id
    auth = {
        "application_credential_id": credential.id,
        "application_credential_secret": secret["OS_APPLICATION_CREDENTIAL_SECRET"],
    }
    with connected(box, auth_type="v3applicationcredential", auth=auth) as cloud:
        assert cloud.current_project_id == operator.project(CHRIS)


NOVA = {field: field for field in ComputeQuota.model_fields} | {
    "ram_mib": "ram",
    "injected_file_content_bytes": "injected_file_content_bytes",
    "injected_file_path_bytes": "injected_file_path_bytes",
}
NEUTRON = {
    "networks": "network",
    "subnets": "subnet",
    "subnet_pools": "subnetpool",
    "ports": "port",
    "routers": "router",
    "floating_ips": "floatingip",
    "security_groups": "security_group",
    "security_group_rules": "security_group_rule",
    "rbac_policies": "rbac_policy",
}


def test_every_quota(operator, site):
    cloud = operator.cloud
    assert set(NEUTRON) == set(NetworkQuota.model_fields)
    for tenant in site.tenants:
        project, quotas = operator.project(tenant.name), tenant.openstack.quotas
        nova = cloud.compute.get(f"/os-quota-sets/{project}").json()["quota_set"]
        has(nova, {NOVA[field]: getattr(quotas.compute, field) for field in ComputeQuota.model_fields})
        cinder = cloud.block_storage.get(f"/os-quota-sets/{project}").json()["quota_set"]
        has(cinder, {field: getattr(quotas.volume, field) for field in VolumeQuota.model_fields})
        neutron = cloud.network.get(f"/quotas/{project}").json()["quota"]
        has(neutron, {NEUTRON[field]: getattr(quotas.network, field) for field in NetworkQuota.model_fields})
        account = operator.swift(tenant.name).head_account()
        assert int(account["x-account-meta-quota-bytes"]) == quotas.object_bytes


def test_networks(operator, site):
    network = operator.cloud.network
    external = network.find_network("external").id
    for tenant in site.tenants:
        project = operator.project(tenant.name)
        tags = {"managed-by=pfmoc", f"pfmoc-site={site.name}", f"pfmoc-tenant={tenant.name}"}
        (router,) = network.routers(project_id=project)
        assert (router.name, set(router.tags)) == (tenant.name, tags)
        assert router.external_gateway_info["network_id"] == external
        joined = {ip["subnet_id"] for port in network.ports(device_id=router.id) for ip in port.fixed_ips}
        networks = {each.name: each for each in network.networks(project_id=project)}
        assert set(networks) == {each.name for each in tenant.openstack.networks}
        for each in tenant.openstack.networks:
            found = networks[each.name]
            assert set(found.tags) == tags
            assert each.mtu in (None, found.mtu)
            (subnet,) = network.subnets(network_id=found.id)
            assert (subnet.name, subnet.cidr, tuple(subnet.dns_nameservers)) == (each.name, each.cidr, each.dns_nameservers)
            assert set(subnet.tags) == tags
            assert subnet.id in joined


def test_security_groups(operator, site):
    network = operator.cloud.network
    for tenant in site.tenants:
        groups = {each.name: each for each in network.security_groups(project_id=operator.project(tenant.name))}
        assert set(groups) == {"default", *(each.name for each in tenant.openstack.security_groups)}
        for wanted in tenant.openstack.security_groups:
            group = groups[wanted.name]
            assert group.description == wanted.description
            rules = {
                (
                    each.direction,
                    each.ether_type,
                    each.protocol,
                    (each.port_range_min, each.port_range_max),
                    each.remote_ip_prefix,
                    each.remote_group_id,
                    each.description or "",
                )
                for each in network.security_group_rules(security_group_id=group.id)
            }
            own = {
                (
                    rule.direction,
                    rule.ethertype,
                    rule.protocol,
                    rule.ports or (None, None),
                    rule.cidr,
                    groups[rule.group].id if rule.group else None,
                    rule.description,
                )
                for rule in wanted.rules
            }
            assert own <= rules
            # Neutron itself lets everything out.
            assert {rule[:3] for rule in rules - own} == {("egress", "IPv4", None), ("egress", "IPv6", None)}


def test_containers(operator, site):
    ids = {NEIGHBOUR: operator.project(NEIGHBOUR), "user": operator.cloud.identity.find_user(f"{NEIGHBOUR}-user").id}
    for tenant in site.tenants:
        swift = operator.swift(tenant.name)
        listed = {each["name"] for each in swift.get_account()[1]}
        assert {each.name for each in tenant.containers} <= listed
        for each in tenant.containers:
            head = swift.head_container(each.name)
            assert head["x-storage-policy"] == (each.storage_policy or "standard")
            meta = {key.removeprefix("x-container-meta-"): value for key, value in head.items() if "-meta-" in key}
            has(
                meta,
                {
                    "pfmoc-tenant": tenant.name,
                    "quota-bytes": str(each.quota_bytes),
                    "quota-count": str(each.quota_objects) if each.quota_objects else None,
                    "pfmoc-expire-after-days": str(each.expire_after_days) if each.expire_after_days else None,
                },
            )
            assert (head.get("x-versions-enabled") == "True") == each.versioning
            keys = {key for key in meta if key.startswith("temp-url-key")}
            generation = each.tempurl.generation if each.tempurl else 0
            assert keys == {0: set(), 1: {"temp-url-key"}, 2: {"temp-url-key", "temp-url-key-2"}}[generation]
    shared = operator.swift(CHRIS).head_container("shared")
    assert shared["x-container-read"] == f"{ids[NEIGHBOUR]}:*,.rlistings"
    assert shared["x-container-write"] == f"{ids[NEIGHBOUR]}:{ids['user']}"


def test_servers(operator, site):
    compute = operator.cloud.compute
    project = operator.project(CHRIS)
    servers = {each.name: each for each in compute.servers(all_projects=True, project_id=project)}
    groups = {each.name: each for each in compute.server_groups(all_projects=True) if each.project_id == project}
    images = {each.name: each.id for each in operator.cloud.image.images()}
    wanted = [pool for pool in site.node_pools if pool.source == "nova"]
    assert set(servers) == {f"{pool.name}-{index}" for pool in wanted for index in range(pool.size)}
    for pool in wanted:
        flavor = compute.find_flavor(pool.name, get_extra_specs=True)
        assert (flavor.vcpus, flavor.ram, flavor.disk) == (pool.shape.vcpus, pool.shape.ram_mib, pool.shape.disk_gib)
        assert flavor.extra_specs == pool.shape.extra_specs
        assert flavor.is_public is False
        assert [each["tenant_id"] for each in compute.get_flavor_access(flavor.id)] == [project]
        own = [servers[f"{pool.name}-{index}"] for index in range(pool.size)]
        assert set(groups[pool.name].member_ids) == {each.id for each in own}
        for server in own:
            assert (server.status, server.flavor["original_name"], server.image["id"]) == (
                "ACTIVE",
                pool.name,
                images[pool.image],
            )
            has(
                server.metadata,
                {
                    "pfmoc_pool": pool.name,
                    "pfmoc_tenant": CHRIS,
                    "arch": pool.arch,
                    "gpu_product": pool.gpu.product,
                    "gpu_count": str(pool.gpu.count),
                },
            )
            assert set(server.addresses) == {"default", "second"}
            assert {each["name"] for each in server.security_groups} == {"default", "peers", "web"}


# OpenShift


USUAL = {"system:deployers", "system:image-builders", "system:image-pullers"}


def test_the_project_is_one_to_openshift_too(operator, admin, site):
    """The kit makes Namespaces: what a Project says of them must be what a Project that was asked for says."""
    listed = admin.custom.list_cluster_custom_object("project.openshift.io", "v1", "projects")
    projects = {each["metadata"]["name"]: each for each in listed["items"]}
    for tenant in site.tenants:
        project = projects[tenant.name]
        assert project["status"]["phase"] == "Active"
        annotations = until(
            lambda name=tenant.name: (
                found
                if "openshift.io/sa.scc.uid-range" in (found := admin.core.read_namespace(name).metadata.annotations)
                else None
            ),
            what="the user ids of the project",
        )
        assert {f"openshift.io/sa.scc.{each}" for each in ("mcs", "supplemental-groups", "uid-range")} <= set(annotations)
        until(
            lambda name=tenant.name: (
                {each.metadata.name for each in admin.rbac.list_namespaced_role_binding(name).items} >= USUAL
            ),
            what="the rights of the project's service accounts",
        )


def test_labels_and_annotations(operator, admin, site):
    for tenant in site.tenants:
        found = admin.core.read_namespace(tenant.name).metadata
        standard = tenant.openshift.pod_security
        has(
            found.labels,
            {
                "app.kubernetes.io/managed-by": "pfmoc",
                "chrisproject.org/tenant": tenant.name,
                "nerc.mghpcc.org/project": "true",
                "nerc.mghpcc.org/allow-unencrypted-routes": "true",
                "kubernetes.io/metadata.name": tenant.name,
                "security.openshift.io/scc.podSecurityLabelSync": "false",
                **{f"pod-security.kubernetes.io/{mode}": standard for mode in ("enforce", "audit", "warn")},
                **tenant.labels,
            },
        )
        has(
            found.annotations,
            {
                "cf_pi": tenant.pi,
                "chrisproject.org/expires-at": tenant.expires_at.isoformat() if tenant.expires_at else None,
                "chrisproject.org/site": site.name,
                "openshift.io/description": tenant.description,
                "openshift.io/display-name": tenant.openshift.display_name or tenant.description,
                "openshift.io/requester": tenant.pi,
                **tenant.openshift.annotations,
            },
        )


def test_quota_and_limits(operator, admin, site):
    quota = admin.core.read_namespaced_resource_quota(f"{CHRIS}-project", CHRIS)
    # 8 cores and 16 GiB of its own, with 2 and 4 that it may borrow, and one GPU.
    assert quota.spec.hard == {
        "limits.cpu": "10",
        "limits.memory": "20Gi",
        "limits.ephemeral-storage": "40Gi",
        "requests.storage": "30Gi",
        "persistentvolumeclaims": "3",
        "requests.nvidia.com/gpu": "3",
        "local-path.storageclass.storage.k8s.io/requests.storage": "10Gi",
        "pods": "40",
    }
    until(lambda: admin.core.read_namespaced_resource_quota(f"{CHRIS}-project", CHRIS).status.hard == quota.spec.hard)
    neighbour = admin.core.read_namespaced_resource_quota(f"{NEIGHBOUR}-project", NEIGHBOUR).spec.hard
    own = sites_tenant(site, NEIGHBOUR).openshift.quotas
    has(neighbour, {"limits.cpu": str(own.limits_cpu), "requests.nvidia.com/gpu": "2", "pods": None})
    (limit,) = admin.core.read_namespaced_limit_range(f"{CHRIS}-limits", CHRIS).spec.limits
    assert limit.type == "Container"
    assert limit.default == {"cpu": "800m", "memory": "2Gi", "nvidia.com/gpu": "0"}
    assert limit.default_request == {"cpu": "500m", "memory": "2Gi", "nvidia.com/gpu": "0"}
    assert limit.min == {"cpu": "2m", "memory": "1Ki"}


def sites_tenant(site: Site, name: str) -> Tenant:
    return site.tenant(name)


def subjects(binding: Any) -> set[tuple[str, str]]:
    return {(each.kind, each.name) for each in binding.subjects}


def test_role_bindings_and_constraints(operator, admin):
    bound = {each.metadata.name: each for each in admin.rbac.list_namespaced_role_binding(CHRIS).items}
    assert subjects(bound["admin"]) == {("User", f"{CHRIS}-operator")}
    assert subjects(bound["view"]) == {("User", GUEST), ("Group", "auditors"), ("ServiceAccount", "reporter")}
    assert bound["view"].role_ref.kind == "ClusterRole"
    (rule,) = admin.rbac.read_namespaced_role("scc-nonroot-v2", CHRIS).rules
    assert (rule.resources, rule.resource_names, rule.verbs) == (["securitycontextconstraints"], ["nonroot-v2"], ["use"])
    assert subjects(bound["scc-nonroot-v2"]) == {("ServiceAccount", "plugins")}
    (edit,) = [each for each in admin.rbac.list_namespaced_role_binding(NEIGHBOUR).items if each.metadata.name == "edit"]
    assert subjects(edit) == {("User", f"{NEIGHBOUR}-user")}


def test_network_policies(operator, admin):
    from kubernetes.client import NetworkingV1Api  # noqa: PLC0415 - nowhere else

    api = NetworkingV1Api(admin.api)
    found = {
        name: {
            each.metadata.name: admin.api.sanitize_for_serialization(each.spec)
            for each in api.list_namespaced_network_policy(name).items
        }
        for name in (CHRIS, NEIGHBOUR)
    }
    assert set(found[CHRIS]) == {"default-deny", "allow-dns", "allow-same-project", "allow-egress"}
    assert set(found[NEIGHBOUR]) == {*found[CHRIS], "allow-from-router"}
    deny = found[CHRIS]["default-deny"]
    assert (deny.get("podSelector"), set(deny["policyTypes"])) == ({}, {"Ingress", "Egress"})
    nobody = [{"ipBlock": {"cidr": "255.255.255.255/32"}}]
    assert (deny["ingress"], deny["egress"]) == ([{"from": nobody}], [{"to": nobody}])
    (dns,) = found[CHRIS]["allow-dns"]["egress"]
    assert dns["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    assert {(each["protocol"], each["port"]) for each in dns["ports"]} == {("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)}
    blocks = {way["to"][0]["ipBlock"]["cidr"]: way.get("ports") for way in found[CHRIS]["allow-egress"]["egress"]}
    assert blocks == {
        "10.89.0.1/32": None,
        "10.96.0.1/32": [{"port": 443, "protocol": "TCP"}],
        "203.0.113.0/24": [{"port": 443, "protocol": "TCP"}, {"port": 8443, "protocol": "TCP"}],
    }
    (router,) = found[NEIGHBOUR]["allow-from-router"]["ingress"]
    assert router["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-ingress"}}}]
    same = found[CHRIS]["allow-same-project"]
    assert same["ingress"][0]["from"] == same["egress"][0]["to"] == [{"podSelector": {}}]


def test_pull_secrets_stand_beside_those_of_others(operator, admin):
    secret = admin.core.read_namespaced_secret("plugins", CHRIS)
    assert secret.type == "kubernetes.io/dockerconfigjson"
    assert base64.b64decode(secret.data[".dockerconfigjson"]).decode() == REGISTRY
    account = admin.core.read_namespaced_service_account("default", CHRIS)
    assert "plugins" in {each.name for each in account.image_pull_secrets}


def test_existing_nodes_keep_what_others_say_of_them(operator, admin):
    for name in ("e-site-0", "e-site-1"):
        node = admin.core.read_node(name)
        has(
            node.metadata.labels,
            {"nvidia.com/gpu.product": A100, "chrisproject.org/node-pool": "e-nodes", "example.org/rack": "r1"},
        )
        taints = {(each.key, each.value, each.effect) for each in node.spec.taints}
        assert taints == {
            ("nvidia.com/gpu.product", A100, "NoSchedule"),
            ("example.org/reserved", "chris", "PreferNoSchedule"),
            ("kwok.x-k8s.io/node", "fake", "NoSchedule"),
            *([("example.org/repair", None, "NoSchedule")] if name == "e-site-0" else []),
        }


def test_a_machine_set_becomes_nodes_as_nerc_has_them(operator, admin):
    found = admin.custom.get_namespaced_custom_object(
        "machine.openshift.io", "v1beta1", MACHINES, "machinesets", "e-box-e-machines"
    )
    assert found["spec"]["replicas"] == 2
    assert found["metadata"]["labels"]["machine.openshift.io/cluster-api-cluster"] == "e-box"
    value = found["spec"]["template"]["spec"]["providerSpec"]["value"]
    has(value, {"flavor": "gpu-su-v100.1", "image": "box-x86_64", "kind": "OpenstackProviderSpec"})
    selector = "chrisproject.org/node-pool=e-machines"
    nodes = until(
        lambda: len(found := admin.core.list_node(label_selector=selector).items) == 2 and found, what="two nodes", deadline_s=60
    )
    for node in nodes:
        assert node.metadata.labels["nvidia.com/gpu.product"] == V100
        assert ("nvidia.com/gpu.product", V100, "NoSchedule") in {
            (each.key, each.value, each.effect) for each in node.spec.taints
        }


def test_priority_classes_and_queues(operator, admin, site):
    from kubernetes.client import SchedulingV1Api  # noqa: PLC0415 - nowhere else

    def objects(plural: str, namespace: str = "") -> dict[str, Any]:
        listing = admin.custom.list_namespaced_custom_object if namespace else admin.custom.list_cluster_custom_object
        words = [sites.KUEUE, "v1beta1", *([namespace] if namespace else []), plural]
        return {each["metadata"]["name"]: each for each in listing(*words)["items"]}

    classes = {each.metadata.name: each for each in SchedulingV1Api(admin.api).list_priority_class().items}
    workload = objects("workloadpriorityclasses")
    for each in site.queueing.priority_classes:
        assert (classes[each.name].value, classes[each.name].preemption_policy) == (each.value, "Never")
        assert classes[each.name].description == workload[each.name]["description"] == each.description
        assert workload[each.name]["value"] == each.value
    flavors = objects("resourceflavors")
    assert {"general", A100.lower(), V100.lower()} <= set(flavors)
    assert flavors[A100.lower()]["spec"]["nodeLabels"] == {"nvidia.com/gpu.product": A100}
    assert flavors[A100.lower()]["spec"]["tolerations"][0]["value"] == A100
    queues = objects("clusterqueues")
    chris, neighbour = (
        {
            (flavor["name"], each["name"]): (each["nominalQuota"], each["borrowingLimit"], each["lendingLimit"])
            for group in queues[name]["spec"]["resourceGroups"]
            for flavor in group["flavors"]
            for each in flavor["resources"]
        }
        for name in (CHRIS, NEIGHBOUR)
    )
    assert chris == {
        ("general", "cpu"): ("8", "2", "0"),
        ("general", "memory"): ("16384Mi", "4096Mi", "0Mi"),
        (A100.lower(), "nvidia.com/gpu"): ("2", "0", "0"),
        (V100.lower(), "nvidia.com/gpu"): ("0", "1", "0"),
    }
    assert neighbour[V100.lower(), "nvidia.com/gpu"] == ("2", "0", "1")
    assert queues[CHRIS]["spec"]["cohort"] == queues[NEIGHBOUR]["spec"]["cohort"]
    assert objects("localqueues", CHRIS)[CHRIS]["spec"] == {"clusterQueue": CHRIS}


def test_what_the_daemon_finds(operator, admin, outputs):
    core, rbac = admin.core, admin.rbac
    assert core.read_namespaced_service_account("pfmoc", CHRIS).metadata.labels["chrisproject.org/tenant"] == CHRIS
    resources = {resource for rule in rbac.read_namespaced_role("pfmoc", CHRIS).rules for resource in rule.resources}
    assert {"jobs", "pods", "pods/log", "configmaps", "secrets", "namespaces"} <= resources
    assert subjects(rbac.read_namespaced_role_binding("pfmoc", CHRIS)) == {("ServiceAccount", "pfmoc")}
    told = outputs["secrets"]["pfmoc_secret_settings"]
    for name in ("pfmoc-settings", "pfmoc-storage"):
        for key, value in core.read_namespaced_secret(name, CHRIS).data.items():
            assert base64.b64decode(value).decode() == told[key]
    key = operator.swift(CHRIS).head_container("chris")["x-container-meta-temp-url-key"]
    assert told["SWIFT_TEMPURL_KEY"] == key
    route = admin.custom.get_namespaced_custom_object("route.openshift.io", "v1", CHRIS, "routes", "pfmoc")["spec"]
    has(route, {"host": f"pfmoc-{CHRIS}.apps.box.localhost", "wildcardPolicy": "None"})
    has(route["tls"], {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"})
    assert (route["to"]["name"], route["port"]["targetPort"]) == ("pfmoc", "http")


# All of it


def test_the_inventory_for_ansible(operator, box):
    directory = box.cache / "pulumi" / "inventories" / operator.name
    inventory = yaml.safe_load((directory / "pulumi.yml").read_text())["all"]
    groups = inventory["children"]["node_pool"]["children"]
    assert set(groups["pool_e_gpu"]["hosts"]) == {"e-gpu-0", "e-gpu-1"}
    assert groups["pool_e_gpu"]["hosts"]["e-gpu-0"]["ansible_host"].startswith("192.168.2")
    assert set(groups["pool_e_nodes"]["hosts"]) == {"e-site-0", "e-site-1"}
    assert inventory["vars"]["pfmoc_namespace"] == CHRIS
    assert (directory / "pulumi-secrets.yml").stat().st_mode & 0o777 == 0o600


def test_again_changes_nothing(operator):
    assert f"{operator.name}: 0 changes made" in operator.up()


def test_plain_pulumi_does_as_well(operator):
    # It says so and exits with 1 where anything would change.
    assert "unchanged" in plain(operator, "preview", "--refresh", "--expect-no-changes")
    assert "unchanged" in plain(operator, "up", "--yes", "--skip-preview", "--expect-no-changes", "--policy-pack", "policy")


# What is changed by hand


OPEN_SSH = "ingress IPv4 tcp 22 0.0.0.0/0"


def changed_in_openstack(operator: Operator) -> None:
    """One change of each kind, as somebody with `openstack` makes them; test_infra_commands has Nova's and Neutron's quotas."""
    cloud, project, swift = operator.cloud, operator.project(CHRIS), operator.swift(CHRIS)
    compute, identity, network = cloud.compute, cloud.identity, cloud.network
    cloud.block_storage.update_quota_set(project, volumes=99)
    swift.post_account({"X-Account-Meta-Quota-Bytes": "5"})
    swift.post_container("shared", {"X-Container-Read": "", "X-Versions-Enabled": "false"})
    (router,) = network.routers(project_id=project)
    network.update_router(router, name="by hand")
    (subnet,) = network.subnets(project_id=project, name="second")
    network.update_subnet(subnet, dns_nameservers=["198.51.100.53"])
    (web,) = network.security_groups(project_id=project, name="web")
    network.delete_security_group_rule(next(each["id"] for each in web.security_group_rules if each["protocol"] == "icmp"))
    anybody = {"direction": "ingress", "ether_type": "IPv4", "remote_ip_prefix": "0.0.0.0/0"}
    network.create_security_group_rule(
        project_id=project, security_group_id=web.id, protocol="tcp", port_range_min=22, port_range_max=22, **anybody
    )
    guest, own = identity.find_user(GUEST), identity.find_user(f"{CHRIS}-operator")
    reader, member = identity.find_group(f"{CHRIS}-reader"), identity.find_group(f"{CHRIS}-member")
    identity.remove_user_from_group(guest, reader)
    identity.add_user_to_group(identity.find_user(f"{NEIGHBOUR}-user"), member)
    identity.unassign_project_role_from_group(project, reader, identity.find_role("reader"))
    identity.assign_project_role_to_user(project, guest, identity.find_role("member"))
    identity.update_user(own, is_enabled=False)
    servers = {each.name: each for each in compute.servers(all_projects=True, project_id=project)}
    compute.stop_server(servers["e-gpu-0"])
    compute.delete_server(servers["e-power9-0"])
    compute.wait_for_server(servers["e-gpu-0"], status="SHUTOFF")
    compute.wait_for_delete(servers["e-power9-0"])


def changed_in_openshift(admin: User) -> None:
    """Kinds that a site with OpenShift alone does not have; ``test_infra_openshift`` has the others."""
    from kubernetes.client import NetworkingV1Api  # noqa: PLC0415 - nowhere else

    queue = (sites.KUEUE, "v1beta1", "clusterqueues", CHRIS)
    admin.custom.patch_cluster_custom_object(*queue, {"spec": {"queueingStrategy": "StrictFIFO"}})
    admin.custom.delete_namespaced_custom_object(sites.KUEUE, "v1beta1", CHRIS, "localqueues", CHRIS)
    role = admin.rbac.read_namespaced_role("scc-nonroot-v2", CHRIS)
    role.rules[0].resource_names = ["privileged"]
    admin.rbac.replace_namespaced_role("scc-nonroot-v2", CHRIS, role)
    admin.rbac.delete_namespaced_role_binding("scc-nonroot-v2", CHRIS)
    account = admin.core.read_namespaced_service_account("default", CHRIS)
    account.image_pull_secrets = [each for each in account.image_pull_secrets if each.name != "plugins"]
    admin.core.replace_namespaced_service_account("default", CHRIS, account)
    view = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    mallory = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}
    admin.rbac.create_namespaced_role_binding(CHRIS, {"metadata": {"name": "by-hand"}, "roleRef": view, "subjects": [mallory]})
    policy = {"metadata": {"name": "by-hand"}, "spec": {"podSelector": {}, "ingress": [{}]}}
    NetworkingV1Api(admin.api).create_namespaced_network_policy(CHRIS, policy)


CHANGED = {
    ("QuoteSetV3", CHRIS, "volumes"),
    ("AccountV1", CHRIS, "metadata.Quota-Bytes"),
    ("Container", f"{CHRIS}-shared", "containerRead"),
    ("Container", f"{CHRIS}-shared", "versioning"),
    ("Router", CHRIS, "name"),
    ("User", f"{CHRIS}-{CHRIS}-operator", "enabled"),
    ("Instance", "e-gpu-0", "powerState"),
    ("ClusterQueue", f"clusterqueue-{CHRIS}", "spec.queueingStrategy"),
}
CHANGED_SOMEWHERE = {
    # Of lists the engine tells each element.
    ("Subnet", f"{CHRIS}-second"),
    ("Role", f"{CHRIS}-scc-nonroot-v2"),
    ("SharedList", f"{CHRIS}-default"),
}
GONE = {
    ("SecGroupRule", f"{CHRIS}-web-2"),
    ("UserMembershipV3", f"{CHRIS}-reader-{GUEST}"),
    ("RoleAssignment", f"{CHRIS}-reader"),
    ("Instance", "e-power9-0"),
    ("LocalQueue", f"localqueue-{CHRIS}"),
    ("RoleBinding", f"{CHRIS}-scc-nonroot-v2"),
}
ADDED = {
    ("SecGroup", f"{CHRIS}-web", OPEN_SSH),
    ("GroupV3", f"{CHRIS}-member", f"{NEIGHBOUR}-user"),
    ("Project", CHRIS, f"member for the user {GUEST}"),
    ("RoleBinding", f"{CHRIS}/by-hand", ""),
    ("NetworkPolicy", f"{CHRIS}/by-hand", ""),
}


def take_away(operator: Operator, admin: User) -> None:
    """What somebody has added stays until somebody takes it away."""
    from kubernetes.client import NetworkingV1Api  # noqa: PLC0415 - nowhere else

    network, identity, project = operator.cloud.network, operator.cloud.identity, operator.project(CHRIS)
    (web,) = network.security_groups(project_id=project, name="web")
    network.delete_security_group_rule(next(each["id"] for each in web.security_group_rules if each["port_range_min"] == 22))
    member = identity.find_group(f"{CHRIS}-member")
    identity.remove_user_from_group(identity.find_user(f"{NEIGHBOUR}-user"), member)
    identity.unassign_project_role_from_user(project, identity.find_user(GUEST), identity.find_role("member"))
    admin.rbac.delete_namespaced_role_binding("by-hand", CHRIS)
    NetworkingV1Api(admin.api).delete_namespaced_network_policy("by-hand", CHRIS)


def test_what_is_changed_gone_or_added_by_hand_is_found_and_mended(operator, admin):
    changed_in_openstack(operator)
    changed_in_openshift(admin)
    document = operator.drift()
    assert document["verdict"] == "drifted"
    by_why: dict[str, list[dict[str, str]]] = {}
    for each in document["findings"]:
        by_why.setdefault(each["why"], []).append(each)
    assert set(by_why) == {"changed in the cloud", "gone from the cloud", "added in the cloud"}
    changed = {(each["kind"], each["name"], each["field"]) for each in by_why["changed in the cloud"]}
    assert changed >= CHANGED
    assert {each[:2] for each in changed} == {each[:2] for each in CHANGED} | CHANGED_SOMEWHERE
    assert {(each["kind"], each["name"]) for each in by_why["gone from the cloud"]} == GONE
    assert {(each["kind"], each["name"], each["found"].rpartition(" (")[0]) for each in by_why["added in the cloud"]} == ADDED

    # The preview tells what `up` mends, Swift's ACL too, which the engine does not see.
    code, out, err = operator.run("preview", "--json")
    assert code == 0, out + err
    told = {(each["op"], each["kind"], each["name"]) for each in json.loads(out)["changes"]}
    assert ("update", "AccountV1", CHRIS) in told
    assert ("create", "UserMembershipV3", f"{CHRIS}-reader-{GUEST}") in told
    operator.up()
    left = operator.drift()["findings"]
    assert {(each["kind"], each["name"], each["why"]) for each in left} == {(*each[:2], "added in the cloud") for each in ADDED}
    take_away(operator, admin)
    operator.require_in_step()
    shared = operator.swift(CHRIS).head_container("shared")
    assert shared["x-container-read"] == f"{operator.project(NEIGHBOUR)}:*,.rlistings"
    assert shared["x-versions-enabled"] == "True"
    servers = operator.cloud.compute.servers(all_projects=True, project_id=operator.project(CHRIS))
    assert {each.name: each.status for each in servers} == dict.fromkeys(("e-gpu-0", "e-gpu-1", "e-power9-0"), "ACTIVE")
    assert operator.cloud.identity.find_user(f"{CHRIS}-operator").is_enabled


# What is in use


@pytest.fixture
def theirs(operator: Operator, box: Box, outputs: dict[str, Any]) -> Iterator[None]:
    """A server and a volume that the tenant made itself: of those the state knows nothing."""
    user = f"{CHRIS}-operator"
    auth = {"username": user, "password": outputs["secrets"]["pfmoc_user_passwords"][f"{CHRIS}/{user}"], "project_name": CHRIS}
    with connected(box, auth=auth | {"user_domain_id": "default", "project_domain_id": "default"}) as cloud:
        flavor, image = cloud.compute.find_flavor("cpu-su.4"), cloud.image.find_image("box-x86_64")
        server = cloud.compute.create_server(name="theirs", flavor_id=flavor.id, image_id=image.id, networks="none")
        volume = cloud.block_storage.create_volume(name="theirs", size=2)
        cloud.compute.wait_for_server(server)
        cloud.block_storage.wait_for_status(volume, "available", interval=1)
        yield
        cloud.compute.delete_server(server)
        cloud.compute.wait_for_delete(server)
        cloud.block_storage.delete_volume(volume)
        cloud.block_storage.wait_for_delete(volume)


def test_quotas_do_not_shrink_below_their_use(operator, theirs):
    nova = operator.cloud.compute.get(f"/os-quota-sets/{operator.project(CHRIS)}/detail").json()["quota_set"]
    used, pools = nova["cores"]["in_use"], 32
    assert used > pools
    plan = site_file()
    quotas = sites.tenant(plan, CHRIS)["openstack"]["quotas"]
    quotas["compute"] |= {"cores": pools}
    quotas["volume"] |= {"gigabytes": 1}
    quotas["network"] |= {"networks": 1}
    operator.write(plan)
    try:
        code, out, err = operator.run("preview", "--json")
    finally:
        operator.write(site_file())
    assert code == 2, out + err
    told = {each["why"] for each in json.loads(out)["refused"] if each["resource"] == f"tenant/{CHRIS}"}
    assert told == {
        f"has quotas that would shrink below their use: cores from 40 to {pools}, and {used} are in use",
        "has quotas that would shrink below their use: gigabytes from 300 to 1, and 2 are in use",
        "has quotas that would shrink below their use: network from 4 to 1, and 2 are in use",
    }


def test_a_project_with_servers_and_volumes_is_not_deleted(operator, theirs):
    code, _, err = operator.run("destroy", "--yes", "--allow", "node-pool/*")
    assert code == 2
    assert f"tenant/{CHRIS} would be deleted with 1 servers, 1 volumes" in err
    assert operator.project(CHRIS)


def test_a_cloud_that_is_away_leaves_the_other_known(operator, box, tmp_path):
    code, out, err = operator.run("drift", "--json", KUBECONFIG=str(sites.away(box, tmp_path)))
    assert code == 3, out + err
    found = json.loads(out)
    assert found["verdict"] == "unknown"
    assert {each["verdict"] for each in found["findings"]} == {"unknown"}
    assert any("cannot be reached" in each["why"] or "nothing listens" in each["why"] for each in found["findings"])


def test_destroy_leaves_nothing_but_what_it_lists(operator, admin, site):
    cloud = operator.cloud
    projects = {name: operator.project(name) for name in (CHRIS, NEIGHBOUR)}
    code, out, err = operator.run("destroy", "--yes")
    assert code == 2, out + err
    for each in ("node-pool/e-gpu", "node-pool/e-power9", "node-pool/e-machines"):
        assert each in err
    code, out, err = operator.run("destroy", "--yes", "--allow", "node-pool/*")
    assert code == 0, out + err
    for project in projects.values():
        assert f"{project}" in out
        assert not list(cloud.network.networks(project_id=project))
        assert not list(cloud.network.routers(project_id=project))
        assert not list(cloud.network.ports(project_id=project))
        assert not list(cloud.compute.servers(all_projects=True, project_id=project))
        assert {each.name for each in cloud.network.security_groups(project_id=project)} <= {"default"}
    assert not [each for each in cloud.identity.projects() if each.name in projects]
    assert not [each for each in cloud.identity.users() if each.name.startswith((CHRIS, NEIGHBOUR))]
    assert cloud.identity.find_user(GUEST), "the kit has not made that one"
    assert not [each for each in cloud.identity.groups() if each.name.startswith((CHRIS, NEIGHBOUR))]
    assert not {each.name for each in cloud.compute.flavors(is_public=None)} & {"e-gpu", "e-power9"}
    for name in projects:
        admin.wait_until_gone(admin.core.list_namespace, name)
    until(lambda: not admin.core.list_node(label_selector="chrisproject.org/node-pool=e-machines").items, deadline_s=60)
    for name in ("e-site-0", "e-site-1"):
        node = admin.core.read_node(name)
        assert not {"nvidia.com/gpu.product", "chrisproject.org/node-pool", "example.org/rack"} & set(node.metadata.labels)
        assert {each.key for each in node.spec.taints} <= {"kwok.x-k8s.io/node", "example.org/repair"}
    for plural in ("clusterqueues", "resourceflavors", "workloadpriorityclasses"):
        left = admin.custom.list_cluster_custom_object(sites.KUEUE, "v1beta1", plural)["items"]
        assert not [each for each in left if each["metadata"]["labels"].get("app.kubernetes.io/managed-by") == "pfmoc"]
    assert [Path(line.split()[0]).name for line in out.splitlines() if line.strip().endswith("on this machine")]
