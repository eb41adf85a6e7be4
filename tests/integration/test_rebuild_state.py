"""A rebuild's state: rows are replaced in place, delivery is held meanwhile, what was not met again is a ghost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

import pytest
from fixtures.postgres import Database
from state_rig import COUPONS, LINES, WITH_COUPONS, State, structure

from daemon.errors import SchemaError
from daemon.ingest.change import Kind
from daemon.state import rebuild
from daemon.state.ingest_store import TopicPartition
from daemon.state.rebuild import Extent
from daemon.state.structure import claim_mapping

pytestmark = pytest.mark.postgres

GIVEN = structure(orders=WITH_COUPONS, lines=LINES, coupons=COUPONS)
ORDERS_0, LINES_0 = TopicPartition("t.orders", "one", 0), TopicPartition("t.lines", "one", 0)


@pytest.fixture
def state(database: Database) -> Iterator[State]:
    """Two orders with two lines each, all sent."""
    made = State(database)
    events, store = made.events, made.start("A", GIVEN)
    for n in (1, 2):
        made.fold(store, GIVEN, events.change("orders", str(n), v=n, coupon_id=5))
        made.fold(store, GIVEN, *(events.change("lines", f"{n}{m}", order_id=n, v=m) for m in (1, 2)))
    made.fold(store, GIVEN, events.change("coupons", "5", code="X"))
    made.settle()
    yield made
    made.close()


def test_delivery_is_held_until_the_end_of_then_is_read(state: State) -> None:
    """The gate has no maximum; progress counts offsets, and ends."""
    store = state.start("A", GIVEN)
    assert rebuild.begin(state.settings, GIVEN, ["lines"], {LINES_0: Extent(0, 4)}, "me") == {"lines": 1}
    assert [(one.topic, one.done, one.target) for one in rebuild.progress(state.settings)] == [("t.lines", 0, 4)]
    state.fold(store, GIVEN, *(state.events.change("lines", "11", offset=n, order_id=1, v=1) for n in range(3)))
    assert store.gate() == 1
    assert [one.done for one in rebuild.progress(state.settings)] == [3]
    state.fold(store, GIVEN, state.events.change("lines", "12", offset=3, order_id=1, v=2))
    assert (store.gate(), rebuild.progress(state.settings)) == (0, [])


def test_rows_read_again_as_they_were_make_nothing_due(state: State) -> None:
    """A rebuild of an unchanged source costs no request."""
    store = state.start("A", GIVEN)
    rebuild.begin(state.settings, GIVEN, ["lines"], {LINES_0: Extent(0, 4)}, "me")
    for offset, (n, m) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)]):
        state.fold(store, GIVEN, state.events.change("lines", f"{n}{m}", offset=offset, order_id=n, v=m))
    assert (state.owed(), rebuild.count_ghosts(state.settings, None)) == (set(), {})


def test_what_was_not_met_again_is_reported_and_goes_only_by_command(state: State) -> None:
    """Ghosts stay rows of their orders until they are swept; then the orders are due. Later events bring a row back."""
    store = state.start("A", GIVEN)
    rebuild.begin(state.settings, GIVEN, ["lines"], {LINES_0: Extent(0, 2)}, "me")
    state.fold(store, GIVEN, state.events.change("lines", "11", offset=0, order_id=1, v=1))
    state.fold(store, GIVEN, state.events.change("lines", "21", offset=1, order_id=2, v=1, position=(1,)))
    assert rebuild.count_ghosts(state.settings, ["lines"]) == {"lines": (2, 2)}
    assert rebuild.count_ghosts(state.settings, ["orders"]) == {}
    assert [(g.key, g.order) for g in rebuild.ghosts(state.settings, None, 10)] == [("12", "1"), ("22", "2")]
    assert rebuild.sweep(store, state.settings, ["lines"], "me") == (2, 2)
    assert state.owed() == {"1", "2"}
    assert state.all("select key from source_row where deleted order by 1") == [("12",), ("22",)]
    assert rebuild.ghosts(state.settings, None, 10) == []
    state.fold(store, GIVEN, state.events.change("lines", "12", offset=2, order_id=1, v=3, position=(2,)))
    assert state.all("select deleted from source_row where key = '12'") == [(False,)]
    actions = state.all("select command, who, affected from operator_action order by id")
    assert actions == [("rebuild", "me", 1), ("ghosts sweep", "me", 2)]


def test_a_swept_lookup_makes_its_orders_due(state: State) -> None:
    """A coupon that is gone changes every order that names it."""
    store = state.start("A", GIVEN)
    rebuild.begin_by_snapshot(state.settings, GIVEN, ["coupons"], "me")
    assert store.gate() == 0
    assert rebuild.sweep(store, state.settings, ["coupons"], "me") == (1, 0)
    assert state.owed() == {"1", "2"}


def test_deletes_seen_again_are_no_ghosts(state: State) -> None:
    """A row that was deleted before and after is not reported."""
    store = state.start("A", GIVEN)
    state.fold(store, GIVEN, state.events.change("lines", "11", kind=Kind.DELETE))
    rebuild.begin(state.settings, GIVEN, ["lines"], {LINES_0: Extent(0, 5)}, "me")
    assert {ghost.key for ghost in rebuild.ghosts(state.settings, None, 10)} == {"12", "21", "22"}


def test_other_values_come_in_by_a_rebuild(state: State) -> None:
    """A mapping that was refused for its types starts once its source is rebuilt, also if the command died between."""
    typed = structure(
        orders=replace(WITH_COUPONS, types=MappingProxyType({"v": "bigint"})), lines=LINES, coupons=COUPONS
    )
    with pytest.raises(SchemaError):
        state.start("B", typed)
    claim_mapping(state.settings, "B", typed, by_hand=True, rebuilt=["orders"])
    with pytest.raises(SchemaError, match="rebuild --source orders"):
        state.start("B", typed)
    claim_mapping(state.settings, "B", typed, by_hand=True, rebuilt=["orders"])
    rebuild.begin(state.settings, typed, ["orders"], {ORDERS_0: Extent(0, 2)}, "me")
    store = state.start("B", typed)
    assert store.positions([ORDERS_0])[ORDERS_0].next_offset == 0


def test_a_recreated_topic_is_read_from_its_beginning(state: State) -> None:
    """A rebuild needs no position reset: it knows the incarnation of now, and the one before holds nothing."""
    store = state.start("A", GIVEN)
    again = TopicPartition("t.lines", "two", 0)
    old = store.positions([LINES_0])[LINES_0].origin
    store.halt([old], "recreated")
    rebuild.begin(state.settings, GIVEN, ["lines"], {again: Extent(0, 3)}, "me")
    assert store.positions([again])[again].next_offset == 0
    assert store.gate() == 1
    assert state.all("select count(*) from kafka_position where halted is not null") == [(0,)]
