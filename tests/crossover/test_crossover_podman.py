"""The same crossing with different compute: processes on one side, containers on the other. Skips where podman runs none."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from harness import podman
from harness.crossing import Site, node, run, write_resources, write_workflow
from harness.trees import contents


@pytest.fixture(scope="module")
def engine():
    try:
        service = podman.PodmanService()
    except podman.PodmanDoesNotWork as reason:
        pytest.skip(str(reason))
    service.start()
    yield service
    service.close()


async def test_a_workflow_crosses_from_a_process_to_a_container_and_back(tmp_path, engine):
    with ExitStack() as stack:
        bare = Site(tmp_path / "bare", STORAGE_ENV="fslink")
        stack.callback(bare.stop)
        boxed = Site(
            tmp_path / "boxed",
            CONTAINER_ENV="podman",
            COMPUTE_VOLUME_TYPE="host",
            DOCKER_HOST=engine.url,
            STOREBASE=tmp_path / "boxed" / "storeBase",
        )
        stack.callback(boxed.stop)
        resources = write_resources(
            tmp_path / "resources.yml",
            bare={"url": bare.url, "shared": str(bare.storebase)},
            boxed={"url": boxed.url},
        )
        script = 'cat "$0/a.txt" "$0/a.txt" > "$1/a.txt"'
        workflow = write_workflow(
            tmp_path / "w.yml",
            node("seed", "write", "a.txt=twice ", type="fs", resource="bare"),
            {
                "name": "boxed",
                "image": podman.IMAGE,
                "entrypoint": ["sh", "-c", script],
                "parents": ["seed"],
                "resource": "boxed",
                "limits": {"memory": 100},
            },
            node("home", "list", "home", resource="bare", parents=["boxed"]),
        )
        output = tmp_path / "out"
        code, command = await run(tmp_path, workflow, "--output", output, "--resources", resources, "--json")
        assert code == 0, command.stderr
        assert contents(output / "home")["a.txt"] == b"twice twice "
        assert bare.leftovers() == boxed.leftovers() == []
