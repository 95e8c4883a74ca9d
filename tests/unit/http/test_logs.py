import io
import json
import logging
import warnings

import pytest

from pfmoc import logs

SECRET = 'the "signing" key'
TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJwZmNvbl91c2VyIjoicGZjb24ifQ.Zm9vYmFyYmF6cXV4"


@pytest.fixture
def stream():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure(redact=[SECRET, "hunter2", ""], stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def records(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_has_its_time_in_utc_its_level_event_and_ids(stream):
    request_id, jid = logs.request_id.set("r-1"), logs.jid.set("chris-jid-1")
    logging.getLogger("pfmoc.test").info("job %s", "started", extra={"seconds": 1.5, "ok": True, "names": ("a", "b")})
    logs.request_id.reset(request_id)
    logs.jid.reset(jid)
    logging.getLogger("pfmoc.test").warning("later")
    first, second = records(stream)
    assert first["time"].endswith("Z")
    assert "T" in first["time"]
    assert {key: value for key, value in first.items() if key != "time"} == {
        "level": "info",
        "event": "job started",
        "logger": "pfmoc.test",
        "request_id": "r-1",
        "jid": "chris-jid-1",
        "seconds": 1.5,
        "ok": True,
        "names": ["a", "b"],
    }
    assert set(second) == {"time", "level", "event", "logger"}


@pytest.mark.parametrize(
    "leak",
    [
        f"Authorization: Bearer {TOKEN}",
        "authorization: bearer opaque-token-0123",
        f"token={TOKEN}",
        f"key is {SECRET}",
        "password hunter2",
        "env CHRIS_USER_TOKEN=0123456789abcdef0123",
        "{'pfcon_password': 'opensesame'}",
        '{"swift_key_secret": "opensesame"}',
    ],
)
def test_secrets_are_redacted_wherever_they_stand(stream, leak):
    log = logging.getLogger("pfmoc.test")
    log.info(leak)
    log.info("%s", leak)
    log.info("nested", extra={"deep": {"list": [leak], leak: 1}, "object": RuntimeError(leak)})
    log.error("failed", exc_info=ValueError(leak))
    text = stream.getvalue()
    assert len(records(stream)) == 4
    for secret in (TOKEN, SECRET, json.dumps(SECRET)[1:-1], "hunter2", "opaque-token", "0123456789abcdef", "opensesame"):
        assert secret not in text
    assert logs.REDACTED in text


def test_one_event_is_one_line_and_control_characters_are_inert(stream):
    evil = 'x\r\n{"event": "forged"}\x1b[31m\x00\u2028\x7f'
    logging.getLogger("pfmoc.test").info("evil %s", evil, extra={"jid_given": evil})
    (record,) = records(stream)
    assert record["jid_given"] == evil
    raw = stream.getvalue()
    assert raw.count("\n") == 1
    assert raw.isascii()
    assert not set(raw[:-1]) & {chr(code) for code in range(32)}


def test_an_exception_is_part_of_its_record(stream):
    effect = RuntimeError("the effect")
    effect.__cause__ = OSError("the cause")
    logging.getLogger("pfmoc.test").error("failed", exc_info=effect)
    (record,) = records(stream)
    assert "the cause" in record["exc_info"]
    assert "the effect" in record["exc_info"]


def test_long_values_are_cut_and_no_credential_is_left_at_the_cut(stream):
    logging.getLogger("pfmoc.test").info("%s Bearer %s%s", "x" * (16384 - 20), "s3cret" * 20, "y" * 1_000_000)
    (record,) = records(stream)
    assert len(record["event"]) < 17_000
    assert "s3cret" not in record["event"]
    assert record["event"].endswith("characters)")


def test_redaction_of_hostile_text_takes_no_time(stream):
    for text in ("a" * 10**6, "token" * 10**5, "eyJ" * 10**5, "Bearer " * 10**5, "'=" * 10**5):
        logging.getLogger("pfmoc.test").info(text)
    assert len(records(stream)) == 5


def test_python_warnings_are_records(stream):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", stacklevel=1)
    assert records(stream)[0]["logger"] == "py.warnings"
