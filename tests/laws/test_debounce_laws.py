"""Due times: the pure rule and the SQL rule are one rule, and it keeps its two promises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from daemon.state.schedule import DebouncePolicy, Lane, next_lane

START = datetime(2026, 1, 1, tzinfo=UTC)
GAPS = st.lists(st.integers(0, 900), min_size=1, max_size=30)


@given(quiet=st.integers(0, 600), extra=st.integers(0, 3600), gaps=GAPS)
def test_never_before_quiet_and_never_after_the_maximum_wait(quiet: int, extra: int, gaps: list[int]) -> None:
    """However often an order changes, it is due no later than max_wait after its first unsent change."""
    policy = DebouncePolicy(timedelta(seconds=quiet), timedelta(seconds=quiet + extra))
    last = START
    for gap in gaps:
        last += timedelta(seconds=gap)
        due = policy.due_at(START, last)
        assert due <= START + policy.max_wait
        assert due == last + policy.quiet or due == START + policy.max_wait


@given(quiet=st.integers(1, 600), extra=st.integers(0, 3600), gaps=GAPS)
def test_the_backfill_is_due_in_steps_of_the_quiet_period(quiet: int, extra: int, gaps: list[int]) -> None:
    """Never before it was quiet, and less than one quiet period later; never after the maximum wait."""
    policy = DebouncePolicy(timedelta(seconds=quiet), timedelta(seconds=quiet + extra))
    last = START
    for gap in gaps:
        last += timedelta(seconds=gap)
        live, due = policy.due_at(START, last), policy.due_at(START, last, Lane.BACKFILL)
        assert live <= due < live + policy.quiet
        assert due == START + policy.max_wait or due.timestamp() % quiet == 0


@given(st.booleans(), st.sampled_from(Lane), st.sampled_from(Lane))
def test_backfill_never_demotes_an_owed_live_order(owed: bool, current: Lane, touch: Lane) -> None:
    """Live stays live while something is owed; with nothing owed the touch decides."""
    lane = next_lane(owed=owed, current=current, touch=touch)
    assert lane == (Lane.LIVE if owed and Lane.LIVE in (current, touch) else touch)
