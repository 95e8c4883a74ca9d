"""Sites for the tests of infra."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from fakes.clouds import MockClouds
from pulumi.runtime.stack import run_pulumi_func

from infra.spec import Problem, Site, SiteError, parse

with warnings.catch_warnings():
    # The package warns of its own aliases when it is imported.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="pulumi_openstack")
    from infra.deployment import deploy
    from infra.keys import Keys
    from infra.providers import CloudEntry

TODAY = date(2026, 11, 21)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def document() -> dict[str, Any]:
    """A small site with both clouds, sane."""
    return {
        "name": "small",
        "clouds": {
            "openstack": {"cloud": "small", "external_network": "external", "storage_policies": ["standard", "gold"]},
            "openshift": {"context": "small", "machine_cluster": "small-x1"},
        },
        "tenants": [
            {
                "name": "chris",
                "pi": "ann",
                "users": [{"name": "ann", "source": "local", "openshift_role": "admin"}, {"name": "bob"}],
                "openstack": {"application_credential": {"valid_days": 30}},
                "containers": [{"name": "data", "storage_policy": "gold", "tempurl": {}}],
                "openshift": {"quotas": {"limits_cpu": 16, "limits_memory_mib": 65536, "gpus": {"Tesla-V100-PCIE-32GB": 2}}},
            },
            {
                "name": "other",
                "pi": "eve@example.org",
                "users": [{"name": "eve"}],
                "openstack": {},
                "openshift": {},
            },
        ],
        "node_pools": [
            {
                "name": "gpu",
                "source": "nova",
                "size": 2,
                "tenant": "chris",
                "image": "linux",
                "shape": {"vcpus": 8, "ram_mib": 16384},
                "gpu": {"product": "Tesla-V100-PCIE-32GB", "count": 1, "driver": "550"},
            },
            {
                "name": "big",
                "source": "existing",
                "size": 1,
                "nodes": ["node-1"],
                "shape": {"vcpus": 64, "ram_mib": 262144},
            },
        ],
        "daemon": {
            "tenant": "chris",
            "compute": "kubernetes",
            "storage": "swift",
            "image": "pfmoc",
            "limits": {"cpu_m": 500},
            "job_limits": {"cpu_m": 4000, "memory_mib": 8192},
        },
    }


@pytest.fixture
def read() -> Callable[..., tuple[Site, tuple[Problem, ...]]]:
    """Read a document as the text of a site file would be."""
    return lambda document, **kwargs: parse(yaml.safe_dump(document, sort_keys=False), today=TODAY, **kwargs)


@pytest.fixture
def problems(read) -> Callable[..., list[str]]:
    """All that is wrong with a document, a line each."""

    def of(document: dict[str, Any], **kwargs: Any) -> list[str]:
        try:
            _, found = read(document, **kwargs)
        except SiteError as error:
            found = error.problems
        return [problem.text() for problem in found]

    return of


@pytest.fixture(scope="session")
def deployments() -> dict[str, MockClouds]:
    """What was deployed already, by what was asked for."""
    return {}


@pytest.fixture
def deployed(deployments) -> Callable[..., MockClouds]:
    """Deploy a site to mock clouds. What was made is known when the call returns; the stack's outputs are ``exported``."""

    def deploy_to_mocks(site: Site, **kwargs: Any) -> MockClouds:
        asked = f"{site.model_dump_json()} {kwargs}"
        if asked in deployments:
            return deepcopy(deployments[asked])
        clouds = MockClouds()
        entry = CloudEntry(auth_url="http://keystone.example.org/v3", region="RegionOne")

        async def program() -> None:
            pulumi.runtime.set_mocks(clouds, project="pfmoc", stack=site.name, preview=False)
            keys = Keys(pulumi.Output.secret("a seed for tests"))
            outputs = deploy(site, entry=entry, keys=keys, today=TODAY, **kwargs)
            clouds.exported = await pulumi.Output.from_input(outputs).future()

        # Pulumi's mock monitor gives each thread that it is called in a loop, and closes none.
        loops: list[asyncio.AbstractEventLoop] = []

        def with_loop() -> None:
            loops.append(asyncio.new_event_loop())
            asyncio.set_event_loop(loops[-1])

        async def main() -> None:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=with_loop))
            pulumi.runtime.settings.SETTINGS.rpc_manager.clear()
            pulumi.runtime.settings.SETTINGS.outputs.clear()
            await run_pulumi_func(program)

        try:
            asyncio.run(main())
        finally:
            for loop in loops:
                loop.close()
        deployments[asked] = deepcopy(clouds)
        return clouds

    return deploy_to_mocks
