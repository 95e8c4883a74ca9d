"""Jobs described in strings: fields, units, command lines; and how they are told from those in lists."""

import pytest

from pfmoc.compute.base import Limits
from pfmoc.dialects.fields import MISSING_IN_FORM
from pfmoc.dialects.pfcon3 import Pfcon3
from pfmoc.dialects.pfcon4 import STRING_JOB, Pfcon5And4
from pfmoc.dialects.pman import EITHER, STRINGS
from pfmoc.dialects.strings import spec_of, string_fields
from pfmoc.errors import InvalidRequest
from pfmoc.http import Refusal

JOB = {
    "jid": "j",
    "cmd_args": "--saveinputmeta --prefix 'two words' --dir /tmp/a",
    "cmd_path_flags": "--dir,--other",
    "auid": "bob",
    "number_of_workers": "1",
    "cpu_limit": "1000",
    "memory_limit": "200",
    "gpu_limit": "0",
    "image": "fnndsc/pl-simpledsapp",
    "selfexec": "simpledsapp",
    "selfpath": "/usr/local/bin",
    "execshell": "python3",
    "type": "ds",
}
UNITS = string_fields("test", units=True)


def given(**changes):
    return {name: [value] for name, value in {**JOB, **changes}.items() if value is not None}


def spec(**changes):
    return spec_of(STRING_JOB.parse(given(**changes)))


def test_a_job_in_strings():
    job = spec()
    assert job.command() == [
        *["python3", "/usr/local/bin/simpledsapp", "--saveinputmeta", "--prefix", "two words"],
        *["--dir", "/share/incoming", "/share/incoming", "/share/outgoing"],
    ]
    assert job.limits == Limits(cpu_millicores=1000, memory_mib=200)
    assert (job.auid, job.image, job.env, job.placed) == ("bob", "fnndsc/pl-simpledsapp", (), False)


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"cmd_args": "", "type": "fs"}, ["python3", "/usr/local/bin/simpledsapp", "/share/outgoing"]),
        (
            {"cmd_args": "--dir", "type": "ts"},
            ["python3", "/usr/local/bin/simpledsapp", "--dir", "/share/incoming", "/share/outgoing"],
        ),
        (
            {"cmd_args": "", "execshell": "/usr/bin/env python3", "type": "fs"},
            ["/usr/bin/env", "python3", "/usr/local/bin/simpledsapp", "/share/outgoing"],
        ),
        ({"cmd_args": "", "execshell": "", "type": "fs"}, ["/usr/local/bin/simpledsapp", "/share/outgoing"]),
        ({"cmd_args": "", "execshell": "", "selfpath": "", "type": "fs"}, ["simpledsapp", "/share/outgoing"]),
        ({"cmd_args": "", "selfpath": "/opt/app/", "type": "fs"}, ["python3", "/opt/app/simpledsapp", "/share/outgoing"]),
        (
            {"cmd_args": "$(id) `id` ; id | id > x", "type": "fs"},
            ["python3", "/usr/local/bin/simpledsapp", "$(id)", "`id`", ";", "id", "|", "id", ">", "x", "/share/outgoing"],
        ),
        (
            {"cmd_args": "--dir x", "cmd_path_flags": "", "type": "fs"},
            ["python3", "/usr/local/bin/simpledsapp", "--dir", "x", "/share/outgoing"],
        ),
        (
            {"cmd_args": "--dir x", "cmd_path_flags": " , --dir ,", "type": "fs"},
            ["python3", "/usr/local/bin/simpledsapp", "--dir", "/share/incoming", "/share/outgoing"],
        ),
        (
            {"cmd_args": "--dir x", "cmd_path_flags": None, "type": "fs"},
            ["python3", "/usr/local/bin/simpledsapp", "--dir", "x", "/share/outgoing"],
        ),
    ],
)
def test_command_lines(changes, command):
    assert spec(**changes).command() == command


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cmd_args": "--name 'Bob"}, "cmd_args: no closing quotation"),
        ({"cmd_args": "\\"}, "cmd_args: no escaped character"),
        ({"execshell": '"'}, "execshell: no closing quotation"),
        ({"selfexec": ""}, "selfexec: cannot be empty"),
    ],
)
def test_what_is_no_command_line(changes, message):
    with pytest.raises(InvalidRequest) as refused:
        spec(**changes)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("memory_limit", "4000Mi", 4000),
        ("memory_limit", "4000M", 3814),
        ("memory_limit", "4Gi", 4096),
        ("memory_limit", "1G", 953),
        ("memory_limit", " 200 ", 200),
        ("memory_limit", 200, 200),
        ("cpu_limit", "2000m", 2000),
        ("cpu_limit", "2000", 2000),
        ("cpu_limit", "-1", -1),
    ],
)
def test_limits_with_units(field, text, value):
    assert UNITS.parse(given(**{field: text}))[field] == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("memory_limit", "4000m"),
        ("memory_limit", "1.5Gi"),
        ("memory_limit", "Mi"),
        ("memory_limit", "-4Mi"),
        ("cpu_limit", "2000Mi"),
        ("cpu_limit", "2k"),
        ("gpu_limit", "1m"),
        ("number_of_workers", "1m"),
    ],
)
def test_units_that_are_none(field, text):
    with pytest.raises(Refusal) as refused:
        UNITS.parse(given(**{field: text}))
    assert refused.value.message == {field: f"invalid literal for int() with base 10: '{text}'"}


def test_pfcon_4_knows_no_units():
    with pytest.raises(Refusal):
        STRING_JOB.parse(given(memory_limit="4000Mi"))
    assert Pfcon3.fields.parse(given(memory_limit="4000Mi"))["memory_limit"] == 4000


def test_the_fields_of_a_job_tell_which_generation_speaks():
    assert "selfexec" in Pfcon5And4.fields.parse(given())
    lists = {**given(), "entrypoint": ["python3"], "args": ["a"]}
    assert Pfcon5And4.fields.parse(lists)["args"] == ["a"]
    with pytest.raises(Refusal) as refused:
        Pfcon5And4.fields.parse({"jid": ["j"]})
    assert "entrypoint" in refused.value.message
    with pytest.raises(Refusal) as refused:
        Pfcon5And4.fields.parse({"cmd_args": [""]})
    assert refused.value.message == {name: MISSING_IN_FORM for name in JOB if name not in ("cmd_args", "cmd_path_flags")}


def test_every_field_says_what_it_means():
    for form in (STRING_JOB, STRINGS, EITHER, Pfcon5And4.fields):
        assert all(field.help for field in form.fields)
        assert form.names
