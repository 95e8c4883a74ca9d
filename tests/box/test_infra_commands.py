"""The operator's commands against the box: real engine, real providers, real clouds."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from harness import pools
from harness.neighbours import NAME, SITE, A
from harness.operators import COMMAND_S, Operator
from harness.tenants import sdk_warnings
from harness.waiting import until

pytest_plugins = ["harness.neighbours_fixtures"]
pytestmark = sdk_warnings

GPU = "NVIDIA-A100-SXM4-40GB"


@pytest.fixture
def operator(neighbours: Operator) -> Iterator[Operator]:
    """The operator, whose file is as it was afterwards."""
    yield neighbours
    neighbours.write(SITE)


def changed(**tenant: Any) -> dict[str, Any]:
    """The site with something else about its first tenant."""
    site = copy.deepcopy(SITE)
    site["tenants"][0] |= tenant
    return site


def test_twice_changes_nothing(operator):
    assert f"{NAME}: 0 changes made" in operator.up()
    code, out, err = operator.make("preview", CLOUDS=str(operator.file), INFRA_FLAGS="--json")
    assert code == 0, err
    assert json.loads(out) == {"site": NAME, "changes": [], "refused": []}


def test_the_doctor_finds_the_box_well(operator):
    code, out, err = operator.run("doctor", "--json")
    assert code == 0, out + err
    assert {"right to make projects", "storage policies", "accounts of Swift", "rights in OpenShift"} <= {
        each["subject"] for each in json.loads(out)["checks"]
    }


def test_drift_is_found_named_and_repaired(operator):
    cloud, project, swift = operator.cloud, operator.project(A), operator.swift(A)
    cloud.compute.update_quota_set(project, cores=99)
    cloud.network.update_quota(project, floating_ips=77)
    cloud.identity.update_project(project, description="changed by hand")
    swift.post_container("data", {"X-Container-Meta-Quota-Count": "7", "X-Container-Meta-Temp-Url-Key": "somebody-elses"})
    swift.delete_container("more")
    code, out, err = operator.make("drift", CLOUDS=str(operator.file), JSON="1")
    assert code == 2, err
    assert "somebody-elses" not in out + err
    assert {(each["kind"], each["name"], each["field"], each["why"]) for each in json.loads(out)["findings"]} == {
        ("QuotaSetV2", A, "cores", "changed in the cloud"),
        ("QuotaV2", A, "floatingip", "changed in the cloud"),
        ("Project", A, "description", "changed in the cloud"),
        ("Container", f"{A}-data", "metadata.Quota-Count", "changed in the cloud"),
        ("Container", f"{A}-data", "metadata.Temp-Url-Key", "changed in the cloud"),
        ("Container", f"{A}-more", "", "gone from the cloud"),
    }
    code, out, err = operator.make("infra", CLOUDS=str(operator.file), YES="1")
    assert code == 0, out + err
    operator.require_in_step()


@pytest.fixture
def full(operator: Operator) -> Iterator[None]:
    """An object in each container of a tenant."""
    swift = operator.swift(A)

    def counted(number: int) -> bool:
        return all(int(swift.head_container(name)["x-container-object-count"]) == number for name in ("data", "more"))

    for name in ("data", "more"):
        swift.put_object(name, "somebodys", contents=b"x" * 2000)
    until(lambda: counted(1), what="the objects are counted")
    yield
    for name in ("data", "more"):
        swift.delete_object(name, "somebodys")
    until(lambda: counted(0), what="the objects are gone")


def test_data_are_not_deleted_and_quotas_do_not_shrink_below_their_use(operator, full):
    site = changed(containers=[{**SITE["tenants"][0]["containers"][0], "quota_bytes": 1000}])
    operator.write(site)
    code, out, err = operator.run("preview", "--json")
    assert code == 2, err
    assert {each["resource"]: each["why"] for each in json.loads(out)["refused"]} == {
        f"container/{A}/more": "would be deleted with 1 objects, 2000 bytes",
        f"container/{A}/data": "has quotas that would shrink below their use: bytes from 1073741824 to 1000, and 2000 are in use",
    }
    code, _, err = operator.run("up", "--yes", "--allow", f"container/{A}/data")
    assert code == 2
    assert f"container/{A}/more would be deleted with 1 objects" in err
    assert operator.swift(A).head_container("more")
    assert operator.run("preview", "--allow", f"tenant/{A}")[0] == 0


def test_a_container_that_is_given_up_by_name_goes_with_all_versions(operator):
    given_up = f"container/{A}/versions"
    containers = [*SITE["tenants"][0]["containers"], {"name": "versions", "versioning": True}]
    operator.write(changed(containers=containers))
    operator.up()
    swift = operator.swift(A)
    for text in (b"one", b"two"):
        swift.put_object("versions", "somebodys", contents=text)
    swift.put_object("versions", "gone", contents=b"x")
    swift.delete_object("versions", "gone")
    until(lambda: int(swift.head_container("versions")["x-container-object-count"]) == 1, what="the objects are counted")
    until(lambda: len(swift.get_container("versions", query_string="versions=true")[1]) == 4, what="their versions are listed")
    operator.write(SITE)
    code, _, err = operator.run("up", "--yes")
    assert code == 2
    assert f"{given_up} would be deleted with 1 objects" in err
    assert swift.get_object("versions", "somebodys")[1] == b"two"
    code, out, err = operator.run("up", "--yes", "--allow", given_up)
    assert code == 0, out + err
    # Both versions of the one, the other, and the mark that it was deleted.
    assert f"{given_up}: 4 objects deleted" in err
    # The account hears of it a moment later.
    until(lambda: "versions" not in {each["name"] for each in swift.get_account()[1]}, what="the account's list to follow")
    assert {"data", "more"} <= {each["name"] for each in swift.get_account()[1]}


def test_destroy_keeps_what_holds_data(operator, full):
    code, _, err = operator.make("destroy", CLOUDS=str(operator.file), YES="1")
    assert code == 2
    assert f"container/{A}/data would be deleted" in err
    assert operator.swift(A).head_container("data")


def test_a_project_of_somebody_else_is_not_taken_over(operator):
    theirs = {"metadata": {"name": "f-theirs", "labels": {"whose": "theirs"}}}
    operator.cluster.core.create_namespace(theirs)
    try:
        site = copy.deepcopy(SITE)
        site["tenants"].append({"name": "f-theirs", "pi": "f@example.org", "openshift": {}})
        operator.write(site)
        code, _, err = operator.run("up", "--yes", "--no-refresh")
        assert code == 2
        assert "would take over the OpenShift project f-theirs, which is there already and not of this site" in err
        labels = operator.cluster.core.read_namespace("f-theirs").metadata.labels
        assert "chrisproject.org/tenant" not in labels
    finally:
        operator.cluster.core.delete_namespace("f-theirs")


def test_two_operators_at_once(operator):
    operator.write(changed(description="two at once"))
    with operator.start("up", "--yes") as first, operator.start("up", "--yes") as second:
        told = [each.communicate(timeout=COMMAND_S)[1] for each in (first, second)]
    codes = {first.returncode, second.returncode}
    # Either one came after the other, or one was told who is at work.
    assert codes in ({0}, {0, 1}), told
    assert not any("Traceback" in err for err in told)
    if 1 in codes:
        assert any("the state is locked by" in err for err in told)
    assert operator.cloud.identity.get_project(operator.project(A)).description == "two at once"


def test_a_lock_is_told_and_taken_away_on_demand(operator):
    """Who holds it is on another machine, so nobody here can know whether it has died."""
    operator.write(changed(description="locked"))
    lock = operator.directory / "state" / ".pulumi" / "locks" / "organization" / "pfmoc" / NAME / "f.json"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps({"pid": 4711, "username": "eve", "hostname": "elsewhere", "timestamp": "2026-11-21T15:00:00Z"}))
    code, _, err = operator.run("up", "--yes", "--no-refresh")
    assert code == 1
    assert err.splitlines()[-1].startswith(
        "error: the state is locked by eve@elsewhere (process 4711, since 2026-11-21T15:00:00Z);"
    )
    code, _, err = operator.run("unlock")
    assert (code, err) == (1, "error: nobody is there to be asked; give --yes\n")
    assert operator.run("unlock", "--yes")[:2] == (0, f"{NAME}: unlocked\n")
    assert operator.locks == []


def test_ctrl_c_is_clean(operator):
    """As a terminal sends it: to all of the command's processes. What was begun is finished, and the state is free."""
    site = copy.deepcopy(SITE)
    networks = [{"name": "default"}, *({"name": f"n{index}", "cidr": f"192.168.{index}.0/24"} for index in range(1, 7))]
    site["tenants"][0]["openstack"] |= {"networks": networks}
    operator.write(site)
    with operator.start("up", "--yes", "--no-refresh") as process:
        until(lambda: operator.locks or process.poll() is not None, what="the engine at work", deadline_s=COMMAND_S)
        until(
            lambda: b"f-a-n1" in operator.state.read_bytes() or process.poll() is not None, what="a change", deadline_s=COMMAND_S
        )
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=COMMAND_S)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "error: interrupted; what was made is in the state; run it again to go on"
    assert "Traceback" not in err
    assert operator.locks == []
    assert not (json.loads(operator.state.read_text())["checkpoint"]["latest"].get("pending_operations"))
    operator.write(SITE)
    operator.up()
    names = [each.name for each in operator.cloud.network.networks(project_id=operator.project(A))]
    assert names == ["default"]


