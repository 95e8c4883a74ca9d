"""The three modes as jobs and dialects use them."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.trees import contents, plant
from storage_kit import MakeSettings, MakeZip, names

from pfmoc.errors import InvalidRequest, NoSuchData, TooLarge
from pfmoc.settings import Settings
from pfmoc.storage import copying, handover, registry, trees, zip_in
from pfmoc.storage.base import Inputs, Sealed, Staged, Storage
from pfmoc.storage.filesystem import FilesystemStorage
from pfmoc.storage.fslink import FslinkStorage
from pfmoc.storage.handover import Handover
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.workers import Stop
from pfmoc.storage.zipfile import ZipfileStorage


@pytest.fixture
def shared(base: Path) -> Path:
    """A storeBase with users' data, as the ChRIS backend keeps it."""
    plant(base, {"home/u/in/a": "a", "home/u/in/b/c": "c", "home/bob/f": "f"})
    (base / "home/u/out").mkdir()
    return base


@pytest.fixture
def filesystem(shared: Path) -> FilesystemStorage:
    return FilesystemStorage(storebase=StoreBase(shared), handover=Handover(same_user=True))


@pytest.fixture
def fslink(shared: Path) -> FslinkStorage:
    return FslinkStorage(storebase=StoreBase(shared), handover=Handover(same_user=True), hard_links=False, limit=1000)


def job(*inputs: str, output: str | None = "home/u/out") -> Inputs:
    return Inputs(jid="job", input_dirs=inputs or ("home/u/in",), output_dir=output)


@pytest.mark.parametrize(
    ("env", "innetwork", "expected", "copies"),
    [
        ("zipfile", False, ZipfileStorage, False),
        ("filesystem", True, FilesystemStorage, False),
        ("fslink", True, FslinkStorage, True),
    ],
)
async def test_the_settings_choose(settings: MakeSettings, env: str, innetwork: bool, expected: type[Storage], copies: bool):
    storage = registry.open_storage(settings(storage_env=env, innetwork=innetwork))
    assert type(storage) is expected
    assert (storage.env, storage.innetwork, storage.requires_copy, storage.requires_upload) == (env, innetwork, copies, False)
    await storage.probe()
    assert not await storage.holds("job")
    await storage.discard("job")


def test_only_outside_production_is_the_storebase_made(settings: MakeSettings, tmp_path: Path):
    registry.open_storage(settings(storebase_mount=tmp_path / "new/base"))
    assert (tmp_path / "new/base").is_dir()
    registry.open_storage(settings(storebase_mount=tmp_path / "other", application_mode="production"))
    assert not (tmp_path / "other").exists()


def test_only_a_container_gets_hard_links(settings: MakeSettings):
    def fslink(env: str) -> FslinkStorage:
        storage = registry.open_storage(settings(storage_env="fslink", innetwork=True, container_env=env))
        assert isinstance(storage, FslinkStorage)
        return storage

    assert fslink("podman").hard_links
    assert not fslink("process").hard_links


async def test_data_are_held_in_directories_only(zip_storage: ZipfileStorage, base: Path):
    plant(base, {"key-b/x": "", "key-A.1/x": "", "key-file": "", "home/key-c/x": ""})
    (base / "key-link").symlink_to("key-b")
    assert await zip_storage.holds("A.1")
    assert await zip_storage.holds("b")
    assert not await zip_storage.holds("link")
    assert not await zip_storage.holds("file")


@pytest.mark.parametrize("jid", ["../x", "a/b", "", "a\0"])
async def test_a_job_id_that_is_none_reaches_nothing(zip_storage: ZipfileStorage, jid: str):
    with pytest.raises(InvalidRequest, match="jid: "):
        await zip_storage.holds(jid)
    with pytest.raises(InvalidRequest, match="jid: "):
        zip_storage.zip_root(jid)
    with pytest.raises(InvalidRequest, match="jid: "):
        await zip_storage.data(Inputs(jid=jid), lifetime_s=1)


