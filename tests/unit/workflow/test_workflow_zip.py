"""Zips both ways: what was sent is what was fetched."""

from __future__ import annotations

import io
import zipfile

import pytest
from harness.trees import plant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfmoc.storage.workers import Stop
from pfmoc.workflow.inputs import InputFile, Tree, joined
from pfmoc.workflow.manifest import FileEntry, Manifest, survey, verify
from pfmoc.workflow.problems import Damaged
from pfmoc.workflow.unzip import unzip
from pfmoc.workflow.zip_stream import length, pieces

part = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8
).filter(lambda text: text not in (".", ".."))


def tree(root, files):
    return Tree(plant(root, files), survey(root, Stop()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.dictionaries(st.tuples(st.sampled_from("ab"), part).map("/".join), st.binary(max_size=100), max_size=6))
def test_what_was_zipped_is_unzipped(tmp_path_factory, files):
    home = tmp_path_factory.mktemp("zip")
    (home / "in").mkdir()
    source = tree(home / "in", files)
    sent = joined({"one": source})
    archive = b"".join(pieces(sent))
    assert len(archive) == length(sent)
    (home / "a.zip").write_bytes(archive)
    manifest = unzip(home / "a.zip", home / "out", Stop())
    assert manifest == source.manifest
    verify(home / "out", manifest, Stop())


def test_a_large_file_is_sent_with_its_exact_length(tmp_path):
    data = bytes(range(256)) * (5 << 12)
    sent = joined({"one": tree(tmp_path / "in", {"large": data, "small": b"x"})})
    archive = b"".join(pieces(sent))
    assert len(archive) == length(sent)
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        assert read.read("large") == data


def test_the_length_of_an_archive_of_very_large_files_is_known(tmp_path):
    """Beyond 4 GiB the records of Zip64 count too."""
    huge = InputFile("huge", tmp_path / "huge", FileEntry("huge", 5 << 30, "0" * 64, 0))
    after = InputFile("z", tmp_path / "z", FileEntry("z", 1, "0" * 64, 0))
    # Local header 30 + 4 + 20, its record 46 + 4 + 20; the file after it lies beyond 4 GiB: 46 + 1 + 12; the ends 56 + 20 + 22.
    assert length([huge, after]) == (5 << 30) + 54 + 70 + (1 + 31) + 59 + 98


@pytest.mark.parametrize("change", [b"changed!", b"longer than before", b"", None])
def test_a_file_that_changed_is_never_sent_whole(tmp_path, change):
    source = tree(tmp_path / "in", {"a": b"original"})
    path = tmp_path / "in" / "a"
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change)
    sent = []
    with pytest.raises(Damaged, match="/a: "):
        sent.extend(pieces(joined({"one": source})))
    assert not change or change not in b"".join(sent)


def test_several_sources_lie_side_by_side(tmp_path):
    left = tree(tmp_path / "l", {"same": b"1", "sub/x": b"2"})
    right = tree(tmp_path / "r", {"same": b"3"})
    assert [file.name for file in joined({"right": right, "left": left})] == ["left/same", "left/sub/x", "right/same"]
    assert [file.name for file in joined({"left": left})] == ["same", "sub/x"]
    assert joined({}) == ()


def zipped(path, *entries):
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in entries:
            archive.writestr(info, data)
    return path


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("../up", "x")], "not a name"),
        ([("a/../../up", "x")], "not a name"),
        ([("a//b", "x")], "not a name"),
        ([("a\\b", "x")], "not a name"),
        ([(link("l"), "/etc/passwd")], "symbolic link"),
        ([("a", "x"), ("a/b", "y")], "a file and a directory of one name"),
    ],
)
def test_hostile_archives_are_refused(tmp_path, entries, reason):
    with pytest.raises(Damaged, match=reason):
        unzip(zipped(tmp_path / "a.zip", *entries), tmp_path / "out", Stop())
    assert not (tmp_path / "up").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_twice_there_is_refused(tmp_path):
    with pytest.raises(Damaged, match="twice"):
        unzip(zipped(tmp_path / "a.zip", ("a", "x"), ("a", "y")), tmp_path / "out", Stop())


def test_directories_and_leading_slashes_are_no_files(tmp_path):
    path = zipped(tmp_path / "a.zip", ("d/", ""), ("/d/a", "x"))
    assert [file.name for file in unzip(path, tmp_path / "out", Stop()).files] == ["d/a"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-5], lambda data: data.replace(b"payload", b"pAyload", 1), lambda _: b"no zip"]
)
def test_damaged_archives_are_refused(tmp_path, damage):
    path = zipped(tmp_path / "a.zip", ("a", "payload"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match="cannot be unpacked"):
        unzip(path, tmp_path / "out", Stop())


def test_a_survey_refuses_what_cannot_travel(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/loop").symlink_to(".")
    with pytest.raises(Damaged, match="symbolic link to a directory"):
        survey(tmp_path / "in", Stop())
    (tmp_path / "in/loop").unlink()
    (tmp_path / "in/dangling").symlink_to("nowhere")
    with pytest.raises(Damaged, match="No such file"):
        survey(tmp_path / "in", Stop())


def test_a_manifest_is_kept_and_known_again(tmp_path):
    manifest = tree(tmp_path / "in", {"a": b"1", "b/c": b"2"}).manifest
    path = tmp_path / "m.json"
    manifest.save(path)
    assert Manifest.load(path, digest=manifest.digest) == manifest
    path.write_text(path.read_text().replace("b/c", "b/d"))
    with pytest.raises(Damaged, match="not the one that was written"):
        Manifest.load(path, digest=manifest.digest)
