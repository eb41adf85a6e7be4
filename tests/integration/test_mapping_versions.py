"""A new mapping on a filled state: who may start, who has to end, and what becomes of the stored rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

import psycopg
import pytest
from fixtures.postgres import Database
from ingest_store_suite import NOW_MS
from state_rig import COUPONS, LINES, ORDERS, POLICY, TAXES, WITH_COUPONS, State, owner, structure

from daemon.errors import SchemaError, Superseded
from daemon.ingest.fold import Stager
from daemon.mapping.structure import Source
from daemon.state.ingest_store import Batch, Move, PostgresIngestStore, TopicPartition
from daemon.state.structure import Release, claim_mapping, relink

pytestmark = pytest.mark.postgres


@pytest.fixture
def state(database: Database) -> Iterator[State]:
    """An empty, migrated state."""
    made = State(database)
    yield made
    made.close()


def test_a_process_with_the_older_mapping_ends_before_its_next_transaction(state: State) -> None:
    """A new mapping takes over by starting; folds and assignments of the old one change nothing any more."""
    given = structure(orders=ORDERS)
    old = state.start("A", given)
    state.fold(old, given, state.events.change("orders", "1", v="a"))
    new = state.start("B", given)
    with pytest.raises(Superseded):
        old.positions([TopicPartition("t.orders", "one", 0)])
    [at] = new.positions([TopicPartition("t.orders", "one", 0)]).values()
    late = Stager(given).stage([(at.origin, state.events.change("orders", "1", v="late"))], NOW_MS)
    with pytest.raises(Superseded):
        old.fold(Batch(late, [], [Move(at.origin, at.next_offset, at.next_offset + 1)]))
    state.fold(new, given, state.events.change("orders", "1", v="b"))
    assert state.all("select columns->>'v' from source_row") == [("b",)]


def test_a_restarted_old_replica_does_not_turn_the_roll_back(state: State) -> None:
    """It refuses with the cure; put in force by hand, the older mapping is the one again."""
    given = structure(orders=ORDERS)
    state.start("A", given)
    state.start("B", given)
    state.start("B", given)
    with pytest.raises(SchemaError, match=r"was replaced by B .*order-sync migrate"):
        state.start("A", given)
    state.start("A", given, by_hand=True)
    with pytest.raises(SchemaError, match="was replaced by A"):
        state.start("B", given)


def test_a_revision_brings_an_older_mapping_back_once(state: State) -> None:
    """A deploy that goes back does; a pod of an earlier revision that starts late does not, however often it tries."""
    given = structure(orders=ORDERS)

    def deploy(version: str, revision: int, name: str = "shop") -> str:
        claim_mapping(state.settings, version, given, release=Release(name, revision, "helm"))
        [(in_force,)] = state.all("select version from mapping_in_force")
        return str(in_force)

    assert [deploy("A", 1), deploy("B", 2), deploy("B", 2)] == ["A", "B", "B"]
    for _ in range(2):
        with pytest.raises(SchemaError, match="was replaced by B"):
            deploy("A", 1)
    assert deploy("A", 3) == "A"
    with pytest.raises(SchemaError, match="was replaced by A"):
        deploy("B", 2)
    assert deploy("B", 1, name="other") == "B"
    assert state.all("select who, command, arguments->>'release', arguments->>'revision' from operator_action") == [
        ("helm", "migrate", "shop", "1"),
        ("helm", "migrate", "shop", "2"),
        ("helm", "migrate", "shop", "3"),
        ("helm", "migrate", "other", "1"),
    ]


def test_a_new_mapping_waits_for_folds_under_way(state: State) -> None:
    """No fold of the old mapping commits after the new one is in force."""
    given = structure(orders=ORDERS)
    old = state.start("A", given)
    state.fold(old, given, state.events.change("orders", "1", v="a"))
    with psycopg.connect(state.settings.dsn, autocommit=False) as folding:
        folding.execute("set search_path to order_sync")
        folding.execute("select version from mapping_in_force for share")
        blocked = state.settings.model_copy(update={"statement_timeout_secs": 0.2})
        with pytest.raises(Exception, match="QueryCanceled"):
            claim_mapping(blocked, "B", given)
    state.start("B", given)


def test_an_added_lookup_is_followed_by_rows_that_were_stored_before(state: State) -> None:
    """Orders that name a coupon become due when that coupon arrives, though they were folded before it was mapped."""
    before, after = structure(orders=ORDERS), structure(orders=WITH_COUPONS, coupons=COUPONS)
    old = state.start("A", before)
    state.fold(old, before, *(state.events.change("orders", str(n), coupon_id=n % 2) for n in range(4)))
    state.settle()
    new = state.start("B", after)
    assert state.owed() == set()
    state.fold(new, after, state.events.change("coupons", "1", code="X"))
    assert state.owed() == {"1", "3"}


def test_added_levels_belong_to_their_orders(state: State) -> None:
    """Rows of new sources find their order over rows that were stored before."""
    before, after = structure(orders=ORDERS, lines=LINES), structure(orders=ORDERS, lines=LINES, taxes=TAXES)
    old = state.start("A", before)
    state.fold(old, before, state.events.change("orders", "1"), state.events.change("lines", "7", order_id=1))
    state.settle()
    new = state.start("B", after)
    state.fold(new, after, state.events.change("taxes", "3", line_id=7))
    assert state.owed() == {"1"}


def test_a_changed_owner_moves_rows_and_marks_both_orders(state: State) -> None:
    """Lines that belonged by one column belong by another: their orders are due, and so are those they left."""
    moved = replace(LINES, owners=(owner("lines", "orders", "billed_order_id"),))
    before, after = (
        structure(orders=ORDERS, lines=LINES, taxes=TAXES),
        structure(orders=ORDERS, lines=moved, taxes=TAXES),
    )
    old = state.start("A", before)
    state.fold(
        old,
        before,
        *(state.events.change("orders", str(n)) for n in (1, 2, 3)),
        state.events.change("lines", "7", order_id=1, billed_order_id=2),
        state.events.change("taxes", "70", line_id=7),
        state.events.change("lines", "8", order_id=3, billed_order_id=3),
    )
    state.settle()
    state.start("B", after)
    assert state.owed() == {"1", "2"}
    rows = dict(state.all("select s.name || r.key, r.root from source_row r join source s on s.id = r.source"))
    assert (rows["lines7"], rows["taxes70"], rows["lines8"]) == ("2", "2", "3")


def test_relinking_goes_on_after_a_stop(state: State) -> None:
    """A process that is stopped midway leaves the rest to the next start, which does all of it."""
    before, after = structure(orders=ORDERS), structure(orders=WITH_COUPONS, coupons=COUPONS)
    old = state.start("A", before)
    state.fold(old, before, state.events.change("orders", "1", coupon_id=1))
    claim_mapping(state.settings, "B", after)
    store = PostgresIngestStore(state.settings, POLICY, "B")
    store.open(after, ["a"])
    relink(store, state.settings, after, lambda: True)
    store.close()
    assert state.all("select refs from source_row") == [(None,)]
    state.start("B", after)
    assert state.all("select cardinality(refs) from source_row") == [(1,)]


@pytest.mark.parametrize(
    "changed",
    [
        replace(ORDERS, types=MappingProxyType({"total": "numeric(10,2)"})),
        replace(ORDERS, drop=frozenset({"note"})),
    ],
    ids=["types", "drop"],
)
def test_other_values_need_a_rebuild_and_leave_the_old_mapping_in_force(state: State, changed: Source) -> None:
    """Stored rows would be read wrong: the new mapping is refused with the command, and the old process goes on."""
    before = structure(orders=ORDERS)
    old = state.start("A", before)
    state.fold(old, before, state.events.change("orders", "1", v="a"))
    with pytest.raises(SchemaError, match="order-sync rebuild --source orders"):
        state.start("B", structure(orders=changed))
    state.fold(old, before, state.events.change("orders", "1", v="b"))


def test_a_source_without_rows_may_change_as_it_likes(state: State) -> None:
    """Nothing is stored that could be wrong."""
    state.start("A", structure(orders=ORDERS, lines=LINES))
    state.start("B", structure(orders=ORDERS, lines=replace(LINES, drop=frozenset({"note"}))))


def test_topics_that_are_mapped_no_longer_do_not_hold_delivery(state: State) -> None:
    """A backlog that nobody will read must not keep the gate closed."""
    store = state.start("A", structure(orders=ORDERS, coupons=COUPONS))
    store.close_gate({TopicPartition("t.coupons", "one", 0): 100}, timedelta(hours=1))
    assert store.gate() == 1
    assert state.start("B", structure(orders=ORDERS)).gate() == 0
