"""The OMS database itself goes back or grows: what the mirror ends as, exactly as the README says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures.postgres import Database
from ingest_store_suite import NOW_MS
from state_rig import COUPONS, LINES, WITH_COUPONS, State, structure

from daemon.ingest.change import Kind
from daemon.state import rebuild
from daemon.state.ingest_store import PostgresIngestStore

pytestmark = pytest.mark.postgres

GIVEN = structure(orders=WITH_COUPONS, lines=LINES, coupons=COUPONS)


@pytest.fixture
def state(database: Database) -> Iterator[State]:
    """An empty, migrated state."""
    made = State(database)
    yield made
    made.close()


@pytest.fixture
def store(state: State) -> PostgresIngestStore:
    """Two orders with a line each, written at log positions around a million, all sent."""
    store, events = state.start("A", GIVEN), state.events
    for n in (1, 2):
        at = {"position": (1_000_000 + n,), "committed_ms": NOW_MS + n}
        state.fold(store, GIVEN, events.change("orders", str(n), **at, v="before"))
        state.fold(store, GIVEN, events.change("lines", f"{n}0", **at, order_id=n, v="before"))
    state.settle()
    return store


def values(state: State) -> dict[str, str]:
    """Live rows by source and key."""
    return dict(
        state.all(
            "select s.name || ' ' || r.key, r.columns->>'v' from source_row r join source s on s.id = r.source"
            " where not r.deleted"
        )
    )


def test_a_primary_that_counts_from_lower_positions_is_believed(state: State, store: PostgresIngestStore) -> None:
    """After a fail-over log positions may start low; what was committed later is newer all the same."""
    later = {"position": (500,), "committed_ms": NOW_MS + 10}
    state.fold(store, GIVEN, state.events.change("orders", "1", **later, v="after"))
    state.fold(store, GIVEN, state.events.change("lines", "20", kind=Kind.DELETE, **later))
    assert values(state) == {"orders 1": "after", "orders 2": "before", "lines 10": "before"}
    assert state.owed() == {"1", "2"}


def test_what_the_old_primary_still_delivers_late_is_stale(state: State, store: PostgresIngestStore) -> None:
    """A re-delivery of an event from before the fail-over from another partition undoes nothing that came after it."""
    state.fold(
        store, GIVEN, state.events.change("orders", "1", position=(2_000_000,), committed_ms=NOW_MS + 10, v="after")
    )
    state.fold(
        store,
        GIVEN,
        state.events.change("orders", "1", partition=1, position=(1_000_001,), committed_ms=NOW_MS + 1, v="late"),
    )
    assert values(state)["orders 1"] == "after"


def test_a_restored_oms_wins_with_its_new_snapshot_and_its_lost_rows_are_ghosts(
    state: State, store: PostgresIngestStore
) -> None:
    """The restored database is snapshot anew: older values are newer reads. Rows that it does not have any more stay
    until a rebuild by that snapshot reports them and they are swept.
    """
    rebuild.begin_by_snapshot(state.settings, GIVEN, ["orders", "lines"], "me")
    read = {"position": (700_000,), "committed_ms": NOW_MS + 1000, "snapshot": True}
    state.fold(store, GIVEN, state.events.change("orders", "1", **read, v="restored"))
    state.fold(store, GIVEN, state.events.change("orders", "2", **read, v="before"))
    state.fold(store, GIVEN, state.events.change("lines", "20", **read, order_id=2, v="before"))
    assert values(state) == {
        "orders 1": "restored",
        "orders 2": "before",
        "lines 10": "before",
        "lines 20": "before",
    }
    assert state.owed() == {"1"}
    assert [(ghost.key, ghost.order) for ghost in rebuild.ghosts(state.settings, None, 10)] == [("10", "1")]
    rebuild.sweep(store, state.settings, ["lines"], "me")
    assert "lines 10" not in values(state)
    state.fold(
        store, GIVEN, state.events.change("orders", "1", position=(700_010,), committed_ms=NOW_MS + 2000, v="on")
    )
    assert values(state)["orders 1"] == "on"


def test_an_added_column_is_absent_until_its_row_is_touched(state: State, store: PostgresIngestStore) -> None:
    """No event reports it for other rows: it stays absent there, which the mapping's `defaults:` give a meaning."""
    state.fold(store, GIVEN, state.events.change("orders", "1", v="after", gift=True))
    rows = dict(
        state.all(
            "select key, columns ? 'gift' from source_row r join source s on s.id = r.source where s.name = 'orders'"
        )
    )
    assert rows == {"1": True, "2": False}
