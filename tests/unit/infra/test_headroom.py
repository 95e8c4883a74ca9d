"""What is granted, against what there is."""

from __future__ import annotations

import pytest

from infra.headroom import CORES, MEMORY, compare, declared, of_nodes, of_providers

V100 = "Tesla-V100-PCIE-32GB"


def node(arch="amd64", ready="True", unschedulable=False, labels=None, **allocatable):
    return {
        "metadata": {"labels": {"kubernetes.io/arch": arch, **(labels or {})}},
        "spec": {"unschedulable": True} if unschedulable else {},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "allocatable": allocatable},
    }


def rows(found):
    return {(row.cloud, row.what): row for row in found}


def test_pools_of_the_file(read, document):
    document["node_pools"][1]["arch"] = "ppc64le"
    there = declared(read(document)[0])
    assert there == {
        ("amd64", CORES): 16,
        ("amd64", MEMORY): 32768,
        ("amd64", V100): 2,
        ("ppc64le", CORES): 64,
        ("ppc64le", MEMORY): 262144,
    }


def test_nothing_is_known_of_pools_without_shape(read, document):
    del document["node_pools"][1]["shape"]
    site = read(document)[0]
    assert declared(site) is None
    assert {row.state for row in compare(site, openshift=None, openstack=None)} == {"unknown"}


def test_nodes_of_a_cluster():
    there = of_nodes(
        [
            node(cpu="3500m", memory="16Gi", labels={"nvidia.com/gpu.product": V100}, **{"nvidia.com/gpu": "2"}),
            node(cpu="8", memory="1048576Ki"),
            node(arch="ppc64le", cpu="160", memory="512Gi", **{"nvidia.com/gpu": "4"}),
            node(cpu="64", memory="64Gi", ready="Unknown"),
            node(cpu="64", memory="64Gi", unschedulable=True),
        ]
    )
    assert there == {
        ("amd64", CORES): 11,
        ("amd64", MEMORY): 16384 + 1024,
        ("amd64", V100): 2,
        ("ppc64le", CORES): 160,
        ("ppc64le", MEMORY): 524288,
        ("ppc64le", "GPU of no known product"): 4,
    }


def test_hypervisors():
    there = of_providers(
        [
            (
                {"VCPU": {"total": 16, "reserved": 0, "allocation_ratio": 4.0}, "MEMORY_MB": {"total": 1000, "reserved": 100}},
                ["HW_ARCH_X86_64"],
            ),
            ({"VCPU": {"total": 8}}, ["COMPUTE_NODE", "HW_ARCH_PPC64LE"]),
            ({"CUSTOM_GPU": {"total": 4}}, []),
        ]
    )
    assert there == {("amd64", CORES): 64, ("amd64", MEMORY): 900, ("ppc64le", CORES): 8}


def test_what_is_granted_stands_against_the_sum(read, document):
    document["node_pools"][1]["arch"] = "ppc64le"
    site = read(document)[0]
    found = rows(compare(site, openshift=declared(site), openstack=of_providers([({"VCPU": {"total": 30}}, [])])))
    gpus = found["openshift", V100]
    assert gpus.document() == {
        "cloud": "openshift",
        "what": V100,
        "there": {"amd64": 2},
        "all": 2,
        "granted": 2,
        "free": 0,
        "state": "fits",
    }
    assert found["openshift", CORES].there == {"amd64": 16, "ppc64le": 64}
    assert (found["openshift", CORES].granted, found["openshift", CORES].free) == (20, 60)
    # Both have Nova's usual 20.
    assert (found["openstack", CORES].free, found["openstack", CORES].state) == (-10, "over")


def test_a_product_that_no_node_has(read, document):
    site = read(document)[0]
    row = rows(compare(site, openshift=of_nodes([node(cpu="8", memory="8Gi")]), openstack=None))["openshift", V100]
    assert (row.free, row.state) == (-2, "over")


def test_a_quota_without_limit_is_more_than_there_is(read, document):
    document["tenants"][1]["openstack"] = {"quotas": {"compute": {"cores": -1}}}
    there = of_providers([({"VCPU": {"total": 999}, "MEMORY_MB": {"total": 999999}}, [])])
    found = rows(compare(read(document)[0], openshift=None, openstack=there))
    assert (found["openstack", CORES].granted, found["openstack", CORES].state) == (None, "over")
    assert found["openstack", MEMORY].state == "fits"


@pytest.mark.parametrize("cloud", ["openstack", "openshift"])
def test_a_site_with_one_cloud(read, cloud):
    clouds = {"openstack": {"cloud": "a"}} if cloud == "openstack" else {"openshift": {"context": "a"}}
    site = read({"name": "small", "clouds": clouds})[0]
    assert {row.cloud for row in compare(site, openshift=None, openstack=None)} == {cloud}
