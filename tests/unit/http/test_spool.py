import asyncio
import errno
import os

import pytest

from pfmoc import spool as spool_module
from pfmoc.errors import StorageFull, StorageUnavailable
from pfmoc.spool import Spool


async def test_an_upload_is_a_private_file_and_gone_afterwards(tmp_path):
    spool = Spool(tmp_path)
    async with spool.file() as file:
        for _ in range(40):
            file.append(b"x" * 65536)
            await file.flush(at_least=1 << 20)
        await file.flush()
        assert file.path.stat().st_size == file.size == 40 * 65536
        assert file.path.stat().st_mode & 0o777 == 0o600
        assert file.path.parent.stat().st_mode & 0o777 == 0o700
        assert file.path.parent == tmp_path / ".pfmoc" / "spool"
    assert not list(file.path.parent.iterdir())


async def test_a_failed_request_leaves_nothing(tmp_path):
    spool = Spool(tmp_path)
    paths = []

    async def request():
        async with spool.file() as file:
            paths.append(file.path)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await request()
    assert not paths[0].exists()


async def test_a_start_removes_what_the_dead_left_and_spares_what_the_living_receive(tmp_path):
    spool = Spool(tmp_path)
    assert spool.clear() == 0
    async with spool.file() as file:
        dead = file.path.with_name("dead.part")
        dead.write_bytes(b"leftover")
        assert Spool(tmp_path).clear() == 1
        assert file.path.exists()
        assert not dead.exists()


async def test_an_absent_storebase_is_not_made(tmp_path):
    spool = Spool(tmp_path / "not-mounted")
    assert spool.clear() == 0
    with pytest.raises(StorageUnavailable):
        async with spool.file():
            pass
    assert not (tmp_path / "not-mounted").exists()


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EROFS, StorageUnavailable)]
)
async def test_a_full_or_broken_disk_is_told_apart_and_leaves_nothing(tmp_path, monkeypatch, number, error):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(spool_module, "_write_all", fail)
    async with Spool(tmp_path).file() as file:
        file.append(b"x")
        with pytest.raises(error):
            await file.flush()
    assert not file.path.exists()


async def test_a_cancelled_request_leaves_nothing(tmp_path):
    spool = Spool(tmp_path)
    entered = asyncio.Event()

    async def request():
        async with spool.file() as file:
            file.append(b"x")
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(request())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list((tmp_path / ".pfmoc" / "spool").iterdir())
