"""Manifests, and which names can be files."""

from __future__ import annotations

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from pfmoc.storage import layout
from pfmoc.storage.layout import Parts, Places, lines, unfit

TEXT = st.text(max_size=60)
LINES = st.lists(st.dictionaries(st.sampled_from(["source", "target", "etag"]), TEXT, min_size=1), max_size=50)


@given(written=LINES, at=st.integers(1, 500))
def test_what_is_written_in_parts_is_read_line_by_line(written, at):
    before, layout.PART_BYTES = layout.PART_BYTES, at
    try:
        parts = Parts()
        filled = [part for line in written if (part := parts.add(line))]
        if rest := parts.rest():
            filled.append(rest)
    finally:
        layout.PART_BYTES = before
    assert parts.count == len(filled)
    assert [line for part in filled for line in lines(part)] == written
    assert all(len(part) < at + 2000 for part in filled)


@given(path=st.text(max_size=300))
def test_a_name_that_fits_stays_below_the_directory_that_it_is_put_in(path):
    try:
        reason = unfit(path)
    except UnicodeEncodeError:
        return  # no store has such names
    if reason is None:
        parts = path.split("/")
        assert PurePosixPath("/in", path).parts == ("/", "in", *parts)
        assert ".." not in parts
        assert "\0" not in path


def test_names_that_cannot_be_files():
    for path in ("", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", "x" * 256, "/".join(["d" * 200] * 25)):
        assert unfit(path) is not None, path
    for path in ("a", "a b", "ü/日本", "line\nbreak", "..a", "a..", "x" * 255):
        assert unfit(path) is None, path


def test_all_of_a_job_lies_below_its_key_but_segments():
    places = Places("j.1")
    for name in (places.ticket, places.input, places.output(), places.output(3), places.outgoing, places.uploaded):
        assert name.startswith("key-j.1/")
    assert layout.head(places.output(2)) == "key-j.1/output-2.json"
    assert layout.part(places.output(), 7) == "key-j.1/output/00007.jsonl"
    assert not places.outgoing.startswith(places.outputs)
    assert places.segments == ".pfmoc/segments/j.1/"
