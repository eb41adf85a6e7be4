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


@given(st.booleans(), st.sampled_from(Lane), st.sampled_from(Lane))
def test_backfill_never_demotes_an_owed_live_order(owed: bool, current: Lane, touch: Lane) -> None:
    """Live stays live while something is owed; with nothing owed the touch decides."""
    lane = next_lane(owed=owed, current=current, touch=touch)
    assert lane == (Lane.LIVE if owed and Lane.LIVE in (current, touch) else touch)
