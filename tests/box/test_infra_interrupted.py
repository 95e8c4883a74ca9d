"""An `up` whose engine is killed, ten times at random moments, on both clouds: the next one makes the rest, and nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from harness.operators import COMMAND_S, OPENSHIFT, OPENSTACK, Operator, engines_below, operating
from harness.tenants import sdk_warnings
from harness.waiting import until

from infra.dead_engines import remains

pytestmark = sdk_warnings

NAME = "box-killed"
KILLS = 10
SEED = int(os.environ.get("PFMOC_SEED") or random.SystemRandom().randrange(2**32))
JITTER_S = 0.4


def tenant(index: int, port: int) -> dict[str, Any]:
    """The first one has of everything; of the others, every second is on OpenShift, and every second on OpenStack.

    :param port: the last one of the first one's rule: with another one, the rule is replaced
    """
    name = {"name": f"f-k{index}", "pi": "f@example.org"}
    if index % 2:
        return {**name, "openshift": {}}
    if index:
        return {**name, "openstack": {"quotas": {"object_bytes": "1 GiB"}}, "containers": [{"name": "data"}]}
    return {
        **name,
        "users": [{"name": f"f-k{index}-ann", "source": "local", "openshift_role": "edit"}],
        "openstack": {
            "quotas": {"object_bytes": "1 GiB"},
            "application_credential": {"valid_days": 9},
            "security_groups": [{"name": "web", "rules": [{"protocol": "tcp", "ports": [443, port]}]}],
        },
        "containers": [{"name": "data", "tempurl": {}}],
        "openshift": {},
    }


def last_port(tenants: int) -> int:
    """Each further tenant brings a rule that is replaced, too."""
    return 442 + tenants


def site(tenants: int) -> dict[str, Any]:
    """As many tenants, and as many servers of the first one."""
    pool = {
        "name": "f-kpool",
        "source": "nova",
        "size": tenants,
        "tenant": "f-k0",
        "image": "box-x86_64",
        "shape": {"vcpus": 1, "ram_mib": 512, "disk_gib": 1},
    }
    return {
        "name": NAME,
        "clouds": {"openstack": OPENSTACK, "openshift": OPENSHIFT},
        "tenants": [tenant(index, last_port(tenants)) for index in range(tenants)],
        "node_pools": [pool],
    }


@pytest.fixture(scope="module")
def operator(box, tmp_path_factory) -> Iterator[Operator]:
    assert box.kubeconfig
    with operating(box, tmp_path_factory.mktemp("killed"), site(1), up=False) as made:
        yield made


def known(operator: Operator) -> int:
    """How many resources the state has, those that are being made included."""
    return operator.state.read_text().count('"urn":') if operator.state.exists() else 0


def killed(operator: Operator, process: subprocess.Popen[str], resources: int, jitter_s: float) -> list[int]:
    """Kill the engine when the state has so many resources, and a moment more; none when it was faster."""
    until(
        lambda: process.poll() is not None or known(operator) >= resources,
        what=f"{resources} resources in the state",
        deadline_s=COMMAND_S,
    )
    end = time.monotonic() + jitter_s
    until(lambda: time.monotonic() > end or process.poll() is not None, what="the moment")
    engines = engines_below(process.pid)
    for engine in engines:
        with suppress(ProcessLookupError):  # it was faster
            os.kill(engine, signal.SIGKILL)
    process.communicate(timeout=COMMAND_S)
    return engines


def rules(cloud: Any, project: str) -> list[str]:
    """The rules of a project's groups that are for some ports."""
    found = cloud.network.security_group_rules(project_id=project)
    return [f"{each.port_range_min}-{each.port_range_max}" for each in found if each.port_range_min]


