from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from pfmoc.backoff import Backoff
from pfmoc.workflow.patience import Patience, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_pauses_grow_from_the_first_to_the_longest():
    pauses = list(islice(Backoff(first_s=0.2, longest_s=5, factor=2).pauses(), 12))
    assert 0.13 < pauses[0] <= 0.2
    assert all(5 * 0.66 < pause <= 5 for pause in pauses[6:])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        ("  0 ", 0),
        ("99999", 300),
        ("-3", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 00:00:30", 30),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
    ],
)
def test_retry_after(header, seconds):
    assert retry_after(header, now=NOW) == seconds


def test_patience_is_renewed_by_progress():
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0])
    now[0] = 9
    assert patience.left() == 1
    patience.renew()
    assert patience.left() == 10