async def test_discard_removes_the_job_and_nothing_else(zip_storage: ZipfileStorage, shared: Path):
    plant(shared, {"key-job/incoming/x": "", "key-job/outgoing/y": "", "key-job2/x": ""})
    (shared / "key-job/outgoing/link").symlink_to(shared / "home")
    await asyncio.gather(*(zip_storage.discard("job") for _ in range(5)))
    assert names(shared) == ["home", "key-job2"]
    assert names(shared / "home") == ["bob", "u"]


# Out of the network


async def test_asking_for_the_output_while_the_input_is_staged_does_no_harm(
    zip_storage: ZipfileStorage, make_zip: MakeZip, monkeypatch: pytest.MonkeyPatch
):
    unpack = zip_in.unpack

    def asked_meanwhile(plan: zip_in.Plan, target: Path, *, stop: Stop) -> None:
        assert names(zip_storage.zip_root("job")) == []
        unpack(plan, target, stop=stop)

    monkeypatch.setattr(zip_in, "unpack", asked_meanwhile)
    assert (await zip_storage.stage(Inputs(jid="job", upload=make_zip({"a": b"a"})))).nfiles == 1


async def test_data_are_not_removed_while_they_are_staged(
    zip_storage: ZipfileStorage, make_zip: MakeZip, base: Path, monkeypatch: pytest.MonkeyPatch
):
    stage, began, go = zip_storage._stage, asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(jid: str, upload: Path, stop: Stop) -> Staged:
        loop.call_soon_threadsafe(began.set)
        assert go.wait(10)
        return stage(jid, upload, stop)

    monkeypatch.setattr(zip_storage, "_stage", slow)
    staging = asyncio.create_task(zip_storage.stage(Inputs(jid="job", upload=make_zip({"a": b"a"}))))
    await began.wait()
    removal = asyncio.create_task(zip_storage.discard("job"))
    done, _ = await asyncio.wait([removal], timeout=0.1)
    go.set()
    await asyncio.gather(staging, removal)
    assert not done
    assert not (base / "key-job").exists()


def test_a_job_without_a_zip_is_refused(zip_storage: ZipfileStorage):
    with pytest.raises(InvalidRequest) as refusal:
        zip_storage.check(Inputs(jid="job"))
    assert refusal.value.message == "data_file: field is required"


async def test_output_is_sealed_and_zipped(zip_storage: ZipfileStorage, make_zip: MakeZip, base: Path):
    inputs = Inputs(jid="job", upload=make_zip({"a": b"x"}))
    with pytest.raises(NoSuchData):
        zip_storage.zip_root("job")
    await zip_storage.stage(inputs)
    outgoing = (await zip_storage.data(inputs, lifetime_s=1)).outgoing
    assert zip_storage.zip_root("job") == outgoing == base / "key-job/outgoing"
    plant(outgoing, {"r": b"123", "d/s": b"4", "l.chrislink": "home/x"})
    sealed = await zip_storage.seal(inputs)
    assert (sealed.files, sealed.size, sealed.dropped_links) == (2, 4, 1)
    assert names(outgoing) == ["d", "l.chrislink", "r"]
    outgoing.rename(base / "elsewhere")
    assert await zip_storage.seal(inputs) == Sealed(files=0, size=0, allocated=0, dropped_links=0)
    assert names(zip_storage.zip_root("job")) == []
    with pytest.raises(NoSuchData):
        await zip_storage.listing(inputs, "home/u/out")


