"""The byte ledger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivery.budget import Ledger, Shares
from daemon.state.schedule import Lane

SHARES = Shares(1000, 0.5, 0.1)


def test_bytes_count_from_the_reserve_to_the_end_of_their_window() -> None:
    """An open request counts without end; an ended one until its time, that moment included."""
    ledger = Ledger().reserve(1, Lane.LIVE, 300)
    assert ledger.used(10**9) == 300
    ledger = ledger.close(1, 100.0)
    assert [ledger.used(now) for now in (99.0, 100.0, 100.1)] == [300, 300, 0]
    assert ledger.trimmed(100.1).entries == ()


def test_request_that_never_left_is_forgotten() -> None:
    """No byte of it reached the vendor."""
    assert Ledger().reserve(1, Lane.LIVE, 300).forget(1).used(0.0) == 0


@pytest.mark.parametrize(
    ("live", "backfill", "waits", "room_live", "room_backfill"),
    [
        (0, 0, False, 1000, 1000),  # one document above every share must pass, alone
        (100, 0, False, 900, 500),
        (100, 0, True, 800, 500),
        (0, 100, True, 900, 400),
        (500, 100, True, 400, 400),
        (600, 300, True, 100, 100),
        (0, 500, False, 500, 0),
        (900, 0, True, 0, 100),
        (900, 100, True, 0, 0),
    ],
)
def test_lanes_keep_their_shares(live: int, backfill: int, waits: bool, room_live: int, room_backfill: int) -> None:
    """Live's share is never given away; the backfill's only while nothing waits in it."""
    ledger = Ledger()
    if live:
        ledger = ledger.reserve(1, Lane.LIVE, live)
    if backfill:
        ledger = ledger.reserve(2, Lane.BACKFILL, backfill)
    assert ledger.room(0.0, Lane.LIVE, SHARES, backfill_waits=waits) == room_live
    assert ledger.room(0.0, Lane.BACKFILL, SHARES, backfill_waits=waits) == room_backfill


EVENTS = st.lists(
    st.tuples(st.sampled_from(list(Lane)), st.integers(1, 600), st.floats(0, 30), st.floats(0, 30), st.floats(0, 20)),
    max_size=30,
)


@given(EVENTS, st.booleans())
def test_no_window_exceeds_the_budget_wherever_requests_land(
    events: list[tuple[Lane, int, float, float, float]], waits: bool
) -> None:
    """Requests arrive somewhere between reserve and end; any window of arrivals stays within the budget."""
    window, now, ledger = 60.0, 0.0, Ledger()
    arrivals: list[tuple[float, int]] = []
    ends: dict[int, float] = {}
    for number, (lane, size, travel, answer, wait) in enumerate(events):
        now += wait
        for one, end in list(ends.items()):
            if end <= now:
                ledger = ledger.close(one, end + window)
                del ends[one]
        if ledger.room(now, lane, SHARES, backfill_waits=waits) < size:
            continue
        ledger = ledger.reserve(number, lane, size)
        arrivals.append((now + travel, size))
        ends[number] = now + travel + answer
    for start, _ in arrivals:
        assert sum(size for at, size in arrivals if start <= at <= start + window) <= SHARES.budget
