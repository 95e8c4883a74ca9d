"""References to the process environment's images, and the programs in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfmoc.compute.images import find_image
from pfmoc.errors import ComputeRefused, InvalidRequest, PfmocError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for image in ("localhost/chris/pl-x/1.0", "localhost:5000/pl-y/latest", "pl-z/latest"):
        programs = tmp_path / "images" / image / "bin"
        programs.mkdir(parents=True)
        (programs / "x").touch(mode=0o755)
        (programs / "data").touch(mode=0o644)
        (programs / "directory").mkdir()
    (tmp_path / "outside/latest/bin").mkdir(parents=True)
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("reference", "directory"),
    [
        ("localhost/chris/pl-x:1.0", "localhost/chris/pl-x/1.0"),
        ("localhost:5000/pl-y", "localhost:5000/pl-y/latest"),
        ("pl-z", "pl-z/latest"),
        ("pl-z:latest", "pl-z/latest"),
    ],
)
def test_an_image_is_a_directory(tree: Path, reference: str, directory: str):
    assert find_image(tree, reference).path == tree / directory


@pytest.mark.parametrize("reference", ["localhost/chris/pl-x", "localhost/chris/pl-x:2.0", "localhost/chris", "pl-w"])
def test_an_image_that_is_not_there_is_refused_saying_where_it_belongs(tree: Path, reference: str):
    with pytest.raises(ComputeRefused, match=f"^{reference}: no such image.* put its programs into .*/bin below") as refused:
        find_image(tree, reference)
    assert refused.value.engine_status == 404
    assert str(tree) not in refused.value.message


def test_without_a_tree_there_is_no_image():
    with pytest.raises(ComputeRefused, match="set PFMOC_PROCESS_IMAGES") as refused:
        find_image(None, "pl-z")
    assert refused.value.engine_status == 404


def test_a_digest_is_refused_with_the_reason(tree: Path):
    with pytest.raises(ComputeRefused, match="a digest names the bytes of an image") as refused:
        find_image(tree, "pl-z@sha256:" + 64 * "0")
    assert refused.value.engine_status == 400


@pytest.mark.parametrize(
    "reference",
    [
        *("", ".", "..", "../outside", "pl-z/../../outside", "/pl-z", "pl-z/", "pl-z//latest", "pl-z:..", "pl-z:", "pl-z:."),
        *("pl-z:../../outside", "pl-z:a/b", "pl z", "pl-z\n", "pl-z\0", ".hidden", "a:b:c", "a:5000x/pl", "a/b:5000/pl"),
    ],
)
def test_what_is_no_reference_is_refused(tree: Path, reference: str):
    with pytest.raises(InvalidRequest, match=r"^image: "):
        find_image(tree, reference)


@given(reference=st.text(alphabet="a./:@-\\\0 ", max_size=12))
def test_no_reference_leaves_the_tree(reference: str):
    try:
        find_image(Path("/tree"), reference)
    except ComputeRefused as refused:
        _, into, rest = refused.message.partition(" into ")
        where = rest.partition(" below ")[0]
        assert not into or (".." not in where.split("/") and not where.startswith("/"))
    except PfmocError:
        pass


@pytest.mark.parametrize("entry", ["x", "/usr/local/bin/x", "/x"])
def test_a_program_is_known_by_its_name_and_by_the_path_it_has_in_a_container(tree: Path, entry: str):
    image = find_image(tree, "localhost/chris/pl-x:1.0")
    assert image.program([entry, "argument"]) == tree / "localhost/chris/pl-x/1.0/bin/x"


@pytest.mark.parametrize("entry", ["", ".", "..", "/", "/..", "./x", "../x", "a/x", "x/..", "x\0"])
def test_what_cannot_be_a_program_is_refused(tree: Path, entry: str):
    with pytest.raises(ComputeRefused, match="must be a program's name or absolute path") as refused:
        find_image(tree, "localhost/chris/pl-x:1.0").program([entry])
    assert refused.value.engine_status == 400


@pytest.mark.parametrize(
    ("entry", "reason"),
    [("y", "there is no program 'y'"), ("directory", "there is no program 'directory'"), ("data", "'data' is not executable")],
)
def test_a_program_that_cannot_be_executed_is_refused(tree: Path, entry: str, reason: str):
    with pytest.raises(ComputeRefused, match=f"^localhost/chris/pl-x:1.0: .*{reason}"):
        find_image(tree, "localhost/chris/pl-x:1.0").program([entry])


def test_no_command_at_all_is_refused(tree: Path):
    with pytest.raises(ComputeRefused):
        find_image(tree, "pl-z").program([])
