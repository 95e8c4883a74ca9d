"""``.chrislink`` expansion as a table (contract 6.1, 6.2; faults 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfmoc.errors import TooLarge
from pfmoc.storage import links
from pfmoc.storage.links import BadLink, Expansion, Files, Link, carriers, lies_in
from pfmoc.storage.workers import Stop


def linked(tree: Mapping[str, str]) -> dict[str, Link]:
    """The links of a tree that is given as path -> content, all targets existing."""
    found = {}
    for path, content in tree.items():
        if path.endswith(".chrislink"):
            target = links.parse(path, content.encode())
            goal = target.strip("/")
            found[path] = (links.to_file if goal in tree else links.to_directory)(target, goal)
    return found


def shared(tree: Mapping[str, str], inputs: Sequence[str] = ("in",), *, limit: int = 1000) -> dict[str, str]:
    """Expand inputs of storage in the network."""
    expansion = Expansion(files=Files(tree), links=linked(tree), limit=limit, stop=Stop())
    for path in inputs:
        (expansion.add_file if path in tree else expansion.add_directory)(path)
    return expansion.placed


def zipped(tree: Mapping[str, str], *, limit: int = 1000) -> dict[str, str]:
    """Expand an unpacked zip."""
    files, found = Files(tree), linked(tree)
    expansion = Expansion(files=files, links=found, limit=limit, stop=Stop())
    leaving = carriers(files, found)
    for path in files:
        if not lies_in(path, leaving):
            expansion.keep(path)
    return expansion.placed


TABLE = {
    "no link": ({"in/a": "", "in/b/c": ""}, {"a": "in/a", "b/c": "in/b/c"}),
    "to a directory": (
        {"in/l.chrislink": "home/bob", "home/bob/f": "", "home/bob/g/h": ""},
        {"home_bob/f": "home/bob/f", "home_bob/g/h": "home/bob/g/h"},
    ),
    "blanks around the target": ({"in/l.chrislink": " home/bob\n", "home/bob/f": ""}, {"home_bob/f": "home/bob/f"}),
    "to a file": ({"in/l.chrislink": "home/bob/f", "home/bob/f": ""}, {"home_bob/f": "home/bob/f"}),
    "trailing slash": ({"in/l.chrislink": "home/bob/", "home/bob/f": ""}, {"home_bob_/f": "home/bob/f"}),
    "in a subdirectory": ({"in/d/l.chrislink": "home/bob", "home/bob/f": ""}, {"d/home_bob/f": "home/bob/f"}),
    "a chain": (
        {"in/l.chrislink": "home/bob", "home/bob/k.chrislink": "PIPELINES/bob", "PIPELINES/bob/p.yml": ""},
        {"home_bob/PIPELINES_bob/p.yml": "PIPELINES/bob/p.yml"},
    ),
    "a chain to a file": (
        {"in/l.chrislink": "home/bob", "home/bob/k.chrislink": "PIPELINES/bob/p.yml", "PIPELINES/bob/p.yml": ""},
        {"home_bob/PIPELINES_bob/p.yml": "PIPELINES/bob/p.yml"},
    ),
    "to a link": (
        {"in/l.chrislink": "home/k.chrislink", "home/k.chrislink": "data", "data/x": ""},
        {"home/data/x": "data/x"},
    ),
    "two files of one directory": (
        {"in/l.chrislink": "home/bob/f", "in/m.chrislink": "home/bob/g", "home/bob/f": "", "home/bob/g": ""},
        {"home_bob/f": "home/bob/f", "home_bob/g": "home/bob/g"},
    ),
    "names that begin alike": (
        {"in/l.chrislink": "data/1", "in/m.chrislink": "data/10", "data/1/a": "", "data/10/b": ""},
        {"data_1/a": "data/1/a", "data_10/b": "data/10/b"},
    ),
    "the input's name within another": (
        {"in/l.chrislink": "home/bob", "home/bob/P.chrislink": "in2/x", "home/bob/main": "", "in2/x/in": ""},
        {"home_bob/main": "home/bob/main", "home_bob/in2_x/in": "in2/x/in"},
    ),
    "the input has a directory of the target's name": (
        {"in/home/x": "", "in/l.chrislink": "home/bob", "home/bob/f": ""},
        {"home/x": "in/home/x", "home_bob/f": "home/bob/f"},
    ),
    "to the directory it is in": ({"in/l.chrislink": "in", "in/a": ""}, {"a": "in/a"}),
    "to a directory of the input beside it": (
        {"in/l.chrislink": "in/d", "in/d/a": ""},
        {"d/a": "in/d/a", "in_d/a": "in/d/a"},
    ),
    "to a directory above the input": (
        {"data/in/l.chrislink": "data", "data/in/a": "", "data/b": ""},
        {"a": "data/in/a", "data/b": "data/b", "data/in/a": "data/in/a"},
    ),
    "a cycle": (
        {"in/l.chrislink": "x", "x/k.chrislink": "y", "x/a": "", "y/j.chrislink": "x", "y/b": ""},
        {"x/a": "x/a", "x/y/b": "y/b"},
    ),
    "a cycle of three through the input": (
        {"in/l.chrislink": "x", "in/a": "", "x/k.chrislink": "in", "x/b": ""},
        {"a": "in/a", "x/b": "x/b"},
    ),
    "to a file at the root": ({"in/d/l.chrislink": "readme", "readme": ""}, {"d/readme": "readme"}),
    "one target from two places": (
        {"in/a/l.chrislink": "x", "in/b/l.chrislink": "x", "x/f": ""},
        {"a/x/f": "x/f", "b/x/f": "x/f"},
    ),
    "the same file twice": (
        {"in/l.chrislink": "x", "in/m.chrislink": "x/f", "x/f": ""},
        {"x/f": "x/f"},
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_links_of_shared_storage(case: str):
    tree, expected = TABLE[case]
    inputs = ("data/in",) if "data/in/a" in tree else ("in",)
    assert shared(tree, inputs) == expected


def test_an_input_may_be_a_file_or_a_link():
    tree = {"in/a": "", "in/l.chrislink": "in/d", "in/d/x": "", "other": ""}
    assert shared(tree, ["in/a", "other", "in/l.chrislink"]) == {"a": "in/a", "other": "other", "in_d/x": "in/d/x"}
    assert shared({"in/l.chrislink": "in", "in/x": ""}, ["in/l.chrislink"]) == {"in/x": "in/x"}


def test_of_equal_names_in_several_inputs_the_last_stays():
    tree = {"one/a": "", "one/b": "", "two/a": "", "two/c": ""}
    assert shared(tree, ["one", "two"]) == {"a": "two/a", "b": "one/b", "c": "two/c"}


ZIPPED = {
    "no link": ({"a": "", "b/c": ""}, {"a": "a", "b/c": "b/c"}),
    "what a link leads to moves": (
        {"l.chrislink": "home/bob", "home/bob/f": "", "a": ""},
        {"a": "a", "home_bob/f": "home/bob/f"},
    ),
    "a chain": (
        {"l.chrislink": "home/bob", "home/bob/k.chrislink": "PIPELINES/bob", "PIPELINES/bob/p.yml": ""},
        {"home_bob/PIPELINES_bob/p.yml": "PIPELINES/bob/p.yml"},
    ),
    "what no link leads to stays": (
        {"l.chrislink": "home/bob", "home/bob/f": "", "home/ann/g": ""},
        {"home/ann/g": "home/ann/g", "home_bob/f": "home/bob/f"},
    ),
    "directories that only lead to each other stay": (
        {"a/l.chrislink": "b", "a/x": "", "b/m.chrislink": "a", "b/y": ""},
        {"a/x": "a/x", "a/b/y": "b/y"},
    ),
    "a link to where it is": ({"a/l.chrislink": "a", "a/x": ""}, {"a/x": "a/x"}),
    "a link upwards": ({"a/b/l.chrislink": "a", "a/b/x": "", "a/y": ""}, {"a/b/x": "a/b/x", "a/y": "a/y"}),
    "to a file at the root": ({"d/l.chrislink": "f", "f": ""}, {"d/f": "f", "f": "f"}),
    "files at the root that lead to each other": (
        {"a.chrislink": "b.chrislink", "b.chrislink": "a.chrislink", "c": ""},
        {"c": "c"},
    ),
}


@pytest.mark.parametrize("case", ZIPPED)
def test_links_of_a_zip(case: str):
    tree, expected = ZIPPED[case]
    assert zipped(tree) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"/", "relative"),
        (b"/etc/passwd", "relative"),
        (b".", "is empty"),
        (b"..", "'..'"),
        (b"home/../../etc", "'..'"),
        (b"a\0b", "control"),
        (b"a\nb", "control"),
        (b"\xff", "not UTF-8"),
        (b"x" * 70_000, "larger than 65536 bytes"),
        (b"x" * 5000, "too long"),
    ],
)
def test_a_target_that_is_no_path_is_an_error_that_names_the_link(content: bytes, reason: str):
    with pytest.raises(BadLink, match=reason) as bad:
        links.parse("in/l.chrislink", content)
    assert str(bad.value).startswith("link in/l.chrislink ")


@pytest.mark.parametrize(
    "tree",
    [
        {"in/l.chrislink": "a/b_c", "in/m.chrislink": "a_b/c", "a/b_c/f": "", "a_b/c/f": ""},
        {"in/l.chrislink": "home/bob", "in/home_bob/f": "", "home/bob/f": ""},
        {"in/l.chrislink": "home/bob", "in/home_bob": "", "home/bob/f": ""},
        {"in/l.chrislink": "x", "in/x/f": "", "x/f/g": ""},
        {"in/l.chrislink": "x", "in/x/f/g": "", "x/f": ""},
    ],
)
def test_two_things_of_one_name_are_an_error(tree: dict[str, str]):
    with pytest.raises(BadLink, match=r"both become|which is a"):
        shared(tree)


def test_a_long_chain_is_followed_as_far_as_paths_go():
    def chain(length: int) -> dict[str, str]:
        tree = {f"{index}/l.chrislink": f"{index + 1}" for index in range(length)}
        return {**tree, "in/l.chrislink": "0", f"{length}/end": ""}

    placed = shared(chain(500))
    assert list(placed.values()) == ["500/end"]
    with pytest.raises(BadLink, match="chain of more than 512"):
        shared(chain(600))
    long = {f"{index:0200}/l.chrislink": f"{index + 1:0200}" for index in range(30)}
    with pytest.raises(BadLink, match="too long"):
        shared({**long, "in/l.chrislink": f"{0:0200}", f"{30:0200}/end": ""})


def test_a_target_too_long_for_a_name_is_an_error():
    with pytest.raises(BadLink, match="too long for the name"):
        shared({"in/l.chrislink": "x" * 200 + "/" + "y" * 200, "x" * 200 + "/" + "y" * 200 + "/f": ""})


def test_links_that_multiply_are_bounded():
    tree = {f"{a}/{b}.chrislink": f"{b}" for a in range(12) for b in range(12) if a != b}
    with pytest.raises(TooLarge, match="more than 1000 links"):
        shared(tree | {"in/l.chrislink": "0"})
    with pytest.raises(TooLarge, match="more than 1000 files"):
        shared({f"in/{index}": "" for index in range(1001)})


SEGMENT = st.sampled_from(["a", "b", "a1", "in"])
DIRECTORY = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, str]:
    """A few files and links, every link to something that is there. Names of files and directories are apart."""
    files = draw(st.sets(st.tuples(DIRECTORY, st.sampled_from(["x.f", "y.f"])).map("/".join), min_size=1, max_size=6))
    directories = sorted({file.rsplit("/", depth)[0] for file in files for depth in range(1, 4)} - files)
    targets = st.sampled_from(directories) | st.sampled_from(sorted(files))
    places = st.tuples(DIRECTORY, st.sampled_from(["k.chrislink", "l.chrislink"])).map("/".join)
    return dict.fromkeys(files, "") | draw(st.dictionaries(places, targets, max_size=5))


@given(trees())
@settings(max_examples=120)
def test_whatever_a_zip_holds_is_in_the_result(tree: dict[str, str]):
    try:
        placed = zipped(tree)
    except (BadLink, TooLarge):
        return
    assert set(placed.values()) == {path for path in tree if not path.endswith(".chrislink")}
    assert not any(path.endswith(".chrislink") for path in placed)


@given(trees(), DIRECTORY)
@settings(max_examples=120)
def test_an_input_is_all_in_the_result_and_all_of_it_was_there(tree: dict[str, str], top: str):
    try:
        placed = shared(tree, [top])
    except (BadLink, TooLarge):
        return
    files = {path for path in tree if not path.endswith(".chrislink")}
    assert set(placed.values()) <= files
    for path in files:
        if path.startswith(f"{top}/"):
            assert placed[path.removeprefix(f"{top}/")] == path
