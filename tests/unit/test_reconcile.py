"""The comparison of reconcile: days, quirks, and what can be judged."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from daemon.delivery.reconcile import Days, Drift, Kind, Ours, compare, missed, placed_on

DOCUMENT = {"order_id": "A-1", "purchase_total": 10, "tax": 1, "order_tags": ["a", "b"]}
OURS = Ours("1", "A-1", DOCUMENT, finished=True)


@pytest.mark.parametrize(
    ("ours", "changes", "expected"),
    [
        (OURS, {}, None),
        (OURS, {"order_tags": ["b", "a"], "updated_at": "x", "is_deleted": True}, None),
        (OURS, {"purchase_total": 11, "tax": 2}, Drift(Kind.DIFFERENT, "A-1", "1", ("purchase_total", "tax"))),
        (Ours("1", "A-1", DOCUMENT, finished=False), {"tax": 2}, None),
        (Ours("1", "A-1", None, finished=True), {"tax": 2}, None),
        (None, {}, Drift(Kind.EXTRA, "A-1")),
    ],
)
def test_an_order_that_the_api_shows(ours: Ours | None, changes: dict[str, Any], expected: Drift | None) -> None:
    """Different attributes by name; nothing is said of what is on its way."""
    assert compare(ours, DOCUMENT | changes) == expected


def test_an_order_that_the_api_does_not_show() -> None:
    """Missing only where it was accepted and nothing came in between."""
    assert missed(OURS) == Drift(Kind.MISSING, "A-1", "1")
    assert missed(Ours("1", "A-1", DOCUMENT, finished=False)) is None
    assert missed(Ours("1", "A-1", None, finished=True)) is None
    assert missed(None) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T08:00:00Z", date(2026, 3, 1)),
        ("2026-03-01T23:30:00-05:00", date(2026, 3, 2)),
        ("2026-03-01 08:00:00", date(2026, 3, 1)),
        ("soon", None),
    ],
)
def test_day_of_purchase_is_that_of_utc(text: str, expected: date | None) -> None:
    """From our bytes and from their object alike."""
    assert placed_on(b'{"order_id":"x","time_of_purchase":"%s"}' % text.encode()) == expected
    assert placed_on({"time_of_purchase": text}) == expected
    assert placed_on({}) is None
    assert placed_on(b"{}") is None


def days() -> Days:
    """Two days with an order each, and one order of another day."""
    made = Days(date(2026, 3, 1), date(2026, 3, 2))
    made.expect("A-1", date(2026, 3, 1))
    made.expect("A-2", date(2026, 3, 2))
    made.expect("A-9", date(2026, 3, 9))
    made.expect("A-0", None)
    return made


def test_questions_reach_a_day_beyond_both_ends() -> None:
    """Whatever the API's zone, and whether the end is included."""
    assert list(days().questions()) == [
        (date(2026, 2, 28), date(2026, 3, 1)),
        (date(2026, 3, 1), date(2026, 3, 2)),
        (date(2026, 3, 2), date(2026, 3, 3)),
    ]


def test_order_is_met_once_and_on_its_own_day() -> None:
    """An answer may hold it twice, or orders of other days; one that we expected counts whatever day they say."""
    made = days()
    assert made.meets("A-1", date(2026, 2, 28))
    assert not made.meets("A-1", date(2026, 3, 1))
    assert not made.meets("A-9", date(2026, 3, 9))
    assert made.meets("X", date(2026, 3, 2))
    assert not made.meets("Y", date(2026, 3, 3))
    assert list(made.unmet(trust_empty=False)) == ["A-2"]
    assert made.silent() == {}


def test_silent_day_is_not_thousands_missing() -> None:
    """Where no order of a day was shown, its orders are missing only for who trusts that."""
    made = days()
    made.meets("A-1", date(2026, 3, 1))
    assert made.silent() == {date(2026, 3, 2): 1}
    assert list(made.unmet(trust_empty=False)) == []
    assert list(made.unmet(trust_empty=True)) == ["A-2"]
