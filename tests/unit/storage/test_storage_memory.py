"""Memory does not grow with the payload: both ways it is larger than all the address space that the process may have."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

PAYLOAD = 384 << 20
ADDRESS_SPACE = 320 << 20

PROGRAM = """
import asyncio, resource, sys
from contextlib import aclosing
from pathlib import Path

from pfmoc.storage import zip_out
from pfmoc.storage.base import Inputs
from pfmoc.storage.handover import Handover
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.zip_in import Limits
from pfmoc.storage.zipfile import ZipfileStorage

base, upload, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

async def main():
    storage = ZipfileStorage(
        storebase=StoreBase(base), handover=Handover(same_user=True), limits=Limits(entries=10, size=1 << 40, ratio=1 << 40)
    )
    staged = await storage.stage(Inputs(jid="job", upload=upload))
    print((staged.path / "payload").stat().st_size)
    async with aclosing((await zip_out.plan(staged.path)).stream()) as chunks:
        with open(upload, "wb") as file:
            async for chunk in chunks:
                file.write(chunk)

asyncio.run(main())
try:
    bytearray(limit)
except MemoryError:
    print("limited")
"""


def test_a_payload_larger_than_the_address_space_goes_in_and_out(tmp_path: Path):
    (tmp_path / "base").mkdir()
    upload = tmp_path / "upload.zip"
    noise = os.urandom(1 << 20)
    with zipfile.ZipFile(upload, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("payload", "w") as file:
        for index in range(PAYLOAD >> 20):
            file.write(noise if index % 128 == 0 else bytes(1 << 20))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "base", upload, str(ADDRESS_SPACE)],
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(PAYLOAD), "limited"]
    with zipfile.ZipFile(upload) as archive:
        assert archive.getinfo("payload").file_size == PAYLOAD
        assert archive.testzip() is None
