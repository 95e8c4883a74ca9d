"""A full disk, one without inodes and one that is read-only (faults 9): the job fails, and nothing of it remains."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness.trees import contents, plant
from storage_kit import MakeZip, names

from pfmoc.errors import NoSuchData, StorageFull, StorageUnavailable, TooLarge
from pfmoc.storage import zip_in
from pfmoc.storage.base import Inputs
from pfmoc.storage.failures import translated
from pfmoc.storage.fslink import FslinkStorage
from pfmoc.storage.handover import Handover
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.zip_in import Limits
from pfmoc.storage.zipfile import ZipfileStorage

Mount = Callable[[str], Path]


@pytest.fixture
def mount(base: Path) -> Iterator[Mount]:
    """A small file system of its own, with options."""
    mounted = []

    def make(options: str) -> Path:
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", base], capture_output=True, text=True, check=False
        )
        if tried.returncode:
            pytest.skip(f"cannot mount a tmpfs: {tried.stderr.strip() or 'not permitted'}")
        mounted.append(base)
        return base

    yield make
    for path in mounted:
        subprocess.run(["umount", path], check=True)


def storage_on(base: Path) -> ZipfileStorage:
    limits = Limits(entries=10_000, size=1 << 40, ratio=1 << 40)
    return ZipfileStorage(storebase=StoreBase(base), handover=Handover(same_user=True), limits=limits)


def test_a_disk_that_fills_while_unpacking(mount: Mount, make_zip: MakeZip, monkeypatch: pytest.MonkeyPatch):
    base = mount("size=4m")
    plant(base, {"key-other/incoming/x": "theirs"})
    storage = storage_on(base)
    archive = make_zip({f"{index}": os.urandom(1 << 20) for index in range(8)})
    # The look at the room beforehand would end it early: others may fill a disk after that look.
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096,) * 10))
    with pytest.raises(StorageFull, match="no space or inodes left"):
        asyncio.run(storage.stage(Inputs(jid="job", upload=archive)))
    assert contents(base) == {"key-other/incoming/x": b"theirs"}
    asyncio.run(storage.probe())


def test_a_disk_without_inodes(mount: Mount, make_zip: MakeZip):
    base = mount("size=64m,nr_inodes=100")
    archive = make_zip({f"{index}": b"" for index in range(500)})
    with pytest.raises(StorageFull):
        asyncio.run(storage_on(base).stage(Inputs(jid="job", upload=archive)))
    assert names(base) == []


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_disk_that_fills_while_copying(mount: Mount, hard_links: bool):
    base = mount("size=4m,nr_inodes=60")
    plant(base, {f"home/in/{index}": os.urandom(50_000) for index in range(40)})
    (base / "home/out").mkdir()
    if hard_links:  # links need no inode on most systems, but on a tmpfs they do
        plant(base, {f"home/fill/{index}": "" for index in range(5)})
    storage = FslinkStorage(storebase=StoreBase(base), handover=Handover(same_user=True), hard_links=hard_links, limit=1000)
    with pytest.raises(StorageFull):
        asyncio.run(storage.stage(Inputs(jid="job", input_dirs=["home/in"], output_dir="home/out")))
    assert names(base) == ["home"]


def test_a_read_only_disk(mount: Mount, make_zip: MakeZip):
    base = mount("size=4m")
    plant(base, {".pfmoc/x": "", "key-job/incoming/x": ""})
    subprocess.run(["mount", "-o", "remount,ro", base], check=True)
    storage = storage_on(base)
    for work in (storage.probe(), storage.stage(Inputs(jid="new", upload=make_zip({"x": b""}))), storage.discard("job")):
        with pytest.raises(StorageUnavailable, match="Read-only"):
            asyncio.run(work)
    assert asyncio.run(storage.holds("job"))


def test_a_probe_of_a_full_disk_says_so(mount: Mount):
    base = mount("size=64k")
    with suppress(OSError), (base / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(StorageFull):
        asyncio.run(storage_on(base).probe())
    assert names(base / ".pfmoc") == []


def test_a_storebase_that_is_not_there(tmp_path: Path):
    with pytest.raises(StorageUnavailable, match="does not exist"):
        asyncio.run(storage_on(tmp_path / "absent").probe())


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EROFS, StorageUnavailable),
        (errno.EIO, StorageUnavailable),
        (errno.ESTALE, StorageUnavailable),
        (errno.EACCES, StorageUnavailable),
        (errno.EMFILE, StorageUnavailable),
        (errno.ENOENT, NoSuchData),
        (errno.ENOTDIR, NoSuchData),
        (errno.ENAMETOOLONG, TooLarge),
    ],
)
def test_every_failure_has_its_name_and_no_path(number: int, expected: type[Exception]):
    error = translated(OSError(number, os.strerror(number), "/secret/place"))
    assert type(error) is expected
    assert "secret" not in error.message


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT])
def test_a_failing_disk_leaves_nothing(base: Path, make_zip: MakeZip, monkeypatch: pytest.MonkeyPatch, number: int):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(zip_in, "_write", fail)
    with pytest.raises((StorageFull, StorageUnavailable)):
        asyncio.run(storage_on(base).stage(Inputs(jid="job", upload=make_zip({"a/b": b"x"}))))
    assert names(base) == []