async def test_links_in_a_zip_are_expanded(zip_storage: ZipfileStorage, make_zip: MakeZip, base: Path):
    files = {
        "l.chrislink": b"home/bob\n",
        "home/bob/f": b"f",
        "home/bob/k.chrislink": b"PIPELINES/bob/p.yml",
        "PIPELINES/bob/p.yml": b"p",
        "own": b"o",
        "kept/": b"",
    }
    staged = await zip_storage.stage(Inputs(jid="job", upload=make_zip(files)))
    assert staged.nfiles == 4
    assert contents(staged.path) == {"own": b"o", "home_bob/f": b"f", "home_bob/PIPELINES_bob/p.yml": b"p"}
    assert names(staged.path) == ["home_bob", "kept", "own"]
    assert names(base / "key-job") == ["incoming", "outgoing"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"../../etc", "'..'"),
        (b"home/nowhere", "leads nowhere: there is no home/nowhere"),
        (b"d/l.chrislink", "leads to itself"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 70_000, "larger than"),
    ],
)
async def test_a_bad_link_in_a_zip_is_named(
    zip_storage: ZipfileStorage, make_zip: MakeZip, base: Path, content: bytes, reason: str
):
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        await zip_storage.stage(Inputs(jid="job", upload=make_zip({"d/l.chrislink": content, "a": b""})))
    assert refusal.value.message.startswith("data_file: link d/l.chrislink ")
    assert names(base) == []


# In the network, as it is


async def test_filesystem_hands_out_the_users_directories(filesystem: FilesystemStorage, shared: Path):
    inputs = job("/home/u/in/", "home/bob")
    filesystem.check(inputs)
    staged = await filesystem.stage(inputs)
    mounts = await filesystem.data(inputs, lifetime_s=1)
    assert (staged.nfiles, staged.path) == (2, shared / "home/u/in")
    assert (mounts.incoming, mounts.outgoing) == (shared / "home/u/in", shared / "home/u/out")
    plant(shared, {"home/u/out/r": b"123", "home/u/out/l.chrislink": "home"})
    assert (await filesystem.seal(inputs)).dropped_links == 0
    assert await filesystem.listing(inputs, "home/u/out") == ["l.chrislink", "r"]
    assert names(shared) == ["home"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (Inputs(jid="job", output_dir="home/u/out"), "input_dirs: field is required"),
        (job(output=None), "output_dir: field is required"),
        (job(output="home/u/nowhere"), "output_dir: there is no directory 'home/u/nowhere' in storage"),
        (job(output="home/u/in/a"), "output_dir: there is no directory 'home/u/in/a' in storage"),
        (job(output=""), "output_dir: '' is empty"),
        (job(output="../x"), "output_dir: '../x' must not contain '..'"),
        (
            job(output="key-other/outgoing"),
            "output_dir: 'key-other/outgoing' lies in a directory that belongs to the compute resource",
        ),
        (job(""), "input_dirs: '' is empty"),
        (job("home/../../x"), "input_dirs: 'home/../../x' must not contain '..'"),
        (job("home/u/in", ".."), "input_dirs: '..' must not contain '..'"),
        (job("a\nb"), "input_dirs: 'a\\nb' must not contain control characters"),
    ],
)
def test_inputs_that_are_refused_before_anything_is_staged(filesystem: FilesystemStorage, inputs: Inputs, message: str):
    with pytest.raises(InvalidRequest) as refusal:
        filesystem.check(inputs)
    assert refusal.value.message == message


@pytest.mark.parametrize("path", ["home/nowhere", "home/bob/f"])
async def test_filesystem_input_that_cannot_be_read_gets_the_contracts_words(filesystem: FilesystemStorage, path: str):
    with pytest.raises(InvalidRequest) as refusal:
        await filesystem.stage(job(path))
    assert refusal.value.message == "input_dirs: Error accessing files from shared filesystem"


# In the network, with links


@pytest.mark.parametrize("hard_links", [True, False])
async def test_fslink_gathers_the_input(fslink: FslinkStorage, shared: Path, hard_links: bool):
    fslink.hard_links = hard_links
    plant(shared, {"home/u/in/l.chrislink": "home/bob", "key-job/incoming/old": "", "home/u/lone": "lone"})
    inputs = job("home/u/in", "/home/u/lone/")
    staged = await fslink.stage(inputs)
    assert (staged.nfiles, staged.path) == (4, shared / "key-job/incoming")
    assert contents(staged.path) == {"a": b"a", "b/c": b"c", "home_bob/f": b"f", "lone": b"lone"}
    assert ((staged.path / "a").stat().st_ino == (shared / "home/u/in/a").stat().st_ino) == hard_links
    assert names(shared / "key-job") == ["incoming"]
    await fslink.discard("job")
    assert (shared / "home/bob/f").read_text() == "f"


