"""The SQL that marks orders due follows the pure rules of `state.schedule`."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from fixtures.postgres import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_store_suite import STRUCTURE, Events, Rig

from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.queries import queries
from daemon.state.schedule import DebouncePolicy, Lane, next_lane

pytestmark = pytest.mark.postgres
START = datetime(2026, 1, 1, tzinfo=UTC)

steps = st.lists(
    st.tuples(
        st.integers(0, 700), st.sampled_from(Lane), st.sampled_from(["touch", "touch", "touch", "claim", "settle"])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(quiet=st.integers(0, 300), extra=st.integers(0, 900), script=steps)
def test_due_time_lane_and_revision_follow_the_pure_rules(
    database: Database, quiet: int, extra: int, script: list[tuple[int, Lane, str]]
) -> None:
    """Touches, claims and settlements in any order: SQL and the pure rules agree after each step."""
    policy = DebouncePolicy(timedelta(seconds=quiet), timedelta(seconds=quiet + extra))
    # The statement reads the clock; here the clock is ours.
    mark = queries("ingest.sql")["mark_orders"].replace("clock_timestamp()", "%(now)s::timestamptz")
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync; truncate order_sync, destination restart identity cascade")
        connection.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        now, first, lane, revision, settled = START, None, Lane.BACKFILL, 0, 0
        for gap, touch, what in script:
            now += timedelta(seconds=gap)
            if what == "claim":
                connection.execute("update order_sync set first_change = null")
                first = None
            elif what == "settle":
                connection.execute("update order_sync set settled_revision = revision, first_change = null")
                first, settled = None, revision
            else:
                parameters = {"order_key": ["1"], "lane": [int(touch)], "committed": [None], "destinations": [1]}
                connection.execute(mark, {**parameters, "quiet": policy.quiet, "max_wait": policy.max_wait, "now": now})
                lane = next_lane(owed=revision > settled, current=lane, touch=touch) if revision else touch
                first, revision = first or now, revision + 1
                row = connection.execute("select revision, lane, first_change, due_at from order_sync").fetchone()
                assert row == (revision, int(lane), first, policy.due_at(first, now, lane))


def test_marks_within_one_step_of_the_backfill_touch_no_index(database: Database) -> None:
    """An order whose rows come one after the other is found in the index where its first one put it."""
    mark = queries("ingest.sql")["mark_orders"].replace("clock_timestamp()", "%(now)s::timestamptz")
    policy = {"quiet": timedelta(seconds=60), "max_wait": timedelta(seconds=600), "destinations": [1]}
    with closing(database.connect()) as connection, connection.transaction():
        connection.execute("set local search_path to order_sync")
        connection.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        for lane, in_place in ((Lane.BACKFILL, 3), (Lane.LIVE, 0)):
            before = connection.execute("select pg_stat_get_xact_tuples_hot_updated('order_sync'::regclass)").fetchone()
            for second in range(4):
                now = START + timedelta(seconds=1 + second)
                order = {"order_key": [lane.name], "lane": [int(lane)], "committed": [None]}
                connection.execute(mark, {**policy, **order, "now": now})
            after = connection.execute("select pg_stat_get_xact_tuples_hot_updated('order_sync'::regclass)").fetchone()
            assert before is not None
            assert after is not None
            assert after[0] - before[0] == in_place, lane


def test_the_store_uses_that_statement(database: Database) -> None:
    """A store's marks carry its own policy."""
    policy = DebouncePolicy(timedelta(seconds=7), timedelta(seconds=70))
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        rig = Rig(PostgresIngestStore(database.settings, policy))
        rig.store.open(STRUCTURE, ["a"])
        rig.fold(Events().change("orders", "1", v=1))
        rig.store.close()
        row = connection.execute("select due_at - last_change, first_change = last_change from order_sync").fetchone()
        assert row == (timedelta(seconds=7), True)
