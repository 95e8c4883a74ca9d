"""Zips that come in: honest ones whole, hostile ones not at all (faults 11 to 13)."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import subprocess
import tempfile
import zipfile
import zlib
from pathlib import Path

import pytest
from harness.trees import contents, plant
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_kit import Forged, MakeZip, forge, names

from pfmoc.errors import InvalidRequest, PfmocError, StorageFull, TooLarge
from pfmoc.storage import batches, zip_format, zip_in
from pfmoc.storage.base import Inputs
from pfmoc.storage.handover import Handover
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.workers import Stop
from pfmoc.storage.zip_in import Limits
from pfmoc.storage.zipfile import ZipfileStorage

LIMITS = Limits(entries=1000, size=1 << 30, ratio=200)
NAME = st.text(st.characters(exclude_characters="/\\\0:", exclude_categories=("Cs",)), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200 and not name.endswith(".chrislink")
)


async def stage(storage: ZipfileStorage, archive: Path) -> dict[str, bytes]:
    staged = await storage.stage(Inputs(jid="job", upload=archive))
    assert staged.path == (await storage.data(Inputs(jid="job"), lifetime_s=1)).incoming
    return contents(staged.path)


async def test_an_honest_zip_is_unpacked(zip_storage: ZipfileStorage, make_zip: MakeZip):
    files = {"a/b/c.dcm": bytes(100_000), "a/\u00e9\u4e2d": b"x", "empty": b"", "a/ leading blank": os.urandom(600_000)}
    archive = make_zip(files | {"directory/": b"", "a/": b""})
    staged = await zip_storage.stage(Inputs(jid="job", upload=archive))
    assert contents(staged.path) == files
    assert (staged.path / "directory").is_dir()
    assert staged.nfiles == 6
    assert names(staged.path.parent) == ["incoming", "outgoing"]


async def test_modes_are_ours_whatever_the_zip_and_the_umask_say(zip_storage: ZipfileStorage, tmp_path: Path):
    archive = forge(
        tmp_path / "z",
        [Forged(name=b"d/s", mode=stat.S_IFREG | 0o7777), Forged(name=b"d/n", mode=0), Forged(name=b"d/z", mode=0o100)],
    )
    before = os.umask(0o077)
    try:
        await stage(zip_storage, archive)
    finally:
        os.umask(before)
    incoming = (await zip_storage.data(Inputs(jid="job"), lifetime_s=1)).incoming
    assert {stat.S_IMODE(path.stat().st_mode) for path in (incoming / "d").iterdir()} == {0o644}
    assert stat.S_IMODE((incoming / "d").stat().st_mode) == 0o755
    assert stat.S_IMODE(incoming.stat().st_mode) == 0o755


async def test_a_zip_without_entries_is_an_empty_input(zip_storage: ZipfileStorage, make_zip: MakeZip):
    assert await stage(zip_storage, make_zip({})) == {}


async def test_what_an_earlier_attempt_left_is_gone(zip_storage: ZipfileStorage, make_zip: MakeZip, base: Path):
    plant(base / "key-job", {"incoming/old": "", ".partial/half": "", "outgoing/result": "", "job_params.json": ""})
    assert await stage(zip_storage, make_zip({"new": b""})) == {"new": b""}
    assert names(base / "key-job") == ["incoming", "outgoing"]
    assert names(base / "key-job/outgoing") == []


async def test_a_bad_zip_leaves_the_earlier_attempt_alone(zip_storage: ZipfileStorage, tmp_path: Path, base: Path):
    plant(base / "key-job", {"incoming/old": ""})
    with pytest.raises(InvalidRequest):
        await stage(zip_storage, forge(tmp_path / "z", [Forged(name=b"../x")]))
    assert contents(base) == {"key-job/incoming/old": b""}


def deflated(content: bytes) -> bytes:
    return zlib.compress(content, 9, wbits=-15)


HOSTILE = {
    "upwards": ([Forged(name=b"../up")], "leads upwards"),
    "upwards later": ([Forged(name=b"fine"), Forged(name=b"a/../../up")], "leads upwards"),
    "upwards as a directory": ([Forged(name=b"a/../", content=b"", packed=b"")], "leads upwards"),
    "absolute": ([Forged(name=b"/etc/x")], "absolute"),
    "network path": ([Forged(name=b"//host/x")], "absolute"),
    "drive": ([Forged(name=b"C:x")], "absolute"),
    "drive and backslash": ([Forged(name=b"c:\\x")], "absolute"),
    "backslash": ([Forged(name=b"..\\up")], "backslash"),
    "backslash in the middle": ([Forged(name=b"a\\..\\up")], "backslash"),
    "NUL": ([Forged(name=b"a\0b")], "NUL"),
    "long name": ([Forged(name=b"a" * 5000)], "too long"),
    "long component": ([Forged(name=b"a" * 256)], "too long"),
    "long component in UTF-8": ([Forged(name="\u00e9".encode() * 128, flags=zip_format.UTF8)], "too long"),
    "long path": ([Forged(name=b"a/" * 2000 + b"a")], "too long"),
    "not UTF-8": ([Forged(name=b"\xff\xfe", flags=zip_format.UTF8)], "not UTF-8"),
    "no name": ([Forged(name=b"")], "no name"),
    "dot": ([Forged(name=b".")], "no name"),
    "twice": ([Forged(name=b"a"), Forged(name=b"a")], "is there twice"),
    "twice, written otherwise": ([Forged(name=b"a/b"), Forged(name=b"a/./b")], "is there twice"),
    "twice, in two encodings": (
        [Forged(name="\u00e9".encode("cp437")), Forged(name="\u00e9".encode(), flags=zip_format.UTF8)],
        "is there twice",
    ),
    "file, then directory": ([Forged(name=b"a"), Forged(name=b"a/b")], "file and a directory"),
    "directory, then file": ([Forged(name=b"a/b/c"), Forged(name=b"a")], "file and a directory"),
    "file, then directory entry": ([Forged(name=b"a"), Forged(name=b"a/", content=b"", packed=b"")], "file and a directory"),
    "symbolic link": ([Forged(name=b"l", content=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)], "neither a file nor"),
    "link, then through it": (
        [Forged(name=b"l", content=b"/tmp", mode=stat.S_IFLNK | 0o777), Forged(name=b"l/x")],
        "neither a file nor",
    ),
    "device": ([Forged(name=b"d", mode=stat.S_IFBLK | 0o666)], "neither a file nor"),
    "fifo": ([Forged(name=b"f", mode=stat.S_IFIFO | 0o666)], "neither a file nor"),
    "socket": ([Forged(name=b"s", mode=stat.S_IFSOCK | 0o666)], "neither a file nor"),
    "directory with data": ([Forged(name=b"d/", mode=stat.S_IFDIR | 0o755)], "has data"),
    "directory by its mode": ([Forged(name=b"d", mode=stat.S_IFDIR | 0o755)], "directory by its mode"),
    "encrypted": ([Forged(name=b"a", flags=1)], "encrypted"),
    "unknown method": ([Forged(name=b"a", method=12)], "compression method 12"),
    "stored in two sizes": ([Forged(name=b"a", method=0, size=8)], "two sizes"),
    "checksum": ([Forged(name=b"ok"), Forged(name=b"a", crc=1)], "size or checksum"),
    "more than it says": ([Forged(name=b"a", content=bytes(10_000_000), size=7)], "more than its header says"),
    "less than it says": ([Forged(name=b"a", size=8)], "size or checksum"),
    "ends early": ([Forged(name=b"a", packed=deflated(b"content")[:-2])], "end too early"),
    "trailing bytes": ([Forged(name=b"a", packed=deflated(b"content") + b"more")], "more data than it should"),
    "not deflated": ([Forged(name=b"a", packed=b"\xff" * 50)], "cannot be inflated"),
    "two names": ([Forged(name=b"a", local_name=b"b")], "Bad zip file"),
    "overlap": ([Forged(name=b"a"), Forged(name=b"a", share=0)], "twice|overlap|Bad zip"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_zip_is_refused_and_leaves_nothing(zip_storage: ZipfileStorage, tmp_path: Path, base: Path, case: str):
    entries, reason = HOSTILE[case]
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        await stage(zip_storage, forge(tmp_path / "z", entries))
    assert refusal.value.message.startswith("data_file: ")
    assert refusal.value.message.isprintable()
    assert names(base) == []
    assert names(tmp_path) == ["storeBase", "z"]


@pytest.mark.parametrize("content", [b"", b"1000", b"PK\x05\x06", b"\x89PNG" * 1000, b"PK\x03\x04" + bytes(100)])
async def test_what_is_no_zip_gets_the_contracts_words(zip_storage: ZipfileStorage, tmp_path: Path, base: Path, content: bytes):
    (tmp_path / "z").write_bytes(content)
    with pytest.raises(InvalidRequest) as refusal:
        await stage(zip_storage, tmp_path / "z")
    assert refusal.value.message == "data_file: Bad zip file"
    assert names(base) == []


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path, stop: Stop):
    # Each quoted entry's data are the next entry's header and data: the way of a bomb that no ratio of one entry shows.
    inner = (
        zip_format.local_header(entry := zip_format.Entry(name=b"b", method=0, crc=zlib.crc32(b"x"), packed=1, size=1, offset=0))
        + b"x"
    )
    outer = zip_format.Entry(name=b"a", method=0, crc=zlib.crc32(inner), packed=len(inner), size=len(inner), offset=0)
    head = zip_format.local_header(outer)
    records = [outer, zip_format.Entry(name=b"b", method=0, crc=entry.crc, packed=1, size=1, offset=len(head))]
    for order in (records, records[::-1]):
        central = b"".join(zip_format.central_record(record) for record in order)
        body = head + inner
        (tmp_path / "z").write_bytes(body + central + zip_format.end_records(count=2, size=len(central), offset=len(body)))
        with pytest.raises(InvalidRequest, match="overlap"):
            zip_in.judge(tmp_path / "z", limits=LIMITS, stop=stop)


def test_too_many_entries_are_refused_from_the_end_record_alone(tmp_path: Path, stop: Stop):
    # The central directory is absent: a reader that went on to it would say that the zip is bad.
    offset, size = 0, 46 * 5_000_000
    end = zip_format.end_records(count=5_000_000, size=size, offset=offset)
    with (tmp_path / "z").open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(end)
    with pytest.raises(TooLarge, match="5000000 entries; the limit is 1000"):
        zip_in.judge(tmp_path / "z", limits=LIMITS, stop=stop)


@pytest.mark.parametrize("claimed", [1, 3])
def test_a_count_that_lies_is_refused(tmp_path: Path, stop: Stop, claimed: int):
    archive = forge(tmp_path / "z", [Forged(name=b"a"), Forged(name=b"b")], count=claimed)
    with pytest.raises(InvalidRequest, match="Bad zip file"):
        zip_in.judge(archive, limits=LIMITS, stop=stop)


def test_directories_that_names_imply_count_too(tmp_path: Path, stop: Stop):
    archive = forge(tmp_path / "z", [Forged(name=b"a/" * 600 + b"x"), Forged(name=b"b/" * 600 + b"x")])
    with pytest.raises(TooLarge, match="more than 1000 directories"):
        zip_in.judge(archive, limits=LIMITS, stop=stop)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(entries=2, size=1 << 40, ratio=200), "3 entries; the limit is 2"),
        (Limits(entries=10, size=1_000_000, ratio=200), "more than 1000000 bytes"),
    ],
)
def test_limits_on_count_and_size(make_zip: MakeZip, stop: Stop, limits: Limits, reason: str):
    archive = make_zip({"a": bytes(600_000), "b": bytes(600_000), "c": b""})
    with pytest.raises(TooLarge, match=reason):
        zip_in.judge(archive, limits=limits, stop=stop)


def test_a_bomb_is_known_by_its_ratio(make_zip: MakeZip, stop: Stop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zip_in, "RATIO_FLOOR", 1 << 20)
    with pytest.raises(TooLarge, match="more than 200 times its size"):
        zip_in.judge(make_zip({"bomb": bytes(8 << 20)}), limits=LIMITS, stop=stop)
    assert zip_in.judge(make_zip({"mask": bytes(1 << 20)}), limits=LIMITS, stop=stop).size == 1 << 20


def test_a_size_that_hides_a_bomb_is_found_while_inflating(tmp_path: Path, zip_storage: ZipfileStorage, base: Path):
    archive = forge(tmp_path / "z", [Forged(name=b"bomb", content=bytes(64 << 20), size=1000)])
    with pytest.raises(InvalidRequest, match="more than its header says"):
        asyncio.run(stage(zip_storage, archive))
    assert names(base) == []


async def test_zip64_is_read(zip_storage: ZipfileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = forge(tmp_path / "z", [Forged(name=b"a/b", content=b"wide"), Forged(name=b"c", method=0)], large=True)
    assert await stage(zip_storage, archive) == {"a/b": b"wide", "c": b"content"}
    with zipfile.ZipFile(tmp_path / "std", "w") as std, std.open("big", "w", force_zip64=True) as file:
        file.write(b"big")
    assert await stage(zip_storage, tmp_path / "std") == {"big": b"big"}
    with monkeypatch.context() as patch:
        patch.setattr(zip_format, "MAX16", 1)
        forge(tmp_path / "many", [Forged(name=b"a"), Forged(name=b"b")])
    assert sorted(await stage(zip_storage, tmp_path / "many")) == ["a", "b"]


async def test_a_name_that_info_zip_adds_in_utf8_is_preferred(zip_storage: ZipfileStorage, tmp_path: Path):
    info = zipfile.ZipInfo("cafe")
    field = b"\x01" + zlib.crc32(b"cafe").to_bytes(4, "little") + "caf\u00e9".encode()
    info.extra = b"\x75\x70" + len(field).to_bytes(2, "little") + field
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr(info, b"x")
    assert await stage(zip_storage, tmp_path / "z") == {"caf\u00e9": b"x"}
    hostile = (tmp_path / "z").read_bytes().replace("caf\u00e9".encode(), b"../up")
    (tmp_path / "z").write_bytes(hostile)
    with pytest.raises(InvalidRequest, match="leads upwards"):
        await stage(zip_storage, tmp_path / "z")


async def test_a_zip64_claim_of_exabytes_is_too_large(zip_storage: ZipfileStorage, tmp_path: Path):
    with pytest.raises(TooLarge, match="unpacks to more than"):
        await stage(zip_storage, forge(tmp_path / "z", [Forged(name=b"a", size=1 << 62)], large=True))


async def test_a_zip_with_a_comment_and_data_descriptors_is_read(zip_storage: ZipfileStorage, tmp_path: Path):
    buffer = io.BytesIO()

    class Unseekable(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object, /) -> int:
            return buffer.write(data)  # type: ignore[arg-type]  # zipfile gives bytes

    with zipfile.ZipFile(Unseekable(), "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]  # it has what is used
        archive.writestr("a", b"streamed")
        archive.comment = b"PK\x05\x06 is no end here" * 3
    (tmp_path / "z").write_bytes(buffer.getvalue())
    assert await stage(zip_storage, tmp_path / "z") == {"a": b"streamed"}


@pytest.mark.parametrize(("before", "after"), [(b"#!/bin/sh\n", b""), (b"", b"tail"), (b"", b"\0" * 70_000)])
async def test_a_zip_within_something_else_is_no_zip(zip_storage: ZipfileStorage, make_zip: MakeZip, before: bytes, after: bytes):
    archive = make_zip({"a": b"x"})
    archive.write_bytes(before + archive.read_bytes() + after)
    with pytest.raises(InvalidRequest, match="data_file: Bad zip file"):
        await stage(zip_storage, archive)


async def test_many_files_go_through_many_threads(zip_storage: ZipfileStorage, make_zip: MakeZip):
    files = {f"{index % 7}/{index % 13}/{index}": str(index).encode() for index in range(900)}
    assert await stage(zip_storage, make_zip(files)) == files


async def test_a_failure_among_many_threads_leaves_nothing(zip_storage: ZipfileStorage, tmp_path: Path, base: Path):
    entries = [Forged(name=f"{index % 5}/{index}".encode(), crc=1 if index == 333 else None) for index in range(900)]
    with pytest.raises(InvalidRequest, match="'3/333' is damaged"):
        await stage(zip_storage, forge(tmp_path / "z", entries))
    assert names(base) == []


async def test_a_cancelled_stage_has_cleaned_up_when_it_returns(
    zip_storage: ZipfileStorage, make_zip: MakeZip, base: Path, monkeypatch: pytest.MonkeyPatch
):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    unpack = zip_in.unpack

    def slow(plan: zip_in.Plan, target: Path, *, stop: Stop) -> None:
        unpack(plan, target, stop=stop)
        loop.call_soon_threadsafe(begun.set)
        while True:
            stop.check()

    monkeypatch.setattr(zip_in, "unpack", slow)
    task = asyncio.create_task(zip_storage.stage(Inputs(jid="job", upload=make_zip({"a/b": b"x"}))))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(base) == []


async def test_a_disk_without_room_is_known_beforehand(zip_storage: ZipfileStorage, tmp_path: Path, base: Path):
    room = os.statvfs(base)
    archive = forge(tmp_path / "z", [Forged(name=b"a", size=room.f_bavail * room.f_frsize + (1 << 30))], large=True)
    storage = ZipfileStorage(
        storebase=zip_storage.storebase, handover=zip_storage.handover, limits=Limits(entries=9, size=1 << 62, ratio=1 << 62)
    )
    with pytest.raises(StorageFull):
        await stage(storage, archive)
    assert names(base) == []


@pytest.mark.skipif(shutil.which("zip") is None, reason="no Info-ZIP here")
def test_what_info_zip_makes_is_read(zip_storage: ZipfileStorage, tmp_path: Path):
    plant(tmp_path / "source", {"a/b.txt": "text" * 1000, "c/empty": "", "run": "#!"})
    (tmp_path / "source/run").chmod(0o4755)
    subprocess.run(["zip", "-qr", tmp_path / "z.zip", "."], cwd=tmp_path / "source", check=True)
    assert asyncio.run(stage(zip_storage, tmp_path / "z.zip")) == contents(tmp_path / "source")


@given(st.dictionaries(st.lists(NAME, min_size=1, max_size=3).map("/".join), st.binary(max_size=300), max_size=8))
@settings(max_examples=60)
def test_any_tree_survives(files: dict[str, bytes]):
    paths = list(files)
    clash = any(other.startswith(f"{path}/") for path in paths for other in paths)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        with zipfile.ZipFile(path / "z", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        (path / "out").mkdir()
        try:
            plan = zip_in.judge(path / "z", limits=LIMITS, stop=Stop())
        except InvalidRequest:
            assert clash
            return
        zip_in.unpack(plan, path / "out", stop=Stop())
        assert not clash
        assert contents(path / "out") == files


HONEST = io.BytesIO()
with zipfile.ZipFile(HONEST, "w", zipfile.ZIP_DEFLATED) as _archive:
    for _name in ("a/b", "a/c", "d", "e/"):
        _archive.writestr(_name, b"" if _name.endswith("/") else _name.encode() * 50)


@given(
    st.lists(st.tuples(st.integers(0, len(HONEST.getvalue()) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(HONEST.getvalue())),
)
@settings(max_examples=200)
def test_damage_is_an_answer_and_never_a_crash(changes: list[tuple[int, int]], cut: int):
    damaged = bytearray(HONEST.getvalue())
    for at, value in changes:
        damaged[at] = value
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory) / "base"
        base.mkdir()
        storage = ZipfileStorage(storebase=StoreBase(base), handover=Handover(same_user=True), limits=LIMITS)
        (base.parent / "z").write_bytes(damaged[:cut] if changes == [] else damaged)
        try:
            storage._stage("job", base.parent / "z", Stop())
        except PfmocError:
            assert names(base) == []
        else:
            assert names(base) == ["key-job"]
        assert names(base.parent) == ["base", "z"]


def test_batches_end_at_the_first_failure(stop: Stop):
    done: list[int] = []

    def work(batch: list[int], _: Stop) -> None:
        if batch == [3]:
            raise ValueError("three")
        done.extend(batch)

    with pytest.raises(ValueError, match="three"):
        batches.in_batches(work, ([number] for number in range(10_000)), stop=stop)
    assert len(done) < 1000
    batches.in_batches(work, iter([]), stop=stop)
    batches.in_batches(work, iter([[5]]), stop=stop)
    assert 5 in done
