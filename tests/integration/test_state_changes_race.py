"""Versions, rebuilds, halts and the gate where they meet each other, or come late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

import pytest
from fixtures.postgres import Database
from ingest_store_suite import NOW_MS
from state_rig import COUPONS, LINES, ORDERS, POLICY, TAXES, WITH_COUPONS, State, owner, structure

from daemon.errors import SchemaError, Superseded
from daemon.ingest.change import Kind
from daemon.ingest.fold import Stager
from daemon.ingest.gaps import HaltReason, Log, Stand, gap
from daemon.state import rebuild
from daemon.state import structure as versions
from daemon.state.ingest_store import Batch, Move, PostgresIngestStore, TopicPartition
from daemon.state.positions import reset_positions
from daemon.state.rebuild import Extent
from daemon.state.structure import claim_mapping, relink

pytestmark = pytest.mark.postgres

GIVEN = structure(orders=WITH_COUPONS, lines=LINES, coupons=COUPONS)
ORDERS_0, LINES_0 = TopicPartition("t.orders", "one", 0), TopicPartition("t.lines", "one", 0)
MOVED = replace(LINES, owners=(owner("lines", "orders", "other_id"),))
HOUR = timedelta(hours=1)


@pytest.fixture
def state(database: Database) -> Iterator[State]:
    """An empty, migrated state."""
    made = State(database)
    yield made
    made.close()


def two_orders_and_a_line(state: State) -> PostgresIngestStore:
    """A line that belongs to order 1 by one column and to order 2 by another; all sent."""
    given = structure(orders=ORDERS, lines=LINES)
    store = state.start("A", given)
    state.fold(store, given, *(state.events.change("orders", n, v=1) for n in "12"))
    state.fold(store, given, state.events.change("lines", "7", order_id=1, other_id=2))
    state.settle()
    return store


def test_a_rebuild_with_changed_relations_moves_rows_and_marks_both_orders(state: State) -> None:
    """Though the row is read again as it was."""
    two_orders_and_a_line(state)
    given = structure(orders=ORDERS, lines=MOVED)
    claim_mapping(state.settings, "B", given, by_hand=True, rebuilt=["lines"])
    rebuild.begin(state.settings, given, ["lines"], {LINES_0: Extent(0, 1)}, "me")
    store = state.start("B", given)
    state.fold(store, given, state.events.change("lines", "7", offset=0, order_id=1, other_id=2))
    assert state.owed() == {"1", "2"}
    assert state.all("select root from source_row where key = '7'") == [("2",)]


def test_a_rebuild_by_snapshot_with_changed_relations_moves_stored_rows(state: State) -> None:
    """They follow at the next start, before the snapshot shows them."""
    two_orders_and_a_line(state)
    given = structure(orders=ORDERS, lines=MOVED)
    claim_mapping(state.settings, "B", given, by_hand=True)
    rebuild.begin_by_snapshot(state.settings, given, ["lines"], "me")
    state.start("B", given)
    assert state.all("select root from source_row where key = '7'") == [("2",)]


def test_a_row_that_moves_below_another_row_is_resolved_again(state: State) -> None:
    """Three hops: the row read again hangs below another line and finds that line's order."""
    given = structure(orders=ORDERS, lines=LINES, taxes=TAXES)
    moved = structure(orders=ORDERS, lines=LINES, taxes=replace(TAXES, owners=(owner("taxes", "lines", "other_line"),)))
    store = state.start("A", given)
    for n in "12":
        state.fold(store, given, state.events.change("orders", n, v=1))
        state.fold(store, given, state.events.change("lines", "7" + n, order_id=int(n)))
    state.fold(store, given, state.events.change("taxes", "9", line_id=71, other_line=72))
    state.settle()
    claim_mapping(state.settings, "B", moved, by_hand=True, rebuilt=["taxes"])
    rebuild.begin(state.settings, moved, ["taxes"], {TopicPartition("t.taxes", "one", 0): Extent(0, 1)}, "me")
    store = state.start("B", moved)
    state.fold(store, moved, state.events.change("taxes", "9", offset=0, line_id=71, other_line=72))
    assert state.all("select root, parent from source_row where key = '9'") == [("2", "72")]
    assert state.owed() == {"1", "2"}


@pytest.mark.parametrize(
    "changed",
    [replace(LINES, key=("order_id", "id")), replace(LINES, types=MappingProxyType({"id": "numeric(10,2)"}))],
    ids=["other columns", "other text"],
)
def test_other_keys_are_refused_for_a_rebuild_too(state: State, changed: object) -> None:
    """Rows under new keys would stand beside the old ones, and every order would have each line twice."""
    two_orders_and_a_line(state)
    given = structure(orders=ORDERS, lines=changed)
    with pytest.raises(SchemaError, match="a state of its own"):
        claim_mapping(state.settings, "B", given, by_hand=True, rebuilt=["lines"])