async def test_fslink_stages_an_empty_input(fslink: FslinkStorage):
    staged = await fslink.stage(Inputs(jid="job", output_dir="home/u/out"))
    assert staged.nfiles == 0
    assert names(staged.path) == []


async def test_a_missing_input_gets_the_contracts_words(fslink: FslinkStorage, shared: Path):
    plant(shared, {"key-job/incoming/old": ""})
    with pytest.raises(InvalidRequest) as refusal:
        await fslink.stage(job("home/u/in", "home/nowhere"))
    assert refusal.value.message == "input_dirs: Error copying files from shared filesystem"
    assert contents(shared / "key-job") == {"incoming/old": b""}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "has a target that is empty"),
        ("/home/bob", "has a target that must be relative"),
        ("../base", "has a target that must not contain '..'"),
        ("key-other/incoming", "has a target that lies in a directory that belongs to the compute resource"),
        (".pfmoc", "has a target that lies in a directory that belongs to the compute resource"),
        ("escape/x", "has a target that leads out of the storage"),
        ("home/nobody", "leads nowhere: there is no home/nobody"),
        ("home/u/in/l.chrislink", "leads to itself"),
        ("home/u", "leads to a directory that holds the job's own output"),
        ("home/u/out/", "leads to a directory that holds the job's own output"),
        ("home/u/in/fifo", "leads nowhere: there is no home/u/in/fifo"),
        ("x" * 70_000, "is larger than 65536 bytes"),
        (b"\xff\xff", "is not UTF-8 text"),
    ],
)
async def test_a_link_that_cannot_be_followed_fails_the_copy(
    fslink: FslinkStorage, shared: Path, content: str | bytes, reason: str
):
    plant(shared, {"home/u/in/l.chrislink": content, "key-other/incoming/x": "theirs"})
    (shared / "escape").symlink_to("/etc")
    os.mkfifo(shared / "home/u/in/fifo")
    with pytest.raises(InvalidRequest) as refusal:
        await fslink.stage(job())
    assert refusal.value.message == f"input_dirs: link home/u/in/l.chrislink {reason}"
    assert not (shared / "key-job").exists()


async def test_an_input_that_holds_the_output_is_refused(fslink: FslinkStorage):
    with pytest.raises(InvalidRequest, match="'home/u' holds the job's own output directory"):
        await fslink.stage(job("home/u"))


async def test_a_neighbour_whose_name_begins_alike_is_not_the_output(fslink: FslinkStorage, shared: Path):
    plant(shared, {"home/u/outside/x": "x", "home/u/in/l.chrislink": "home/u/outside"})
    assert "home_u_outside/x" in contents((await fslink.stage(job())).path)


async def test_symbolic_links_in_the_input_are_no_data(fslink: FslinkStorage, shared: Path):
    (shared / "home/u/in/file").symlink_to("/etc/passwd")
    (shared / "home/u/in/directory").symlink_to("/etc")
    (shared / "home/u/in/l.chrislink").symlink_to("/etc/passwd")
    assert contents((await fslink.stage(job())).path) == {"a": b"a", "b/c": b"c"}


async def test_too_many_files_are_refused(fslink: FslinkStorage, shared: Path):
    fslink.limit = 2
    plant(shared, {"home/u/in/more": ""})
    with pytest.raises(TooLarge):
        await fslink.stage(job())
    assert not (shared / "key-job").exists()


def vanish(shared: Path) -> None:
    (shared / "home/u/in/b/c").unlink()


