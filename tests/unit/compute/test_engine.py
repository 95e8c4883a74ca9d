import pytest
from aiodocker import DockerError

from pfmoc.compute.engine import says_absent


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