def test_a_retried_reject_makes_no_row_newer_than_it_is(state: State) -> None:
    """After a generation was raised, an old message that is folded late neither revives nor overwrites."""
    store = state.start("A", GIVEN)
    old = state.events.change("lines", "7", order_id=1, v="old")
    state.fold(store, GIVEN, state.events.change("orders", "1", v=1))
    at = store.positions([LINES_0])[LINES_0]
    store.fold(Batch([], [], [Move(at.origin, at.next_offset, 1, rejected=1)]))
    state.look.execute(
        'insert into rejected_message (topic, topic_id, partition, "offset", reason, detail)'
        " values ('t.lines', 'one', 0, 0, 'bad_value', 'x')"
    )
    state.fold(store, GIVEN, state.events.change("lines", "7", order_id=1, v="new"))
    state.fold(store, GIVEN, state.events.change("lines", "7", kind=Kind.DELETE))
    rebuild.begin_by_snapshot(state.settings, GIVEN, ["lines"], "me")
    _, result = store.retry(
        0,
        None,
        10,
        lambda page: (Stager(GIVEN).stage([(page[0][1], old)], NOW_MS), [page[0][0]], {}),
    )
    assert (result.folded.total(), result.stale.total()) == (0, 1)
    assert state.all("select deleted, generation from source_row where key = '7'") == [(True, 0)]