def vanish_with_directory(shared: Path) -> None:
    (shared / "home/u/in/b").rename(shared / "home/moved")


def swap_file(shared: Path) -> None:
    vanish(shared)
    (shared / "home/u/in/b/c").symlink_to("/etc/passwd")


def swap_directory(shared: Path) -> None:
    vanish_with_directory(shared)
    (shared / "home/u/in/b").symlink_to("/etc")


@pytest.mark.parametrize("change", [vanish, vanish_with_directory, swap_file, swap_directory])
@pytest.mark.parametrize("hard_links", [True, False])
async def test_what_vanishes_midway_is_named_and_nothing_is_left(
    fslink: FslinkStorage, shared: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], hard_links: bool
):
    bring = copying.bring

    def change_and_bring(placed: dict[str, str], **rest: object) -> None:
        change(shared)
        bring(placed, **rest)  # type: ignore[arg-type]  # passed on as they come

    fslink.hard_links = hard_links
    monkeypatch.setattr(copying, "bring", change_and_bring)
    with pytest.raises(InvalidRequest, match=r"home/u/in/b(/c)? vanished while it was copied"):
        await fslink.stage(job())
    assert not (shared / "key-job").exists()


async def test_a_cancelled_copy_ends_soon_and_leaves_nothing(
    fslink: FslinkStorage, shared: Path, monkeypatch: pytest.MonkeyPatch
):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(*arguments: object) -> None:
        *_, stop = arguments
        assert isinstance(stop, Stop)
        loop.call_soon_threadsafe(begun.set)
        while True:
            stop.check()

    monkeypatch.setattr(copying, "_copied", endless)
    task = asyncio.create_task(fslink.stage(job()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (shared / "key-job").exists()


async def test_a_copy_keeps_holes(fslink: FslinkStorage, shared: Path):
    with (shared / "home/u/in/sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(500 << 20)
        file.write(b"data")
    copy = (await fslink.stage(job())).path / "sparse"
    assert copy.stat().st_size == 1 << 30
    assert copy.stat().st_blocks * 512 < 1 << 20
    with copy.open("rb") as file:
        file.seek(500 << 20)
        assert file.read(4) == b"data"


async def test_links_that_a_plugin_wrote_are_dropped_once_it_ended(fslink: FslinkStorage, shared: Path):
    plant(shared, {"home/u/out/r": b"123", "home/u/out/d/l.chrislink": "home/bob"})
    assert await fslink.listing(job(), "home/u/out") == ["r"]
    assert (shared / "home/u/out/d/l.chrislink").exists()
    sealed = await fslink.seal(job())
    assert (sealed.files, sealed.size, sealed.dropped_links) == (1, 3, 1)
    assert not (shared / "home/u/out/d/l.chrislink").exists()


@pytest.mark.parametrize("change", ["gone", "file", "elsewhere"])
async def test_an_output_that_is_gone_when_the_plugin_ends_is_empty(
    fslink: FslinkStorage, filesystem: FilesystemStorage, shared: Path, change: str
):
    (shared / "home/u/out").rmdir()
    if change == "file":
        plant(shared, {"home/u/out": "x"})
    elif change == "elsewhere":
        (shared / "home/u/out").symlink_to("/etc")
    for storage in (fslink, filesystem):
        assert await storage.seal(job()) == Sealed(files=0, size=0, allocated=0, dropped_links=0)


# Listings


async def test_a_listing_goes_as_os_walk_does(fslink: FslinkStorage, shared: Path):
    plant(shared, {"home/u/out/b/x": "", "home/u/out/a": "", "home/u/out/c/d/\u00e9": "", "home/u/out/z": ""})
    (shared / "home/u/out/file").symlink_to("a")
    (shared / "home/u/out/directory").symlink_to("b")
    expected = ["a", "z", "b/x", "c/d/\u00e9"]
    assert await fslink.listing(job(), "/home/u/out/") == expected


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "..",
        "../../etc",
        "home/../..",
        "home/u/nowhere",
        "home/u/in/a",
        "key-other",
        "key-other/outgoing",
        ".pfmoc",
        "%2e%2e",
        "\u2024\u2024",
        "a\0",
        "out",
    ],
)
async def test_a_listing_of_anything_else_finds_nothing(fslink: FslinkStorage, shared: Path, path: str):
    plant(shared, {"key-other/outgoing/x": "", ".pfmoc/spool/x": ""})
    (shared / "out").symlink_to("/etc")
    with pytest.raises(NoSuchData):
        await fslink.listing(job(), path)


def test_storage_in_the_network_sends_no_zip(fslink: FslinkStorage):
    with pytest.raises(NoSuchData):
        fslink.zip_root("job")


# Who may write


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_process_needs_no_more_than_its_own(tmp_path: Path):
    Handover(same_user=True).make(tmp_path / "out")
    assert mode(tmp_path / "out") == 0o755
    (tmp_path / "out").chmod(0o750)
    Handover(same_user=True).open(tmp_path / "out")
    assert mode(tmp_path / "out") == 0o750


def test_an_output_for_any_user_is_open(tmp_path: Path):
    Handover(same_user=False).make(tmp_path / "out")
    assert mode(tmp_path / "out") == 0o777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_an_output_for_a_known_user_is_given_to_it(tmp_path: Path):
    Handover(same_user=False, uid=12345, gid=54321).make(tmp_path / "out")
    found = (tmp_path / "out").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 54321, 0o755)
    Handover(same_user=False, uid=12345).open(tmp_path / "out")
    assert mode(tmp_path / "out") == 0o755
    Handover(same_user=False, uid=7).open(tmp_path / "out")
    assert mode(tmp_path / "out") == 0o777
    assert (tmp_path / "out").stat().st_uid == 12345


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"container_env": "process"}, Handover(same_user=True)),
        (
            {"container_env": "process", "container_user": "1000:2000"},
            Handover(same_user=False, by_path=True, uid=1000, gid=2000),
        ),
        ({"container_env": "podman"}, Handover(same_user=False)),
        ({"container_env": "podman", "container_user": "1000:2000"}, Handover(same_user=False, uid=1000, gid=2000)),
        ({"container_env": "podman", "container_user": "1000-1999:"}, Handover(same_user=False)),
    ],
)
def test_the_settings_say_who_writes(settings: Callable[..., Settings], changes: dict[str, str], expected: Handover):
    assert handover.handover(settings(**changes)) == expected


