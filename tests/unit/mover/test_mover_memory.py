"""The mover stays small, whatever it moves."""

from __future__ import annotations

import re
import shutil

import pytest
from fakes.store import BottomlessStore, pull_documents, tickets
from harness.pods import Pod

from pfmoc.data import Tickets

MAX_KIB = 100 << 10


@pytest.mark.skipif(shutil.which("python3") is None, reason="needs a Python to ask for the peak")
@pytest.mark.parametrize(("count", "size"), [(1500, 2000), (1, 128 << 20)], ids=["many", "large"])
async def test_neither_many_files_nor_a_large_one_make_it_grow(tmp_path, count, size):
    async with BottomlessStore(pull_documents(count, size)) as store:
        pull, publish = tickets(store.base)
        pod = Pod(tmp_path, Tickets(pull=pull, publish=publish))
        peak = [
            "python3",
            "-c",
            "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]);"
            "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(status)",
        ]
        pulled = await pod.pull(prefix=peak)
        assert (pulled.status, pulled.message["files"], pulled.message["bytes"]) == (0, count, count * size), pulled
        pod.outgoing.rmdir()
        pod.incoming.rename(pod.outgoing)
        published = await pod.publish(prefix=peak)
        assert (published.status, published.message["files"], published.message["bytes"]) == (0, count, count * size), published
    for ended in (pulled, published):
        found = re.search(r"peak (\d+)", ended.log)
        assert found
        assert int(found[1]) < MAX_KIB
