"""A site on OpenStack alone: made, in step, and kept from the projects of another Keystone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from harness import sites
from harness.box import Box
from harness.operators import Operator, operating
from harness.tenants import sdk_warnings

pytestmark = sdk_warnings

CHRIS, NEIGHBOUR = "os-chris", "os-neighbour"
ELSEWHERE = "0" * 32


@pytest.fixture(scope="module")
def operator(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operating(box, tmp_path_factory.mktemp("openstack"), sites.inventory("box-openstack", "os")) as operator:
        yield operator


def test_it_is_made_and_in_step(operator):
    assert f"{operator.name}: 0 changes made" in operator.up()
    document = operator.drift()
    assert document["verdict"] == "in step", document["findings"]
    for name, container in ((CHRIS, "chris"), (NEIGHBOUR, "data")):
        assert container in {each["name"] for each in operator.swift(name).get_account()[1]}
    servers = operator.cloud.compute.servers(all_projects=True, project_id=operator.project(CHRIS))
    assert {each.name: each.status for each in servers} == {"os-gpu-0": "ACTIVE", "os-gpu-1": "ACTIVE"}


def test_a_change_that_failed_is_made_by_the_next_up(operator):
    """Of a change that the provider could not make, the engine has the new values all the same."""
    keystone = operator.cloud.identity
    user, project = keystone.find_user(f"{CHRIS}-pfmoc"), operator.project(CHRIS)
    roles = [each.role["id"] for each in keystone.role_assignments(user_id=user.id, scope_project_id=project)]
    site = yaml.safe_load(operator.file.read_text())
    site["tenants"][0]["containers"][0]["quota_objects"] = 77_777
    operator.write(site)
    for role in roles:
        keystone.unassign_project_role_from_user(project, user, role)
    keystone.assign_project_role_to_user(project, user, keystone.find_role("reader"))
    try:
        code, _, err = operator.run("up", "--yes", "--no-refresh")
        assert code == 1, err
        assert f"{CHRIS}-chris" in err
    finally:
        for role in roles:
            keystone.assign_project_role_to_user(project, user, role)
        keystone.unassign_project_role_from_user(project, user, keystone.find_role("reader"))
    code, out, err = operator.run("up", "--yes")
    assert code == 0, out + err
    assert f"mended {CHRIS}-chris: metadata.Quota-Count" in err
    assert operator.swift(CHRIS).head_container("chris")["x-container-meta-quota-count"] == "77777"
    operator.require_in_step()


def forge_ids(resources: list[dict[str, Any]]) -> None:
    for index, each in enumerate(_projects(resources)):
        each["id"] = f"{index:032x}"


def forge_domain(resources: list[dict[str, Any]]) -> None:
    _projects(resources)[0]["outputs"]["domainId"] = ELSEWHERE


def _projects(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in resources if each["type"] == "openstack:identity/project:Project"]


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (forge_ids, "Keystone knows none of the 2 projects of the state, such as 0000"),
        (forge_domain, f"is in the domain default, and by the state in {ELSEWHERE}"),
    ],
)
def test_another_keystone_under_the_same_state_is_refused(operator, forge, why):
    with operator.forged(forge):
        for words in (["up", "--yes"], ["destroy", "--yes"]):
            code, _, err = operator.run(*words)
            assert code == 2, err
            assert why in err
            assert "--allow identity" in err