async def test_a_users_output_directory_is_opened_for_any_user(
    fslink: FslinkStorage, filesystem: FilesystemStorage, shared: Path
):
    for storage in (fslink, filesystem):
        (shared / "home/u/out").chmod(0o755)
        await storage.data(job(), lifetime_s=1)
        assert mode(shared / "home/u/out") == 0o755
        storage.handover = Handover(same_user=False)
        await storage.data(job(), lifetime_s=1)
        assert mode(shared / "home/u/out") == 0o777


async def test_a_jobs_directory_is_closed_to_others(zip_storage: ZipfileStorage, make_zip: MakeZip, base: Path):
    zip_storage.handover = Handover(same_user=False)
    await zip_storage.stage(Inputs(jid="job", upload=make_zip({"a": b""})))
    assert mode(base / "key-job") == zip_storage.handover.private_mode()
    assert mode(base / "key-job/outgoing") == 0o777


def test_a_failing_removal_is_tried_again_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plant(tmp_path / "busy", {"d/x": ""})
    clear = trees._clear
    late = iter(["late", "later"])

    def clear_while_others_write(fd: int, top: int, names: object, stop: Stop) -> list[str]:
        lifted = clear(fd, top, names, stop)  # type: ignore[arg-type]  # passed on as they come
        for name in late:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            break
        return lifted

    monkeypatch.setattr(trees, "_clear", clear_while_others_write)
    trees.remove(tmp_path / "busy")
    assert names(tmp_path) == []
