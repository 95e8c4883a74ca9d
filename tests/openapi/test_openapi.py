"""The running daemon against its own description, with questions that schemathesis makes up: the same ones each time."""

import asyncio
import os
import sys
from pathlib import Path

import harness
import pytest
from fakes.compute import FakeCompute
from harness.http import client

from pfmoc.compute.base import Compute
from pfmoc.compute.limits import check_reference

_HARNESS = Path(harness.__file__).parent
_DEADLINE_S = 300


class ThoroughCompute(FakeCompute):
    """Refuses what every real environment refuses, and is no container engine, whose refusals are beyond description."""

    def __init__(self) -> None:
        super().__init__(env="process")

    def check(self, image, limits):
        super().check(image, limits)
        check_reference(image)

    def follow(self, name):
        """Once, what there is: no run of these ever ends."""
        return Compute.follow(self, name)


@pytest.fixture
def compute():
    return ThoroughCompute()


async def schemathesis(daemon, *options):
    """Run schemathesis in a process of its own: it brings a pytest plugin, warnings and a thread pool along."""
    async with client(daemon.url) as api:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={_HARNESS / 'schemathesis.toml'}"),
            *("run", f"{daemon.url}/api/v1/openapi.json", f"--header=Authorization: Bearer {api.token}", "--no-color", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=daemon.settings.state_dir,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(_HARNESS.parent),
                "PYTHONWARNINGS": "error,ignore:Generating overly large repr",  # a failure's own account is cut anyway
                "SCHEMATHESIS_HOOKS": "harness.schemathesis_hooks",
            },
        )
    output, _ = await asyncio.wait_for(process.communicate(), _DEADLINE_S)
    assert process.returncode == 0, output.decode(errors="replace")[-20_000:]
    return output.decode()


async def test_what_is_described_is_what_is_answered(serve):
    async with serve("zipfile", PFMOC_GPUS=0) as daemon:
        output = await schemathesis(daemon, "--phases=coverage,fuzzing,stateful", "--max-examples=7")
    assert "Selected: 27/27" in output


@pytest.mark.parametrize(("storage", "collections"), [("filesystem", "pluginjobs"), ("fslink", "(plugin|copy)?jobs")])
async def test_the_same_in_the_network(serve, storage, collections):
    """But that no path that is made up exists, so that nothing can be said of what should be accepted."""
    async with serve(storage, PFMOC_GPUS=0) as daemon:
        jobs = [f"--include-path-regex=^/api/v1/{collections}/", "--exclude-checks=positive_data_acceptance"]
        await schemathesis(daemon, *jobs, "--phases=fuzzing", "--max-examples=7")


async def test_an_outage_is_answered_as_described_too(serve, compute):
    async with serve("zipfile", PFMOC_GPUS=0) as daemon:
        compute.unavailable = True
        jobs = ["--include-path-regex=^/api/v1/(plugin)?jobs/", "--exclude-checks=not_a_server_error"]
        await schemathesis(daemon, *jobs, "--phases=fuzzing", "--max-examples=5")
        assert "start" in compute.calls
