"""Which paths a client may name (faults 15)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfmoc.storage.paths import BadPath, StoreBase, components, is_below

HOSTILE = st.lists(
    st.sampled_from(
        ["..", ".", "", "a", "key-x", ".pfmoc", "home", "out", "in", "%2e%2e", "\u2024\u2024", "-rf", "~", "K", "\0", "x" * 300]
    )
    | st.text(max_size=5),
    max_size=6,
).map("/".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("home/u/feeds", "home/u/feeds"),
        ("/home/u/feeds/", "home/u/feeds"),
        ("home//u/./feeds", "home/u/feeds"),
        ("etc/passwd", "etc/passwd"),
        ("%2e%2e/%2e%2e/etc", "%2e%2e/%2e%2e/etc"),
        ("\u2024\u2024/etc", "\u2024\u2024/etc"),
        ("-rf", "-rf"),
        ("home/key-1", "home/key-1"),
        ("Home/\u00e9\u00e9", "Home/\u00e9\u00e9"),
    ],
)
def test_a_contained_path_is_taken(base: Path, text: str, expected: str):
    assert StoreBase(base).check(text) == expected
    assert StoreBase(base).resolve(text) == base / expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("/", "is empty"),
        (".", "is empty"),
        ("..", "'..'"),
        ("home/../../etc", "'..'"),
        ("home/..", "'..'"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x1b[2Jb", "control"),
        ("a\x85b", "control"),
        ("a\udcffb", "UTF-8"),
        ("key-other/incoming", "belongs to the compute resource"),
        ("./key-other", "belongs to the compute resource"),
        (".pfmoc/spool", "belongs to the compute resource"),
        ("x" * 256, "too long"),
        ("x/" * 2100 + "x", "too long"),
    ],
)
def test_any_other_path_is_refused(base: Path, text: str, reason: str):
    with pytest.raises(BadPath, match=reason):
        StoreBase(base).resolve(text)


def test_a_link_that_leads_out_is_refused(base: Path, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (base / "key-1").mkdir()
    (base / "inside").mkdir()
    (base / "out").symlink_to(tmp_path / "outside")
    (base / "key").symlink_to("key-1")
    (base / "root").symlink_to(".")
    (base / "in").symlink_to("inside")
    storebase = StoreBase(base)
    for name in ("out", "out/x", "root", "key", "key/incoming", "in/../out"):
        with pytest.raises(BadPath):
            storebase.resolve(name)
    assert storebase.resolve("in/x") == base / "inside" / "x"


def test_a_storebase_behind_a_link_is_the_operators_choice(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "storeBase").symlink_to("disk")
    assert StoreBase(tmp_path / "storeBase").resolve("home") == tmp_path / "disk" / "home"


@pytest.mark.parametrize("jid", ["", "a/b", "/a", "a/", "..", "../x", "a\0", "\n"])
def test_a_key_directory_is_right_below_the_root(base: Path, jid: str):
    with pytest.raises(BadPath):
        StoreBase(base).key_dir(jid)


def test_paths_are_compared_component_by_component():
    assert is_below("data/1/x", "data/1")
    assert is_below("data/1", "data/1")
    assert is_below("data/1", "")
    assert not is_below("data/10", "data/1")
    assert not is_below("data", "data/1")


@given(HOSTILE)
def test_whatever_is_taken_lies_in_the_storebase(text: str):
    with tempfile.TemporaryDirectory() as directory:
        storebase = StoreBase(Path(directory))
        (storebase.root / "out").symlink_to("/")
        (storebase.root / "in").symlink_to("home")
        try:
            path = storebase.resolve(text)
        except BadPath:
            return
        parts = path.relative_to(storebase.root).parts
        assert parts
        assert ".." not in parts
        assert parts[0] != ".pfmoc"
        assert not parts[0].startswith("key-")


@given(HOSTILE)
def test_components_are_plain_names(text: str):
    try:
        parts = components(text)
    except BadPath:
        return
    assert parts
    assert all(part not in ("", ".", "..") and "/" not in part for part in parts)
