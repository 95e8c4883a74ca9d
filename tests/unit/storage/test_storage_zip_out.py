"""Zips that go out: whole, in ranges, and never wrong."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from harness.trees import contents, plant
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_kit import names, open_files

from pfmoc.errors import NoSuchData
from pfmoc.storage import packing, zip_format, zip_out
from pfmoc.storage.packing import Changed, Memory
from pfmoc.storage.zip_out import Plan

SOURCE = {
    "a": b"",
    "b/small": b"x" * 1000,
    "b/c/\u00e9": os.urandom(3000),
    "big": bytes(700_000) + os.urandom(700_000),
    "z/noise": os.urandom(300_000),
}


async def received(plan: Plan, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(plan.stream(start, stop)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def sent(root: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(await packed(root)))


async def packed(root: Path) -> bytes:
    return await received(await zip_out.plan(root))


def unpacked(archive: zipfile.ZipFile) -> dict[str, bytes]:
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


async def test_a_tree_arrives_whole(tmp_path: Path):
    plant(tmp_path, SOURCE)
    plan = await zip_out.plan(tmp_path)
    assert (plan.files, plan.size) == (5, sum(map(len, SOURCE.values())))
    archive = await sent(tmp_path)
    assert unpacked(archive) == SOURCE
    assert archive.namelist() == ["a", "big", "b/small", "b/c/\u00e9", "z/noise"]
    assert {stat.S_IMODE(info.external_attr >> 16) for info in archive.infolist()} == {0o644}


async def test_an_empty_tree_is_a_valid_zip_of_22_bytes(tmp_path: Path):
    (tmp_path / "empty/directory").mkdir(parents=True)
    assert len(await received(await zip_out.plan(tmp_path))) == 22
    assert (await sent(tmp_path)).namelist() == []


async def test_no_directory_has_no_zip(tmp_path: Path):
    plant(tmp_path, {"file": ""})
    for name in ("absent", "file"):
        with pytest.raises(NoSuchData):
            await zip_out.plan(tmp_path / name)


async def test_only_regular_files_are_sent(tmp_path: Path):
    plant(tmp_path / "secret", {"key": "secret"})
    plant(tmp_path / "out", {"real/x": "x", "l.chrislink": "home/x"})
    (tmp_path / "out/file").symlink_to(tmp_path / "secret/key")
    (tmp_path / "out/directory").symlink_to(tmp_path / "secret")
    (tmp_path / "out/hole").symlink_to("nowhere")
    os.mkfifo(tmp_path / "out/fifo")
    assert unpacked(await sent(tmp_path / "out")) == {"real/x": b"x"}


async def test_a_name_that_is_not_utf8_arrives_as_code_page_437(tmp_path: Path):
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"latin 1")
    archive = await sent(tmp_path)
    assert unpacked(archive) == {b"caf\xe9".decode("cp437"): b"latin 1"}


@pytest.mark.parametrize("seconds", [-1e9, 0, 1e9, 1e11])
async def test_any_time_can_be_told(tmp_path: Path, seconds: float):
    plant(tmp_path, {"x": "x"})
    os.utime(tmp_path / "x", (seconds, seconds))
    (info,) = (await sent(tmp_path)).infolist()
    assert 1980 <= info.date_time[0] <= 2107
    if seconds == 1e9:
        assert info.date_time == (2001, 9, 9, 1, 46, 40)


async def test_the_measured_length_is_the_length(tmp_path: Path):
    plant(tmp_path, SOURCE)
    plan = await zip_out.plan(tmp_path)
    assert plan.length is None
    assert await plan.measure() == plan.length == len(await received(plan))


async def test_equal_trees_looked_over_twice_are_equal_archives(tmp_path: Path):
    plant(tmp_path, SOURCE)
    first, second = await zip_out.plan(tmp_path), await zip_out.plan(tmp_path)
    assert first.tag == second.tag
    assert await received(first) == await received(second)
    plant(tmp_path, {"b/small": b"y" * 1000})
    assert (await zip_out.plan(tmp_path)).tag != first.tag


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, bytes]:
    root = tmp_path_factory.mktemp("served")
    plant(root, SOURCE | {f"many/{index}": os.urandom(index) for index in range(50)})

    async def look() -> tuple[Plan, bytes]:
        plan = await zip_out.plan(root)
        return plan, await received(plan)

    return asyncio.run(look())


@given(st.data(), st.booleans())
@settings(max_examples=60)
def test_any_range_is_a_slice_of_the_whole(served: tuple[Plan, bytes], data: st.DataObject, forget: bool):
    plan, whole = served
    start = data.draw(st.integers(0, len(whole) - 1) | st.integers(len(whole) - 5000, len(whole) - 1))
    stop = data.draw(st.none() | st.integers(start + 1, len(whole)))
    if forget:
        zip_out._MEMORY = Memory()
    assert asyncio.run(received(plan, start, stop)) == whole[start:stop]


async def test_a_range_reads_no_file_that_it_can_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plant(tmp_path, SOURCE)
    plan = await zip_out.plan(tmp_path)
    whole = await received(plan)
    packed: list[str] = []
    pack = packing.pack
    monkeypatch.setattr(packing, "pack", lambda level, name, stop: packed.append(name) or pack(level, name, stop))
    end = zipfile.ZipFile(io.BytesIO(whole)).start_dir
    assert await received(plan, end) == whole[end:]
    assert packed == []
    assert await plan.measure() == len(whole)
    assert packed == []
    assert await received(plan, end - 10, end) == whole[end - 10 : end]
    assert packed == ["noise"]


def modify(root: Path) -> None:
    (root / "z/noise").write_bytes(b"another")


def modify_in_place(root: Path) -> None:
    with (root / "b/small").open("r+b") as file:
        file.write(b"y")
    os.utime(root / "b/small", ns=(0, 0))


def vanish(root: Path) -> None:
    (root / "b/small").unlink()


def appear(root: Path) -> None:
    (root / "zz").touch()


def swap(root: Path) -> None:
    (root / "z/noise").unlink()
    (root / "z/noise").symlink_to("/etc/passwd")


def swap_directory(root: Path) -> None:
    (root / "z").rename(root / "y")
    (root / "z").symlink_to("y")


@pytest.mark.parametrize("change", [modify, modify_in_place, vanish, appear, swap, swap_directory])
@pytest.mark.parametrize("way", ["whole", "range", "measure"])
async def test_a_change_breaks_the_stream(tmp_path: Path, change: Callable[[Path], None], way: str):
    plant(tmp_path, SOURCE)
    plan = await zip_out.plan(tmp_path)
    if way == "range":
        await plan.measure()
    change(tmp_path)
    with pytest.raises(Changed):
        await (plan.measure() if way == "measure" else received(plan, 0, 500 if way == "range" else None))


@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
async def test_a_change_in_mid_stream_breaks_it(tmp_path: Path, change: str):
    plant(tmp_path, {"big": os.urandom(8 << 20), "late": b"x"})
    plan = await zip_out.plan(tmp_path)
    async with aclosing(plan.stream()) as chunks:
        assert await anext(chunks)
        if change == "touch":
            os.utime(tmp_path / "big", ns=(1, 1))
        else:
            os.truncate(tmp_path / "big", (16 if change == "grow" else 4) << 20)
        with pytest.raises(Changed):
            assert [chunk async for chunk in chunks] == []


async def test_a_client_that_goes_away_leaves_no_file_open(tmp_path: Path):
    plant(tmp_path, {"big": os.urandom(8 << 20)})
    before = open_files()
    chunks = (await zip_out.plan(tmp_path)).stream()
    assert await anext(chunks)
    assert open_files() > before
    await chunks.aclose()
    assert open_files() == before


async def test_a_cancelled_reader_leaves_no_file_open(tmp_path: Path):
    plant(tmp_path, {"big": os.urandom(8 << 20)})
    plan = await zip_out.plan(tmp_path)
    before = open_files()
    reading = asyncio.Event()

    async def read_slowly() -> None:
        async with aclosing(plan.stream()) as chunks:
            async for _ in chunks:
                reading.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(read_slowly())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_files() == before


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that fields of 32 and 16 bits hold next to nothing."""
    monkeypatch.setattr(packing, "_LARGE", 500_000)
    monkeypatch.setattr(zip_format, "MAX16", 3)
    monkeypatch.setattr(zip_out, "_MEMORY", Memory())


