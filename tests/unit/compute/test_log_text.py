"""The end of a log, and the frames that an engine sends it in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfmoc.compute.text import LOG_BYTES, Frames, Tail


def tail(data: bytes, count: int) -> str:
    kept = Tail()
    kept.feed(data)
    return kept.lines(count)


@pytest.mark.parametrize(
    ("data", "count", "expected"),
    [
        (b"", 5, ""),
        (b"a\nb\nc\n", 0, ""),
        (b"a\nb\nc\n", 2, "b\nc\n"),
        (b"a\nb\nc", 2, "b\nc"),
        (b"a\nb\nc", 9, "a\nb\nc"),
        (b"\n\n\n", 2, "\n\n"),
        (b"a\r\nb\x0cb\x85\n", 1, "b\x0cb\N{REPLACEMENT CHARACTER}\n"),
    ],
)
def test_the_last_lines_are_kept(data: bytes, count: int, expected: str):
    assert tail(data, count) == expected


def test_a_cut_does_not_leave_half_a_character():
    text = tail("é".encode() * LOG_BYTES + b"x", 1)
    assert set(text) == {"é", "x"}
    assert len(text.encode()) in (LOG_BYTES, LOG_BYTES - 1)


@given(pieces=st.lists(st.binary(max_size=2000), max_size=20), count=st.integers(0, 10))
def test_it_does_not_matter_in_what_pieces_a_log_comes(pieces: list[bytes], count: int):
    kept = Tail()
    for piece in pieces:
        kept.feed(piece)
    assert kept.lines(count) == tail(b"".join(pieces), count)


@given(parts=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=10), size=st.integers(1, 30))
def test_frames_are_unpacked_however_they_are_cut(parts: list[tuple[int, bytes]], size: int):
    stream = b"".join(bytes([kind, 0, 0, 0]) + len(part).to_bytes(4, "big") + part for kind, part in parts)
    frames = Frames()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert b"".join(part for piece in pieces for part in frames.feed(piece)) == b"".join(part for _, part in parts)


def test_a_frame_that_claims_four_gibibytes_is_passed_on_as_it_comes():
    frames = Frames()
    assert list(frames.feed(b"\x01\0\0\0\xff\xff\xff\xffabc")) == [b"abc"]
    assert list(frames.feed(b"def")) == [b"def"]