def test_of_two_starts_at_once_the_newer_mapping_stays(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica of the old mapping that restarts while the new one starts does not turn the roll back."""
    given = structure(orders=ORDERS)
    state.start("A", given)
    judge = versions._refuse_other_rows
    blocked: list[BaseException] = []

    def meanwhile(*arguments: object) -> None:
        monkeypatch.setattr(versions, "_refuse_other_rows", judge)
        short = state.settings.model_copy(update={"statement_timeout_secs": 0.3})
        try:
            claim_mapping(short, "B", given)
        except Exception as error:  # noqa: BLE001 - looked at below
            blocked.append(error)
        judge(*arguments)

    monkeypatch.setattr(versions, "_refuse_other_rows", meanwhile)
    claim_mapping(state.settings, "A", given)
    assert len(blocked) == 1  # B waits until A's claim is through, and is in force then
    claim_mapping(state.settings, "B", given)
    assert state.all("select version from mapping_in_force") == [("B",)]


def test_a_superseded_process_relinks_nothing(state: State) -> None:
    """A replica of the old mapping that waited for the new one's relinking puts no row back."""
    two_orders_and_a_line(state)
    state.start("B", structure(orders=ORDERS, lines=MOVED))
    before = structure(orders=ORDERS, lines=LINES)
    late = PostgresIngestStore(state.settings, POLICY, "A")
    late.open(before, ["a"])
    with pytest.raises(Superseded):
        relink(late, state.settings, before, lambda: False)
    late.close()
    assert state.all("select root from source_row where key = '7'") == [("2",)]


def test_a_topic_made_anew_during_its_rebuild_does_not_hold_delivery(state: State) -> None:
    """What was to be read of the incarnation before will never come."""
    store = state.start("A", GIVEN)
    state.fold(store, GIVEN, state.events.change("lines", "7", order_id=1))
    rebuild.begin(state.settings, GIVEN, ["lines"], {LINES_0: Extent(0, 1)}, "me")
    assert store.gate() == 1
    store.positions([TopicPartition("t.lines", "two", 0)])
    assert store.gate() == 0


def test_a_partition_that_is_folded_is_not_halted(state: State) -> None:
    """A halt that was written late, by a member that lost the partition, does not outlive the next fold."""
    store = state.start("A", GIVEN)
    at = store.positions([LINES_0])[LINES_0]
    store.close_gate({LINES_0: 100}, HOUR)
    store.halt([at.origin], "written late")
    store.fold(Batch([], [], [Move(at.origin, -1, 50, skipped=50)]))
    assert store.gate() == 1
    assert state.all("select count(*) from kafka_position where halted is not null") == [(0,)]


def test_topic_ids_are_adopted_for_the_whole_topic(state: State) -> None:
    """Whichever partition is asked for first, all stand where they stood."""
    store = state.start("A", GIVEN)
    untold = [TopicPartition("t.lines", "", n) for n in (0, 1)]
    for position in store.positions(untold).values():
        store.fold(Batch([], [], [Move(position.origin, -1, 10, skipped=10)]))
    reset_positions(state.settings, "t.lines", "X", {0: None}, "me", "here")
    told = [TopicPartition("t.lines", "X", n) for n in (0, 1)]
    assert [position.next_offset for position in store.positions(told).values()] == [10, 10]


def test_a_target_beyond_a_log_that_lost_its_end_is_reached_with_it(state: State) -> None:
    """A rebuild's gate opens once all that is there is read."""
    store = state.start("A", GIVEN)
    rebuild.begin(state.settings, GIVEN, ["lines"], {LINES_0: Extent(0, 800)}, "me")
    at = store.positions([LINES_0])[LINES_0]
    store.note_read({at.origin: 600})
    assert store.gate() == 1
    store.fold(Batch([], [], [Move(at.origin, 0, 600, skipped=600)]))
    store.note_read({at.origin: 600})
    assert store.gate() == 0


def test_after_a_gap_no_value_is_taken_from_before_it(state: State) -> None:
    """What compaction removed may have set another value: it is unknown then, never the old one."""
    store = state.start("A", GIVEN)
    state.fold(store, GIVEN, state.events.change("orders", "1", v=1, big="A"))
    store.halt([store.positions([ORDERS_0])[ORDERS_0].origin], "left unread for too long")
    rebuild.begin(state.settings, GIVEN, ["orders"], {ORDERS_0: Extent(0, 12)}, "me")
    state.fold(store, GIVEN, state.events.change("orders", "1", offset=11, v=2, unavailable=("big",)))
    assert state.all("select columns, unknown from source_row where key = '1'") == [({"v": 2}, ["big"])]


def test_a_state_from_before_versions_were_noted_starts(state: State) -> None:
    """There is nothing to compare with: the first start notes it."""
    store = state.start("A", GIVEN)
    state.fold(store, GIVEN, state.events.change("orders", "1", v=1))
    state.look.execute("update source set key_version = null, structure = null, relations = null")
    state.look.execute("update mapping_in_force set version = ''")
    state.look.execute("delete from mapping_version")
    state.look.execute("update structure_in_force set root = null")
    state.start("A", GIVEN)
    with pytest.raises(SchemaError, match="rebuild --source orders"):
        state.start("B", structure(orders=replace(WITH_COUPONS, drop=frozenset({"x"})), lines=LINES, coupons=COUPONS))


def test_what_kafka_deletes_before_a_rebuild_has_read_it_is_a_gap(state: State) -> None:
    """The rebuild stands at the offset that was the first one when it began, not at wherever the log begins."""
    store = state.start("A", GIVEN)
    rebuild.begin(state.settings, GIVEN, ["lines"], {LINES_0: Extent(3, 9)}, "me")
    at = store.positions([LINES_0])[LINES_0]
    assert gap(Log(3, 9), Stand(at.next_offset, at.read_ms), at.read_ms) is None
    assert gap(Log(5, 9), Stand(at.next_offset, at.read_ms), at.read_ms) is HaltReason.RETENTION


def test_a_gap_that_was_passed_by_is_remembered_until_a_rebuild(state: State) -> None:
    """`position reset` after a halt goes on knowingly; the next rebuild takes no value from before it."""
    store = state.start("A", GIVEN)
    state.fold(store, GIVEN, state.events.change("orders", "1", v=1, big="A"))
    store.halt([store.positions([ORDERS_0])[ORDERS_0].origin], "left unread for too long")
    reset_positions(state.settings, "t.orders", "one", {0: None}, "me", "here")
    rebuild.begin(state.settings, GIVEN, ["orders"], {ORDERS_0: Extent(0, 12)}, "me")
    state.fold(store, GIVEN, state.events.change("orders", "1", offset=11, v=2, unavailable=("big",)))
    assert state.all("select unknown from source_row where key = '1'") == [(["big"],)]


def test_relinking_does_not_stand_in_the_way_of_another_start(state: State) -> None:
    """A second replica's claim waits for no more than a page; the relinking process is not held up by it either."""
    two_orders_and_a_line(state)
    given = structure(orders=WITH_COUPONS, lines=MOVED, coupons=COUPONS)
    claim_mapping(state.settings, "B", given)
    short = state.settings.model_copy(update={"statement_timeout_secs": 1.0})
    store = PostgresIngestStore(short, POLICY, "B")
    store.open(given, ["a"])

    def another_starts() -> bool:
        claim_mapping(short, "B", given)
        return False

    relink(store, short, given, another_starts)
    store.close()
    assert state.all("select root from source_row where key = '7'") == [("2",)]
