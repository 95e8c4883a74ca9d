"""A pod's disk that is full, has no inodes left, or cannot be written (faults 9): the pull fails, and says why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fakes.store import BottomlessStore, pull_documents, tickets
from harness.pods import Pod

from pfmoc.data import Tickets

FULL = "the pod's disk is full: the input needs more ephemeral storage than the job's limit"


@pytest.fixture
def mounts(tmp_path: Path) -> None:
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here")


@pytest.mark.parametrize(
    ("options", "count", "size", "reason"),
    [
        ("size=1m", 1, 4 << 20, FULL),
        ("size=1m", 300, 8000, FULL),
        ("size=64m,nr_inodes=50", 300, 0, FULL),
        ("ro", 1, 10, "cannot be written: Read-only file system"),
    ],
    ids=["one large file", "many files", "inodes", "read-only"],
)
async def test_a_disk_that_takes_no_more_fails_the_pull_at_once_with_the_reason(tmp_path, mounts, options, count, size, reason):
    async with BottomlessStore(pull_documents(count, size)) as store:
        pull, publish = tickets(store.base)
        pod = Pod(tmp_path, Tickets(pull=pull, publish=publish))
        mounted = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {options} none {pod.incoming} && exec "$@"', "sh"]
        ended = await pod.pull(prefix=mounted)
    assert ended.status == 1
    assert reason in ended.message["error"]
    assert pod.pulled() == {}, "it was another disk"
