from types import SimpleNamespace
from typing import Any

import pytest
from aiodocker import DockerError

from pfmoc.compute import podman as podman_module
from pfmoc.compute.engine import says_absent
from pfmoc.compute.podman import PodmanCompute
from pfmoc.errors import ComputeRefused


@pytest.mark.parametrize(
    ("status", "message", "absent"),
    [
        (404, "no such container", True),
        (500, "container 2f55 does not exist in database: no such container", True),
        (500, "database is locked", False),
        (409, "no such container", False),
    ],
)
def test_a_container_that_vanishes_while_podman_looks_at_it_is_absent(status, message, absent):
    assert says_absent(DockerError(status, message)) is absent


ENDING = DockerError(500, "read /proc/27138/cgroup: no such process")


class TellsInTurn:
    """An engine that answers one thing after the other, and an aiodocker whose questions are nothing."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.containers = SimpleNamespace(container=lambda _name: SimpleNamespace(show=lambda: None))

    async def ask(self, _question: None) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def podman(monkeypatch):
    monkeypatch.setattr(podman_module, "_ENDS_S", (0, 0))

    def made(*answers: Any) -> PodmanCompute:
        compute = PodmanCompute.__new__(PodmanCompute)
        compute._engine = compute._docker = TellsInTurn(*answers)
        return compute

    return made


async def test_a_container_whose_process_ends_while_podman_looks_at_it_is_looked_at_again(podman):
    assert await podman(ENDING, ENDING, {"Name": "/job"})._inspected("job") == {"Name": "/job"}
    with pytest.raises(ComputeRefused, match="job: read /proc/27138/cgroup"):
        await podman(ENDING, ENDING, ENDING)._inspected("job")
    with pytest.raises(ComputeRefused, match="database is locked"):
        await podman(DockerError(500, "database is locked"))._inspected("job")
