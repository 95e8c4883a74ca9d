"""Many tenants in one state: made, and looked at again, with the times that it takes.

PFMOC_TENANTS says how many. Each is lean, without users and networks of its own, for the engine writes all of its state at each
step, so that the time grows with the square of the resources; docs/reference/infra.md has what 50 whole ones take.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness.operators import OPENSHIFT, OPENSTACK, Operator, operating
from harness.tenants import sdk_warnings

pytestmark = sdk_warnings

TENANTS = int(os.environ.get("PFMOC_TENANTS") or 50)


def tenant(index: int) -> dict[str, Any]:
    name = f"f-s{index:02}"
    return {
        "name": name,
        "pi": "f@example.org",
        "openstack": {"quotas": {"object_bytes": "1 GiB"}},
        "containers": [{"name": "data", "quota_bytes": "1 GiB"}],
        "openshift": {},
    }


SITE = {
    "name": "box-scale",
    "clouds": {"openstack": {**OPENSTACK, "services": ["object-store"]}, "openshift": OPENSHIFT},
    "tenants": [tenant(index) for index in range(TENANTS)],
}


@pytest.fixture(scope="module")
def operator(box, tmp_path_factory) -> Iterator[Operator]:
    assert box.kubeconfig
    with operating(box, tmp_path_factory.mktemp("scale"), SITE, up=False) as made:
        yield made


def test_many_tenants(operator, tell):
    began = time.monotonic()
    operator.up()
    made = time.monotonic()
    said = operator.up()
    looked = time.monotonic()
    resources = json.loads(operator.state.read_text())["checkpoint"]["latest"]["resources"]
    tell(f"{TENANTS} tenants, {len(resources)} resources: up {made - began:.0f} s, again {looked - made:.0f} s")
    assert "box-scale: 0 changes made" in said
    names = {each.name for each in operator.cloud.identity.projects()}
    assert {tenant["name"] for tenant in SITE["tenants"]} <= names