def test_more_gpus_granted_than_there_are(operator, box):
    site = copy.deepcopy(SITE)
    site["tenants"][0]["openshift"] = {"quotas": {"gpus": {GPU: 3}}}
    site["node_pools"] = []  # with pools of its own and none with GPUs, the file itself would be wrong
    operator.write(site)
    with pools.simulated(box, [{"name": "f-gpu", "count": 1, "gpu": {"product": GPU, "count": 2}}]):
        code, out, err = operator.run("headroom", "--json")
    assert code == 2, out + err
    (row,) = (each for each in json.loads(out)["rows"] if GPU in each["what"])
    assert (row["cloud"], row["granted"], row["free"], row["state"]) == ("openshift", 3, -1, "over")
    code, out, err = operator.run("price", "--json", "--tenant", A, "--month", "2026-11")
    assert code == 0, out + err
    assert float(json.loads(out)["tenants"][A]) > 3 * 1.8 * 24 * 30


def test_the_state_has_no_secret_in_the_clear(operator):
    """Every secret that there is, looked for in every file of the state, its history and backups included."""
    secrets = set(leaves(operator.outputs()["secrets"]))
    headers = operator.swift(A).head_container("data")
    secrets |= {value for name, value in headers.items() if "temp-url-key" in name and value}
    for secret in operator.cluster.core.list_namespaced_secret(A).items:
        if secret.metadata.name.startswith("pfmoc"):
            secrets |= set(leaves(secret.data or {}))
    assert len(secrets) > 6
    for file in operator.directory.rglob("*"):
        if file.is_file():
            text = file.read_text(errors="replace")
            assert not [len(secret) for secret in secrets if secret in text], file


PUBLIC = frozenset({"OS_APPLICATION_CREDENTIAL_ID", "OS_AUTH_URL"})
"""What stands among a daemon's secrets, so that it comes with them, and is none."""


def leaves(value: Any) -> Iterator[str]:
    """All texts in a document that are long enough to be secrets. Shorter ones turn up anywhere by chance."""
    if isinstance(value, dict):
        for name, below in value.items():
            if name not in PUBLIC:
                yield from leaves(below)
    elif isinstance(value, list):
        for below in value:
            yield from leaves(below)
    elif isinstance(value, str) and len(value) > 20:
        yield value
