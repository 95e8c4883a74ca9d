"""Walking, measuring and removing trees that a plugin shaped."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from harness.trees import plant
from storage_kit import names

from pfmoc.storage import trees
from pfmoc.storage.workers import Stop, Stopped


def deep(path: Path, levels: int) -> None:
    """Make a chain of directories that no path can name."""
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("directory", dir_fd=fd)
        below = os.open("directory", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def test_a_walk_goes_as_os_walk_does(tmp_path: Path, stop: Stop):
    plant(tmp_path, {"b/x": "", "b/a/y": "", "a": "", "c/z": "", "\u00e9": "", "b.c": ""})
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "file link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    expected = []
    for directory, below, files in os.walk(tmp_path):
        below.sort()
        path = Path(directory)
        regular = [name for name in sorted(files) if stat.S_ISREG((path / name).lstat().st_mode)]
        expected += [str((path / name).relative_to(tmp_path)) for name in regular]
    walked = [level.join(name) for level in trees.walk(tmp_path, stop=stop) for name in level.files]
    assert walked == expected
    assert len(walked) == 6


def test_no_component_below_the_base_may_be_a_link(tmp_path: Path, stop: Stop):
    plant(tmp_path, {"real/x": ""})
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError, match=r"directory|symbolic"):
        list(trees.walk(tmp_path, "link", stop=stop))


def test_a_tree_too_deep_to_name_is_measured_as_far_as_names_go(tmp_path: Path, stop: Stop):
    deep(tmp_path / "deep", 600)
    plant(tmp_path, {"deep/x": b"abc"})
    with pytest.raises(OSError, match="too long"):
        list(trees.walk(tmp_path / "deep", stop=stop))
    assert trees.measure(tmp_path / "deep", stop=stop).size == 3
    trees.remove(tmp_path / "deep")
    assert not (tmp_path / "deep").exists()


def test_removal_has_no_limit_of_depth(tmp_path: Path):
    deep(tmp_path / "deep", 2000)
    trees.remove(tmp_path / "deep")
    assert names(tmp_path) == []


def test_removal_follows_no_link_and_changes_no_file(tmp_path: Path):
    plant(tmp_path, {"user/file": "precious", "gone/locked/x": "x"})
    (tmp_path / "user/file").chmod(0o400)
    (tmp_path / "gone/link").symlink_to(tmp_path / "user")
    (tmp_path / "gone/locked/link").symlink_to(tmp_path / "user/file")
    os.link(tmp_path / "user/file", tmp_path / "gone/locked/hard")
    (tmp_path / "gone/locked").chmod(0)
    (tmp_path / "gone").chmod(0o555)
    trees.remove(tmp_path / "gone")
    assert names(tmp_path) == ["user"]
    assert (tmp_path / "user/file").read_text() == "precious"
    assert stat.S_IMODE((tmp_path / "user/file").stat().st_mode) == 0o400


def test_removing_a_link_removes_the_link(tmp_path: Path):
    plant(tmp_path, {"user/file": "precious"})
    (tmp_path / "link").symlink_to("user")
    trees.remove(tmp_path / "link")
    trees.remove(tmp_path / "link")
    trees.remove(tmp_path / "nowhere/link")
    assert names(tmp_path) == ["user"]


def test_two_removals_at_once_both_succeed(tmp_path: Path):
    plant(tmp_path / "gone", {f"{a}/{b}/{c}": "" for a in range(10) for b in range(10) for c in range(3)})
    failures: list[BaseException] = []

    def remove() -> None:
        try:
            trees.remove(tmp_path / "gone")
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test fails with it
            failures.append(error)

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(tmp_path) == []


def test_work_stops_when_told(tmp_path: Path):
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        list(trees.walk(tmp_path, stop=stop))


def test_a_sparse_file_is_measured_both_ways(tmp_path: Path, stop: Stop):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    plant(tmp_path, {"l.chrislink": "home/x"})
    sums = trees.measure(tmp_path, stop=stop)
    assert (sums.files, sums.size, sums.links) == (1, 1 << 40, 1)
    assert sums.allocated < 1 << 20


@pytest.mark.parametrize("kind", ["absent", "file", "link"])
def test_what_is_no_directory_measures_as_nothing(tmp_path: Path, stop: Stop, kind: str):
    plant(tmp_path, {"file": "x", "directory/y": "y"})
    (tmp_path / "link").symlink_to("directory")
    assert trees.measure(tmp_path / kind, stop=stop) == trees.Measure()
