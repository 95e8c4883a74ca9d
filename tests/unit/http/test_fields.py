import pytest

from pfmoc.dialects.fields import MISSING_IN_FORM, Field, FieldSet
from pfmoc.dialects.pfcon5 import JOB
from pfmoc.dialects.pfcon6 import COPY, PLUGIN
from pfmoc.http import Refusal

FORM = FieldSet(
    name="test",
    fields=(
        Field(name="name", required=True),
        Field(name="count", type=int, default=7),
        Field(name="words", many=True),
        Field(name="kind", choices=("a", "b")),
    ),
)


def refused(values):
    with pytest.raises(Refusal) as caught:
        FORM.parse(values)
    assert caught.value.status == 400
    return caught.value.message


def test_absent_fields_get_their_defaults():
    assert FORM.parse({"name": ["n"]}) == {"name": "n", "count": 7, "words": [], "kind": None}


def test_the_first_of_a_repeated_scalar_counts_and_a_list_keeps_all():
    parsed = FORM.parse({"name": ["one", "two"], "words": ["a,b", "", "c"]})
    assert parsed["name"] == "one"
    assert parsed["words"] == ["a,b", "", "c"]


def test_all_bad_fields_are_named_at_once_in_their_declared_order():
    message = refused({"kind": ["z"], "count": ["abc"]})
    assert list(message.items()) == [
        ("name", MISSING_IN_FORM),
        ("count", "invalid literal for int() with base 10: 'abc'"),
        ("kind", "z is not a valid choice"),
    ]


@pytest.mark.parametrize(("given", "read"), [("-1", -1), (" 5 ", 5), (5, 5), ("007", 7), (-3, -3)])
def test_whole_numbers(given, read):
    assert FORM.parse({"name": ["n"], "count": [given]})["count"] == read


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("1.5", "invalid literal for int() with base 10: '1.5'"),
        (1.5, "invalid literal for int() with base 10: '1.5'"),
        ("", "invalid literal for int() with base 10: ''"),
        ("NaN", "invalid literal for int() with base 10: 'NaN'"),
        (True, "must be an integer"),
        ({}, "must be an integer"),
        (["1"], "must be an integer"),
    ],
)
def test_what_is_no_whole_number(given, text):
    assert refused({"name": ["n"], "count": [given]}) == {"count": text}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("a\0b", "must not contain a NUL character"),
        ("\ud800", "must be text that UTF-8 can hold"),
        (True, "must be a string"),
        (1.5, "must be a string"),
        ({"a": 1}, "must be a string"),
        (None, "must be a string"),
    ],
)
def test_what_is_no_text(given, text):
    assert refused({"name": [given]}) == {"name": text}
    assert refused({"name": ["n"], "words": ["good", given]}) == {"words": text}


def test_a_number_is_accepted_as_text_and_an_empty_list_as_a_list():
    assert FORM.parse({"name": [5], "words": []}) == {"name": "5", "count": 7, "words": [], "kind": None}
    assert refused({"name": []}) == {"name": MISSING_IN_FORM}


def test_what_json_calls_whole_is_whole():
    assert FORM.parse({"name": ["n"], "count": [1.0]})["count"] == 1
    assert "count" in refused({"name": ["n"], "count": [1.5]})
    assert "count" in refused({"name": ["n"], "count": [float("inf")]})


def test_generations_differ_in_whether_arguments_are_required():
    required = {form.name: [field.name for field in form.fields if field.required] for form in (PLUGIN, JOB, COPY)}
    always = ["auid", "number_of_workers", "cpu_limit", "memory_limit", "gpu_limit", "image", "entrypoint", "type"]
    assert required == {"pluginjobs": ["jid", *always], "jobs": ["jid", "args", *always], "copyjobs": ["jid", "output_dir"]}


def test_every_field_says_what_it_means():
    assert all(field.help for form in (PLUGIN, JOB, COPY) for field in form.fields)