def present(operator: Operator) -> Counter[str]:
    """What the clouds have of the site, by name and as often as it is there."""
    cloud, found = operator.cloud, Counter[str]()
    for project in cloud.identity.projects():
        if project.name.startswith("f-k"):
            found[f"project {project.name}"] += 1
            network = cloud.network
            for kind in ("networks", "subnets", "routers", "security_groups"):
                found.update(f"{kind} {project.name}/{each.name}" for each in getattr(network, kind)(project_id=project.id))
            found.update(f"rule {project.name}/{rule}" for rule in rules(cloud, project.id))
            servers = cloud.compute.servers(all_projects=True, project_id=project.id)
            found.update(f"server {project.name}/{each.name}" for each in servers)
            containers = operator.swift(project.name).get_account()[1]
            found.update(f"container {project.name}/{each['name']}" for each in containers)
    for user in cloud.identity.users():
        if user.name.startswith("f-k"):
            found[f"user {user.name}"] += 1
            credentials = cloud.identity.application_credentials(user.id)
            found.update(f"credential {user.name}/{each.name}" for each in credentials)
    found.update(f"group {each.name}" for each in cloud.identity.groups() if each.name.startswith("f-k"))
    found.update(f"flavor {each.name}" for each in cloud.compute.flavors(is_public=None) if each.name.startswith("f-k"))
    namespaces = operator.cluster.core.list_namespace(label_selector="chrisproject.org/tenant").items
    found.update(f"namespace {each.metadata.name}" for each in namespaces if each.metadata.name.startswith("f-k"))
    return found


def expected(tenants: int) -> Counter[str]:
    """What there has to be, each once."""
    found = Counter({f"server f-k0/f-kpool-{index}": 1 for index in range(tenants)}) + Counter(["flavor f-kpool"])
    found.update(["namespace f-k0", "user f-k0-ann", "credential f-k0-pfmoc/pfmoc-member-1"])
    found.update(["group f-k0-member", "security_groups f-k0/web", f"rule f-k0/443-{last_port(tenants)}"])
    for index in range(tenants):
        name = f"f-k{index}"
        if index % 2:
            found.update([f"namespace {name}"])
            continue
        found.update([f"project {name}", f"user {name}-pfmoc", f"container {name}/data", f"routers {name}/{name}"])
        found.update([f"{kind} {name}/default" for kind in ("networks", "subnets", "security_groups")])
    return found


def test_an_engine_that_is_killed_leaves_nothing_twice(operator, tell):
    tell(f"PFMOC_SEED={SEED}")
    draw = random.Random(SEED)  # noqa: S311 - it draws moments
    each, hits = 40, 0
    for index in range(KILLS):
        operator.write(site(index + 1))
        before = known(operator)
        # By turns: the command, killed in its preview or after it, and plain pulumi, killed while it makes things.
        moment, jitter_s = before + draw.randint(1, each), draw.uniform(0, JITTER_S)
        began = time.monotonic()
        if index % 4 == 1:
            process = operator.start("up", "--yes", "--no-refresh")
        elif index:
            process = operator.start_pulumi("up", "--yes", "--skip-preview", "--stack", NAME)
        else:
            process = operator.start("up", "--yes")
        with process:
            engines = killed(operator, process, moment, jitter_s)
        left = json.loads(operator.state.read_text())["checkpoint"]["latest"] or {}
        pending = [each["resource"]["urn"].rpartition("::")[2] for each in left.get("pending_operations") or ()]
        stopped = time.monotonic()
        hits += bool(engines)
        said = operator.up()
        assert [process for engine in engines for process in remains(engine)] == [], "its plugins and its program outlive it"
        tell(
            f"kill {index}: {'hit' if engines else 'too late'} after {stopped - began:.1f} s"
            f" at {known(operator) - before} resources, {len(pending)} of them open ({', '.join(pending)});"
            f" {said.splitlines()[-1]}"
        )
        assert present(operator) == expected(index + 1)
        each = 10  # what each further tenant takes
    assert hits >= KILLS - 2
    operator.require_in_step()
