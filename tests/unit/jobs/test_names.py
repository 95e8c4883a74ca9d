import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfmoc.errors import InvalidRequest
from pfmoc.jobs.names import JID_MAX, RESERVED, check_jid, engine_name

JIDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}", fullmatch=True)


@pytest.mark.parametrize("jid", ["chris-jid-1", "A", "a.b_c-D", "9", "x" * JID_MAX])
def test_legal_ids_stay_as_they_are(jid):
    assert check_jid(jid) == jid


def test_leading_slashes_are_stripped_as_upstream_does():
    assert check_jid("//chris-jid-1") == "chris-jid-1"


@pytest.mark.parametrize(
    "jid",
    [
        "",
        "/",
        "..",
        ".hidden",
        "-x",
        "_x",
        "a/b",
        "q/../../../escaped",
        "a\\b",
        "a b",
        "a\nb",
        "a\x1b[31m",
        "a\0b",
        "a%2fb",
        "\N{ONE DOT LEADER}\N{ONE DOT LEADER}",
        "jöb",
        "a\n",
        "x" * (JID_MAX + 1),
        *sorted(RESERVED),
    ],
)
def test_what_could_leave_its_directory_is_refused(jid):
    with pytest.raises(InvalidRequest) as refused:
        check_jid(jid)
    assert refused.value.field == "jid"


@given(JIDS, st.sampled_from(["", "copy", "upload", "delete"]))
def test_engine_names_are_dns_labels(jid, suffix):
    name = engine_name(jid, suffix)
    assert len(name) <= 63
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)


@given(JIDS, JIDS)
def test_engine_names_tell_ids_apart(one, other):
    assert (engine_name(one) == engine_name(other)) == (one == other)


@pytest.mark.parametrize(("one", "other"), [("A", "a"), ("x.y", "x_y"), ("j-", "j"), ("a" * 63, "a" * 64)])
def test_ids_that_look_alike_get_different_names(one, other):
    assert engine_name(one) != engine_name(other)


@pytest.mark.parametrize("jid", ["A", "x_y", "a" * 64])
def test_the_engine_name_of_one_id_cannot_be_had_by_choosing_it_as_another(jid):
    assert engine_name(engine_name(jid)) != engine_name(jid)


def test_a_plain_id_is_its_own_engine_name():
    assert engine_name("chris-jid-7") == "chris-jid-7"
    assert engine_name("chris-jid-7", "copy") == "chris-jid-7-copy"