@pytest.mark.usefixtures("narrow")
async def test_sizes_and_counts_beyond_their_fields_get_zip64(tmp_path: Path):
    plant(tmp_path, SOURCE)
    plan = await zip_out.plan(tmp_path)
    whole = await received(plan)
    assert b"PK\x06\x06" in whole[-200:]
    assert unpacked(zipfile.ZipFile(io.BytesIO(whole))) == SOURCE
    assert await plan.measure() == len(whole)


def test_offsets_beyond_32_bits_get_zip64():
    far = zip_format.Entry(name=b"x", method=0, crc=0, packed=1, size=1, offset=5 << 32)
    record = zip_format.central_record(far)
    info = zipfile.ZipInfo("x")
    info.file_size, info.compress_size, info.header_offset = 1, 1, 0xFFFFFFFF
    info.extra = record[47:]
    info._decodeExtra()  # type: ignore[attr-defined]  # what a reader does with it
    assert (info.file_size, info.compress_size, info.header_offset) == (1, 1, 5 << 32)
    end = zip_format.end_records(count=70_000, size=5 << 32, offset=6 << 32)
    assert end[:4] == b"PK\x06\x06"
    assert end[-22:] == b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2)


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no Info-ZIP here")
def test_info_zip_reads_what_is_sent(tmp_path: Path):
    plant(tmp_path / "source", SOURCE)
    (tmp_path / "z.zip").write_bytes(asyncio.run(packed(tmp_path / "source")))
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["unzip", "-qq", tmp_path / "z.zip", "-d", tmp_path / "out"],
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
    )
    assert contents(tmp_path / "out") == SOURCE


async def test_a_long_central_directory_waits_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zip_out, "_CENTRAL_IN_MEMORY", 100)
    plant(tmp_path / "source", SOURCE)
    (tmp_path / "scratch").mkdir()
    plan = await zip_out.plan(tmp_path / "source", scratch=tmp_path / "scratch")
    assert unpacked(zipfile.ZipFile(io.BytesIO(await received(plan)))) == SOURCE
    assert names(tmp_path / "scratch") == []
