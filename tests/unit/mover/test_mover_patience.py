"""How long the mover goes on, and how it ends."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from fakes.store import tickets

from pfmoc.mover.crew import Crew
from pfmoc.mover.report import Failed, Report, shown
from pfmoc.mover.ticket import Grants, read_publish
from pfmoc.mover.wire import Broken, Patience, Wire
from pfmoc.storage.workers import Stop, Stopped


def give_up(patience: Patience, broken: Broken, *, hopeful: bool = False) -> None:
    while True:
        if hopeful:
            patience.encourage()
        patience.wait(broken, 0.05, unauthorized=False)


def test_it_gives_up_when_nothing_has_worked_for_long_enough():
    patience = Patience(patience_s=0.2, until=time.monotonic() + 60, halt=Stop())
    with pytest.raises(Failed, match="no luck"):
        give_up(patience, Broken("no luck"))


def test_what_works_gives_hope_and_the_deadline_takes_it():
    begun = time.monotonic()
    patience = Patience(patience_s=60, until=begun + 0.3, halt=Stop())
    with pytest.raises(Failed):
        give_up(patience, Broken("full", after_s=60), hopeful=True)
    assert time.monotonic() - begun < 30, "the last pause is cut"


def test_one_that_is_told_to_stop_waits_no_more():
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        Patience(patience_s=60, until=time.monotonic() + 60, halt=stop).wait(Broken("x"), 5, unauthorized=False)


def test_a_store_that_is_not_there_is_a_failure_that_names_no_address():
    wire = Wire("http://127.0.0.1:1/v1/a/c", Patience(patience_s=0.1, until=time.monotonic() + 60, halt=Stop()), expires=0)
    with pytest.raises(Failed, match=r"^the store does not answer \(ConnectionRefusedError\)$"):
        wire.call("GET", "/x?temp_url_sig=secret")


def test_a_crew_does_everything_and_never_much_ahead():
    done, made = set(), 0
    turn = threading.Lock()

    def items():
        nonlocal made
        for number in range(200):
            made += 1
            with turn:
                assert made - len(done) < 20
            yield number

    def work(number: int) -> None:
        with turn:
            done.add(number)

    Crew(4, work, stop=Stop()).run(items())
    assert done == set(range(200))


def test_a_crew_ends_with_the_first_failure_and_all_threads_are_gone():
    before = threading.active_count()
    done = []

    def work(number: int) -> None:
        if number == 5:
            raise Failed("five")
        done.append(number)

    with pytest.raises(Failed, match="five"):
        Crew(3, work, stop=Stop()).run(range(100_000))
    assert len(done) < 1000
    assert threading.active_count() == before


def test_a_right_is_chosen_by_its_prefix_and_there_is_none_for_other_names():
    grants = Grants(rows=[("out/", "one"), ("key-j/output", "two")])
    assert grants.target("PUT", "out/ü ?", {}) == "/out/%C3%BC%20%3F?one"
    assert grants.target("PUT", "key-j/output.json", {}) == "/key-j/output.json?two"
    for name in ("out", "outer/x", "key-j/ticket.json", ""):
        with pytest.raises(Failed, match="no right"):
            grants.target("PUT", name, {})


def test_a_message_fits_and_stays_json(tmp_path: Path):
    Report(phase="pull", error="日" * 5000).write(tmp_path / "message", since=time.monotonic())
    text = (tmp_path / "message").read_bytes()
    assert len(text) <= 4096
    assert json.loads(text)["error"].startswith("日日")
    assert shown("a\nb\udcff") == "a\\nb\\udcff"
    assert len(shown("x" * 5000)) < 250


def test_where_the_pod_has_the_key_the_question_for_a_cancel_is_signed_when_it_is_asked(tmp_path: Path):
    given = json.loads(tickets("https://s3.example/data", kind="s3", s3={"access_key": "a", "secret_key": "s"})[1])
    given["ticket"]["query"] = "X-Amz-Signature=of-the-day-it-was-staged"
    (tmp_path / "publish.json").write_text(json.dumps(given))
    target, _, query = read_publish(tmp_path / "publish.json").alive.partition("?")
    words = dict(parse_qsl(query))
    assert target == "/ticket.json"
    assert words["X-Amz-Signature"] != "of-the-day-it-was-staged"
    assert abs(datetime.strptime(words["X-Amz-Date"], "%Y%m%dT%H%M%S%z").timestamp() - time.time()) < 60
