"""What every ingest store must do: the behaviour of the fold, told once for memory and for Postgres."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest

from daemon.errors import PositionsMoved
from daemon.ingest.change import Change, Kind, Message, Reject, RejectReason
from daemon.ingest.fold import Stager
from daemon.mapping.structure import Link, Role, Source, Structure
from daemon.state.ingest_store import Batch, IngestStore, Move, TopicPartition
from daemon.state.schedule import Lane

LINEAGE = "postgresql/oms/oms/public/any"
OTHER_LINEAGE = "postgresql/oms/elsewhere/public/any"
NOW_MS = 1_800_000_000_000


def link(name: str, source: str, target: str, column: str, **constants: str) -> Link:
    return Link(f"{source}.{name}", source, target, (column,), tuple(constants.items()))


STRUCTURE = Structure(
    root="orders",
    version="test",
    sources={
        "orders": Source(
            "orders", "t.orders", Role.ROOT, refs=(link("customer", "orders", "customers", "customer_id"),)
        ),
        "lines": Source("lines", "t.lines", Role.OWNED, owners=(link("lines", "lines", "orders", "order_id"),)),
        "refunds": Source(
            "refunds", "t.refunds", Role.OWNED, owners=(link("refunds", "refunds", "orders", "order_id"),)
        ),
        "refund_lines": Source(
            "refund_lines",
            "t.refund_lines",
            Role.OWNED,
            owners=(link("lines", "refund_lines", "refunds", "refund_id", kind="line"),),
        ),
        "notes": Source(
            "notes", "t.notes", Role.OWNED, owners=(link("notes", "notes", "refund_lines", "refund_line_id"),)
        ),
        "customers": Source(
            "customers", "t.customers", Role.SHARED, refs=(link("country", "customers", "countries", "country"),)
        ),
        "countries": Source("countries", "t.countries", Role.SHARED),
        "taxes": Source(
            "taxes",
            "t.taxes",
            Role.OWNED,
            owners=(
                link("taxes", "taxes", "orders", "order_id"),
                link("taxes", "taxes", "refunds", "owner_id", type="refund"),
                link("taxes", "taxes", "refund_lines", "owner_id", type="line"),
            ),
        ),
        "labels": Source(
            "labels",
            "t.labels",
            Role.SHARED,
            refs=(link("word", "labels", "words", "word"),),
            owners=(link("labels", "labels", "customers", "customer_id"),),
        ),
        "words": Source("words", "t.words", Role.SHARED),
        "spellings": Source(
            "spellings", "t.spellings", Role.SHARED, owners=(link("spellings", "spellings", "words", "word"),)
        ),
    },
)

NESTED = Structure(
    root="orders",
    version="nested",
    sources={
        "orders": Source(
            "orders", "t.orders", Role.ROOT, owners=(link("refunds", "orders", "orders", "parent_id", type="refund"),)
        ),
        "lines": Source("lines", "t.lines", Role.OWNED, owners=(link("lines", "lines", "orders", "order_id"),)),
    },
)
"""Refunds are rows of the orders' own table, with lines of their own."""


@dataclass
class Seen:
    """A stored row, in the same words for every store."""

    columns: dict[str, Any]
    unknown: frozenset[str]
    deleted: bool
    root: str | None
    first_seen_ms: int | None


@dataclass
class Rig:
    """A store under test with ways to look into it."""

    store: IngestStore
    structure: Structure = STRUCTURE

    def row(self, source: str, key: str) -> Seen | None:
        raise NotImplementedError

    def revisions(self) -> dict[str, int]:
        """Revision of every order that was ever marked."""
        raise NotImplementedError

    def settle(self) -> None:
        """As if every order had been sent."""
        raise NotImplementedError

    def lanes(self) -> dict[str, Lane]:
        raise NotImplementedError

    def reset(self, partition: TopicPartition, next_offset: int) -> None:
        """As an operator does after a gap."""
        raise NotImplementedError

    def raise_generation(self, source: str) -> None:
        """As a rebuild does."""
        raise NotImplementedError

    def fold(self, *changes: Change, topic_id: str = "one", replay: bool = False) -> Any:
        """Fold these in one batch; positions move along."""
        partitions = {
            (c.message.topic, c.message.partition): TopicPartition(c.message.topic, topic_id, c.message.partition)
            for c in changes
        }
        for recreated in partitions.values() - self.store.positions(partitions.values()).keys():
            self.reset(recreated, -1)
        positions = self.store.positions(partitions.values())
        moves: dict[tuple[str, int], Move] = {}
        staged = []
        for change in changes:
            name = (change.message.topic, change.message.partition)
            at = positions[partitions[name]]
            move = moves.setdefault(name, Move(at.origin, at.next_offset, at.next_offset))
            move.next = max(move.next, change.message.offset + 1)
            staged.append((at.origin, change))
        rounds = Stager(self.structure).stage(staged, NOW_MS - 3_600_000, one_by_one=replay)
        return self.store.fold(Batch(rounds, [], list(moves.values()), replay))


class Events:
    """Makes changes, numbering offsets and positions upwards unless told otherwise."""

    def __init__(self) -> None:
        self._offsets: dict[tuple[str, int], int] = {}
        self._position = 1000

    def change(
        self,
        source: str,
        key: str,
        *,
        kind: Kind = Kind.UPSERT,
        unavailable: tuple[str, ...] = (),
        partition: int = 0,
        offset: int | None = None,
        position: tuple[int, ...] | str | None = "next",
        committed_ms: int | str | None = "next",
        lineage: str | None = LINEAGE,
        snapshot: bool = False,
        old_key: str | None = None,
        new_key: str | None = None,
        **columns: Any,
    ) -> Change:
        topic = f"t.{source}"
        at = self._offsets.get((topic, partition), -1) + 1 if offset is None else offset
        self._offsets[topic, partition] = at
        self._position += 10
        return Change(
            source=source,
            key=key,
            kind=kind,
            op={Kind.DELETE: "d", Kind.TOMBSTONE: "tombstone"}.get(kind, "u"),
            columns=columns if kind is Kind.UPSERT else {},
            unavailable=unavailable,
            lineage=lineage,
            position=(self._position,) if position == "next" else position,
            committed_ms=NOW_MS + self._position if committed_ms == "next" else committed_ms,
            snapshot=snapshot,
            message=Message(topic, partition, at, NOW_MS, b"k", b"v", None),
            old_key=old_key,
            new_key=new_key,
        )


# (name, stored, new) as (topic id, partition, offset, lineage, position, committed); stale?
STALE_CASES = [
    ("same partition, lower offset", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 4, LINEAGE, 20, 20), True),
    ("same partition, same offset", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 5, LINEAGE, 10, 10), True),
    ("same partition, higher offset, newer", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 6, LINEAGE, 20, 20), False),
    ("same partition, redelivered older event", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 6, LINEAGE, 9, 9), True),
    (
        "same partition, equal in both: later wins",
        ("one", 0, 5, LINEAGE, 10, 10),
        ("one", 0, 6, LINEAGE, 10, 10),
        False,
    ),
    ("same partition, equal position, older time", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 6, LINEAGE, 10, 9), True),
    (
        "same partition, older position, newer time",
        ("one", 0, 5, LINEAGE, 10, 10),
        ("one", 0, 6, LINEAGE, 9, 11),
        False,
    ),
    (
        "same partition, newer position, older time",
        ("one", 0, 5, LINEAGE, 10, 10),
        ("one", 0, 6, LINEAGE, 11, 9),
        False,
    ),
    ("other partition, lower offset, newer", ("one", 0, 5, LINEAGE, 10, 10), ("one", 1, 1, LINEAGE, 20, 20), False),
    ("other partition, higher offset, older", ("one", 0, 5, LINEAGE, 10, 10), ("one", 1, 9, LINEAGE, 9, 9), True),
    ("other partition, equal in both", ("one", 0, 5, LINEAGE, 10, 10), ("one", 1, 9, LINEAGE, 10, 10), True),
    ("other partition, position only older", ("one", 0, 5, LINEAGE, 10, 10), ("one", 1, 9, LINEAGE, 9, 11), False),
    ("recreated topic, low offset, newer", ("one", 0, 500, LINEAGE, 10, 10), ("two", 0, 0, LINEAGE, 20, 20), False),
    ("recreated topic, replay of older", ("one", 0, 5, LINEAGE, 10, 10), ("two", 0, 9, LINEAGE, 9, 9), True),
    ("new without position", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 6, None, None, None), False),
    ("new without position, lower offset", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 4, None, None, None), True),
    ("stored without position", ("one", 0, 5, None, None, None), ("one", 1, 1, LINEAGE, 1, 1), False),
    ("new without time", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 6, LINEAGE, 9, None), False),
    ("stored without time", ("one", 0, 5, LINEAGE, 10, None), ("one", 0, 6, LINEAGE, 9, 9), False),
    ("another database", ("one", 0, 5, LINEAGE, 10, 10), ("one", 0, 6, OTHER_LINEAGE, 9, 9), False),
]

# A batch holds one incarnation of a topic.
ONE_INCARNATION = [case for case in STALE_CASES if case[1][0] == case[2][0]]


class IngestStoreSuite:
    """Subclass it and give the fixture `rig`."""

    @pytest.fixture
    def events(self) -> Events:
        """A source of changes."""
        return Events()

    @pytest.mark.parametrize(("stored", "new", "stale"), [c[1:] for c in STALE_CASES], ids=[c[0] for c in STALE_CASES])
    def test_stale_rule(self, rig: Rig, events: Events, stored: tuple, new: tuple, stale: bool) -> None:
        """Each cell of the stale rule: a contained change is ignored, every doubtful one is applied."""
        for (topic_id, partition, offset, lineage, position, committed), value in ((stored, "a"), (new, "b")):
            result = rig.fold(
                events.change(
                    "orders",
                    "1",
                    partition=partition,
                    offset=offset,
                    lineage=lineage,
                    position=None if position is None else (position,),
                    committed_ms=committed,
                    v=value,
                ),
                topic_id=topic_id,
            )
        assert rig.row("orders", "1").columns == {"v": "a" if stale else "b"}
        assert sum(result.stale.values()) == (1 if stale else 0)
        assert sum(result.folded.values()) == (0 if stale else 1)
        assert rig.revisions() == {"1": 1 if stale else 2}

    @pytest.mark.parametrize(
        ("stored", "new", "stale"), [c[1:] for c in ONE_INCARNATION], ids=[c[0] for c in ONE_INCARNATION]
    )
    def test_stale_rule_within_one_batch(
        self, rig: Rig, events: Events, stored: tuple, new: tuple, stale: bool
    ) -> None:
        """Two changes in one batch come to the same as one after the other."""
        changes = [
            events.change(
                "orders",
                "1",
                partition=partition,
                offset=offset,
                lineage=lineage,
                position=None if position is None else (position,),
                committed_ms=committed,
                v=value,
            )
            for (_, partition, offset, lineage, position, committed), value in ((stored, "a"), (new, "b"))
        ]
        rig.fold(*changes)
        assert rig.row("orders", "1").columns == {"v": "a" if stale else "b"}

    def test_change_without_position_leaves_the_stored_one(self, rig: Rig, events: Events) -> None:
        """After an incremental-snapshot row the row's position still guards against older events."""
        rig.fold(events.change("orders", "1", position=(50,), committed_ms=50, v="a"))
        rig.fold(events.change("orders", "1", position=None, committed_ms=None, lineage=None, snapshot=True, v="b"))
        rig.fold(events.change("orders", "1", position=(40,), committed_ms=40, v="old"))
        assert rig.row("orders", "1").columns == {"v": "b"}

    def test_unavailable_value_is_carried_over(self, rig: Rig, events: Events) -> None:
        """A placeholder keeps the stored value, in another batch and in the same one."""
        rig.fold(events.change("orders", "1", v="a", big="B"))
        rig.fold(events.change("orders", "1", unavailable=("big",), v="b"))
        assert rig.row("orders", "1").columns == {"v": "b", "big": "B"}
        rig.fold(
            events.change("orders", "1", v="c", big="C"),
            events.change("orders", "1", unavailable=("big",), v="d"),
            events.change("orders", "1", unavailable=("big",), v="e"),
        )
        row = rig.row("orders", "1")
        assert (row.columns, row.unknown) == ({"v": "e", "big": "C"}, frozenset())

    def test_unavailable_value_that_was_never_seen_is_unknown(self, rig: Rig, events: Events) -> None:
        """A placeholder without a stored value makes the column unknown, not null, until a change brings it."""
        rig.fold(events.change("orders", "1", unavailable=("big",), v="a"))
        assert rig.row("orders", "1").unknown == {"big"}
        assert "big" not in rig.row("orders", "1").columns
        rig.fold(events.change("orders", "1", v="b", big="B"))
        assert rig.row("orders", "1").unknown == frozenset()

    def test_unavailable_value_after_a_delete_is_unknown(self, rig: Rig, events: Events) -> None:
        """The values of a deleted row are not those of the row that takes its key."""
        rig.fold(events.change("orders", "1", v="a", big="B"), events.change("orders", "1", kind=Kind.DELETE))
        rig.fold(events.change("orders", "1", unavailable=("big",), v="b"))
        assert rig.row("orders", "1").unknown == {"big"}

    @pytest.mark.parametrize("together", [True, False])
    @pytest.mark.parametrize("delete_first", [True, False])
    def test_key_change_carries_values_over(self, rig: Rig, events: Events, together: bool, delete_first: bool) -> None:
        """A new primary key takes unavailable values from the row of the old one, in whatever order the halves come."""
        rig.fold(events.change("orders", "1", v="a", big="B"))
        delete = events.change("orders", "1", kind=Kind.DELETE, new_key="2")
        insert = events.change("orders", "2", partition=1, unavailable=("big",), old_key="1", v="a")
        halves = [delete, insert] if delete_first else [insert, delete]
        if together:
            rig.fold(*halves)
        else:
            for half in halves:
                rig.fold(half)
        row = rig.row("orders", "2")
        assert (row.columns, row.unknown) == ({"v": "a", "big": "B"}, frozenset())
        assert rig.row("orders", "1").deleted

    def test_delete_keeps_its_position(self, rig: Rig, events: Events) -> None:
        """A replayed older event does not bring a deleted row back, even one deleted before it was ever seen."""
        rig.fold(events.change("orders", "1", kind=Kind.DELETE, position=(50,), committed_ms=50))
        rig.fold(events.change("orders", "1", partition=1, position=(40,), committed_ms=40, v="old"))
        assert rig.row("orders", "1").deleted

    @pytest.mark.parametrize("kind", [Kind.UPSERT, Kind.UNKNOWN])
    def test_change_without_position_reaches_a_deleted_row(self, rig: Rig, events: Events, kind: Kind) -> None:
        """An incremental snapshot, a connector without positions, a reject: that the row is deleted is no obstacle."""
        rig.fold(events.change("orders", "1", v="a"), events.change("orders", "1", kind=Kind.DELETE))
        nowhere = {"position": None, "committed_ms": None, "lineage": None}
        rig.fold(events.change("orders", "1", kind=kind, **nowhere, v="back"))
        row = rig.row("orders", "1")
        if kind is Kind.UPSERT:
            assert (row.deleted, row.columns) == (False, {"v": "back"})
        else:
            assert row.unknown == {"*"}

    @pytest.mark.parametrize("after", ["nothing", "update", "old key reused", "changed again"])
    def test_key_change_and_what_follows_in_one_batch(self, rig: Rig, events: Events, after: str) -> None:
        """Values are carried from the old key's row as it was at the change, whatever else the batch does to either."""
        rig.fold(events.change("orders", "1", v="a", big="B"))
        changes = [
            events.change("orders", "1", kind=Kind.DELETE, new_key="2"),
            events.change("orders", "2", unavailable=("big",), old_key="1", v="a"),
        ]
        last = "2"
        if after == "update":
            changes.append(events.change("orders", "2", unavailable=("big",), v="b"))
        elif after == "old key reused":
            changes.append(events.change("orders", "1", v="other", big="OTHER"))
        elif after == "changed again":
            changes.append(events.change("orders", "2", kind=Kind.DELETE, new_key="3"))
            changes.append(events.change("orders", "3", unavailable=("big",), old_key="2", v="a"))
            last = "3"
        rig.fold(*changes)
        row = rig.row("orders", last)
        assert (row.columns["big"], row.unknown) == ("B", frozenset())

    @pytest.mark.parametrize("together", [True, False])
    def test_keys_that_change_again_and_again_in_partitions_read_in_any_order(
        self, rig: Rig, events: Events, together: bool
    ) -> None:
        """Two key changes in a row, the halves in three partitions: the last row has the value of before the first."""
        orders = sorted(set(itertools.permutations("aaabbc")))
        ways: list[list[Change]] = []
        for number, order in enumerate(orders):
            first, second, third = (f"{number}-{life}" for life in (1, 2, 3))
            history = {
                "a": [
                    events.change("orders", first, v="a", big="A"),
                    events.change("orders", first, v="b", big="B"),
                    events.change("orders", first, kind=Kind.DELETE, new_key=second),
                ],
                "b": [
                    events.change("orders", second, partition=1, unavailable=("big",), old_key=first, v="b"),
                    events.change("orders", second, partition=1, kind=Kind.DELETE, new_key=third),
                ],
                "c": [events.change("orders", third, partition=2, unavailable=("big",), old_key=second, v="b")],
            }
            ways.append([history[partition].pop(0) for partition in order])
        for batch in [chain.from_iterable(ways)] if together else zip(*ways, strict=True):
            rig.fold(*batch)  # their rows have nothing to do with each other: all ways at once
        for number, order in enumerate(orders):
            row = rig.row("orders", f"{number}-3")
            assert (row.columns, row.unknown) == ({"v": "b", "big": "B"}, frozenset()), order
            assert rig.row("orders", f"{number}-1").deleted, order
            assert rig.row("orders", f"{number}-2").deleted, order

    def test_values_that_arrive_with_the_delete_make_orders_due(self, rig: Rig, events: Events) -> None:
        """Who waited for the values of a key change is due once they come, also orders that look the row up."""
        rig.fold(
            events.change("customers", "1", partition=1, big="C"), events.change("orders", "1", partition=1, big="B")
        )
        rig.fold(
            events.change("customers", "9", unavailable=("big",), old_key="1"),
            events.change("orders", "2", unavailable=("big",), old_key="1", customer_id=9),
            events.change("orders", "3", customer_id=9),
        )
        assert rig.row("orders", "2").unknown == rig.row("customers", "9").unknown == {"big"}
        rig.settle()
        before = rig.revisions()
        rig.fold(events.change("customers", "1", partition=1, kind=Kind.DELETE, new_key="9"))
        rig.fold(events.change("orders", "1", partition=1, kind=Kind.DELETE, new_key="2"))
        assert rig.row("orders", "2").columns["big"] == "B"
        assert rig.row("customers", "9").columns["big"] == "C"
        assert {key: count - before.get(key, 0) for key, count in rig.revisions().items()} == {"1": 1, "2": 2, "3": 1}

    def test_values_of_a_reused_key_are_not_taken_for_those_before(self, rig: Rig, events: Events) -> None:
        """The old key is another row's by the time the new one is met: its values stay unknown, also once that goes."""
        rig.fold(
            events.change("orders", "1", v="a", big="B"),
            events.change("orders", "1", kind=Kind.DELETE, new_key="2"),
            events.change("orders", "1", v="other", big="OTHER"),
        )
        rig.fold(events.change("orders", "2", partition=1, unavailable=("big",), old_key="1", v="a"))
        assert rig.row("orders", "2").unknown == {"big"}
        rig.fold(events.change("orders", "1", kind=Kind.DELETE, new_key="3"))
        assert rig.row("orders", "2").unknown == {"big"}
        rig.fold(events.change("orders", "3", partition=1, unavailable=("big",), old_key="1", v="other"))
        assert rig.row("orders", "3").columns == {"v": "other", "big": "OTHER"}

    def test_values_of_a_rejected_row_do_not_survive_its_key_change(self, rig: Rig, events: Events) -> None:
        """What the reject said of them is not known: the row of the new key does not know them either."""
        rig.fold(events.change("orders", "1", v="a", big="A"))
        rig.fold(events.change("orders", "1", kind=Kind.UNKNOWN, position=None, committed_ms=None, lineage=None))
        rig.fold(events.change("orders", "1", kind=Kind.DELETE, new_key="2"))
        rig.fold(events.change("orders", "2", unavailable=("big",), old_key="1", v="a"))
        row = rig.row("orders", "2")
        assert (row.columns, row.unknown) == ({"v": "a"}, {"big"})

    def test_a_replay_from_the_middle_of_a_life_that_a_key_change_ended(self, rig: Rig, events: Events) -> None:
        """Deletes are bare tombstones, so nothing is stale; the row of the new key still gets what it left out."""
        nowhere: dict[str, Any] = {"position": None, "committed_ms": None, "lineage": None}
        rig.fold(events.change("orders", "1", **nowhere, v="a", big="A"))
        for _ in range(2):
            rig.fold(events.change("orders", "1", **nowhere, unavailable=("big",), v="b"))
            rig.fold(events.change("orders", "1", **nowhere, kind=Kind.TOMBSTONE, new_key="2"))
        rig.fold(events.change("orders", "2", **nowhere, partition=1, unavailable=("big",), old_key="1", v="b"))
        assert rig.row("orders", "2").columns == {"v": "b", "big": "A"}

    @pytest.mark.parametrize("delete_first", [True, False])
    def test_row_that_moves_to_another_partition_within_one_event(
        self, rig: Rig, events: Events, delete_first: bool
    ) -> None:
        """Messages keyed by another column than the row's key (message.key.columns): when that changes, a delete and an
        insert of one row come with one log position in two partitions. The row stays, whichever is folded first."""
        rig.fold(events.change("lines", "7", order_id=1))
        where: dict[str, Any] = {"position": (5000,), "committed_ms": NOW_MS + 5000}
        delete = events.change("lines", "7", kind=Kind.DELETE, **where)
        insert = events.change("lines", "7", partition=1, **where, order_id=2)
        for half in [delete, insert] if delete_first else [insert, delete]:
            rig.fold(half)
        row = rig.row("lines", "7")
        assert (row.deleted, row.root) == (False, "2")
        rig.fold(events.change("lines", "7", partition=2, kind=Kind.DELETE, **where))
        assert not rig.row("lines", "7").deleted

    def test_lone_tombstone_deletes_and_lets_the_next_event_apply(self, rig: Rig, events: Events) -> None:
        """Its delete was compacted away: the row goes, and even an older event applies after it."""
        rig.fold(events.change("orders", "1", position=(50,), committed_ms=50, v="a"))
        rig.fold(events.change("orders", "1", kind=Kind.TOMBSTONE, position=None, committed_ms=None, lineage=None))
        assert rig.row("orders", "1").deleted
        rig.fold(events.change("orders", "1", position=(40,), committed_ms=40, v="again"))
        assert rig.row("orders", "1").columns == {"v": "again"}

    def test_tombstone_of_a_deleted_row_changes_nothing(self, rig: Rig, events: Events) -> None:
        """The tombstone that follows a delete in the next batch leaves the position that guards the deleted row."""
        rig.fold(events.change("orders", "1", position=(50,), committed_ms=50, v="a"))
        rig.fold(events.change("orders", "1", kind=Kind.DELETE, position=(60,), committed_ms=60))
        rig.fold(events.change("orders", "1", kind=Kind.TOMBSTONE, position=None, committed_ms=None, lineage=None))
        rig.fold(events.change("orders", "1", position=(50,), committed_ms=50, v="a"))
        assert rig.row("orders", "1").deleted

    def test_rejected_row_is_unknown_until_its_next_image(self, rig: Rig, events: Events) -> None:
        """A reject whose key could be read makes the row's values unknown; a full image heals it."""
        rig.fold(events.change("orders", "1", v="a", big="B"))
        rig.fold(events.change("orders", "1", kind=Kind.UNKNOWN, position=None, committed_ms=None, lineage=None))
        row = rig.row("orders", "1")
        assert (row.unknown, row.deleted) == ({"*"}, False)
        rig.fold(events.change("orders", "1", unavailable=("big",), v="b"))
        assert rig.row("orders", "1").unknown == {"big"}
        assert rig.revisions() == {"1": 3}

    def test_snapshot_row_equal_to_the_stored_one_marks_nothing(self, rig: Rig, events: Events) -> None:
        """A re-snapshot of unchanged rows makes no order due."""
        rig.fold(events.change("orders", "1", v="a"))
        rig.fold(events.change("orders", "1", snapshot=True, v="a"))
        assert rig.revisions() == {"1": 1}
        rig.fold(events.change("orders", "1", snapshot=True, v="b"))
        assert rig.revisions() == {"1": 2}

    def test_first_seen_is_the_earliest(self, rig: Rig, events: Events) -> None:
        """A re-snapshot does not make a row younger."""
        rig.fold(events.change("orders", "1", committed_ms=500, position=(1,), v="a"))
        rig.fold(events.change("orders", "1", committed_ms=900, position=(2,), v="b"))
        assert rig.row("orders", "1").first_seen_ms == 500

    def test_child_of_the_order_is_placed_at_once(self, rig: Rig, events: Events) -> None:
        """A line that comes before its order marks that order."""
        rig.fold(events.change("lines", "7", order_id=1))
        assert rig.row("lines", "7").root == "1"
        assert rig.revisions() == {"1": 1}

    def test_grandchildren_wait_for_their_parents(self, rig: Rig, events: Events) -> None:
        """Rows three steps below the order, delivered from the bottom up, all find their order."""
        rig.fold(events.change("notes", "n", refund_line_id=5))
        rig.fold(_refund_line(events))
        assert rig.row("notes", "n").root is None
        assert rig.revisions() == {}
        rig.fold(events.change("refunds", "3", order_id=1))
        assert [rig.row("refund_lines", "5").root, rig.row("notes", "n").root] == ["1", "1"]
        assert rig.revisions() == {"1": 1}

    def test_row_that_moves_marks_both_orders(self, rig: Rig, events: Events) -> None:
        """A refund that moves takes its rows along, and both orders become due."""
        rig.fold(
            events.change("refunds", "3", order_id=1),
            _refund_line(events),
            events.change("notes", "n", refund_line_id=5),
        )
        before = rig.revisions()
        rig.fold(events.change("refunds", "3", order_id=2))
        assert rig.row("notes", "n").root == "2"
        assert rig.revisions() == {"1": before["1"] + 1, "2": 1}

    def test_row_whose_constant_differs_belongs_nowhere(self, rig: Rig, events: Events) -> None:
        """A polymorphic reference to something else is not followed."""
        rig.fold(events.change("refunds", "3", order_id=1))
        rig.fold(_refund_line(events, kind="shipment"))
        assert rig.row("refund_lines", "5").root is None
        assert rig.revisions() == {"1": 1}

    def test_row_with_several_owners(self, rig: Rig, events: Events) -> None:
        """A row hangs below the first owner whose columns are set, and moves from one kind of owner to the other."""
        rig.fold(
            events.change("refunds", "3", order_id=1), _refund_line(events), _refund_line(events, "9", refund_id=4)
        )
        before = rig.revisions()
        rig.fold(
            events.change("taxes", "a", order_id=2, owner_id=3, type="refund"),
            events.change("taxes", "b", order_id=None, owner_id=3, type="refund"),
            events.change("taxes", "c", order_id=None, owner_id=5, type="line"),
            events.change("taxes", "d", order_id=None, owner_id=3, type="line"),
            events.change("taxes", "e", order_id=None, owner_id=9, type="line"),
        )
        assert [rig.row("taxes", key).root for key in "abcde"] == ["2", "1", "1", None, None]
        assert rig.revisions() == {"1": before["1"] + 1, "2": 1}
        rig.fold(events.change("refunds", "4", order_id=7))
        assert rig.row("taxes", "e").root == "7"
        rig.fold(events.change("taxes", "e", order_id=None, owner_id=3, type="refund"))
        assert rig.row("taxes", "e").root == "1"
        assert rig.revisions()["7"] == 2

    def test_shared_rows_below_shared_rows(self, rig: Rig, events: Events) -> None:
        """A row that a looked-up row gains, changes, loses or hands over makes the orders due that look it up."""
        rig.fold(
            events.change("orders", "1", customer_id=9),
            events.change("orders", "2", customer_id=8),
            events.change("customers", "9", name="a"),
            events.change("customers", "8", name="b"),
        )

        def touched(*changes: Change) -> list[str]:
            before = rig.revisions()
            rig.fold(*changes)
            return [key for key, revision in rig.revisions().items() if revision != before.get(key)]

        assert touched(events.change("labels", "x", customer_id=9, word="red")) == ["1"]
        assert rig.row("labels", "x").root is None
        assert touched(events.change("labels", "x", customer_id=9, word="red")) == []
        assert touched(events.change("labels", "x", customer_id=9, word="blue")) == ["1"]
        assert touched(events.change("words", "blue", text="Blue")) == ["1"], "over the label to its customer"
        assert touched(events.change("spellings", "s", word="blue", text="bleu")) == ["1"], "and from below the word"
        assert touched(events.change("labels", "x", customer_id=8, word="blue")) == ["1", "2"]
        assert touched(events.change("labels", "x", kind=Kind.DELETE)) == ["2"]

    def test_root_rows_below_root_rows(self, rig: Rig, events: Events) -> None:
        """A refund in the orders' own table belongs to its order, with its lines, whatever comes first."""
        rig.structure = NESTED
        rig.store.open(NESTED, ["a"])
        rig.fold(events.change("lines", "70", order_id=7))
        assert rig.revisions() == {}
        rig.fold(events.change("orders", "7", parent_id=1, type="refund"))
        assert rig.revisions() == {}, "its order has not arrived"
        rig.fold(events.change("orders", "1", parent_id=None, type="order"), events.change("lines", "10", order_id=1))
        names = [("orders", "1"), ("orders", "7"), ("lines", "70"), ("lines", "10")]
        assert [rig.row(*name).root for name in names] == ["1"] * 4
        assert list(rig.revisions()) == ["1"]
        before = rig.revisions()["1"]
        rig.fold(events.change("lines", "70", order_id=7, quantity=-1))
        rig.fold(events.change("orders", "7", kind=Kind.DELETE))
        assert rig.revisions() == {"1": before + 2}
        rig.fold(events.change("orders", "7", parent_id=0, type="order"))
        assert [rig.row("orders", "7").root, rig.row("lines", "70").root] == ["7", "7"], "it is an order of its own"
        assert rig.revisions()["7"] == 1

    def test_deleted_child_marks_its_order(self, rig: Rig, events: Events) -> None:
        """A delete carries the key alone; the order is known from the mirror."""
        rig.fold(events.change("lines", "7", order_id=1))
        rig.fold(events.change("lines", "7", kind=Kind.DELETE))
        assert rig.revisions() == {"1": 2}

    def test_changed_lookup_marks_the_orders_that_use_it(self, rig: Rig, events: Events) -> None:
        """A customer's change reaches the orders that look it up, a country's change through the customers."""
        rig.fold(
            events.change("orders", "1", customer_id=9),
            events.change("orders", "2", customer_id=8),
            events.change("customers", "9", country="DE"),
        )
        before = rig.revisions()
        rig.fold(events.change("customers", "9", country="FR"))
        assert rig.revisions() == before | {"1": before["1"] + 1}
        rig.fold(events.change("countries", "FR", name="France"))
        assert rig.revisions() == before | {"1": before["1"] + 2}

    def test_lane_of_orders_touched_through_lookups(self, rig: Rig, events: Events) -> None:
        """A changed look-up makes its orders live, a snapshot's and a mass change's backfill, side by side."""
        orders = [events.change("orders", str(n), snapshot=True, customer_id=min(n, 2)) for n in range(200)]
        rig.fold(*orders)
        rig.settle()
        rig.fold(
            events.change("customers", "0", name="live"),
            events.change("customers", "1", name="read", snapshot=True),
        )
        assert (rig.lanes()["0"], rig.lanes()["1"]) == (Lane.LIVE, Lane.BACKFILL)
        rig.fold(events.change("customers", "2", name="used by very many"))
        assert {rig.lanes()[str(n)] for n in range(2, 200)} == {Lane.BACKFILL}

    def test_numbers_of_any_size_stay_exact(self, rig: Rig, events: Events) -> None:
        """Integers beyond 64 bits and decimals keep every digit."""
        rig.fold(events.change("orders", "1", big=2**70, money=Decimal("1.50"), ok=True))
        assert rig.row("orders", "1").columns == {"big": 2**70, "money": Decimal("1.50"), "ok": True}

    @pytest.mark.parametrize(
        "key", ['a"b', "back\\slash\\", "{a,b}", "null", "NULL", "", " ", "a,b\n\t\x1e", '","', "ü€😀"]
    )
    def test_keys_of_any_text(self, rig: Rig, events: Events, key: str) -> None:
        """Keys of orders and of what hangs below them, and names of columns that are not known."""
        rig.fold(
            events.change("orders", key, unavailable=(key, "b"), a=1),
            events.change("orders", "plain", a=1),
            events.change("lines", key, order_id=key),
            events.change("lines", "plain", order_id=None),
        )
        assert rig.row("orders", key).unknown == {key, "b"}
        assert rig.row("orders", "plain").unknown == set()
        assert rig.row("lines", key).root == key
        assert rig.row("lines", "plain").root is None
        assert rig.revisions() == {key: 1, "plain": 1}

    def test_lane(self, rig: Rig, events: Events) -> None:
        """Snapshot rows and old changes are backfill; a backfill touch never demotes an owed live order."""
        rig.fold(events.change("orders", "1", snapshot=True, v=1), events.change("orders", "2", v=1))
        rig.fold(events.change("orders", "3", committed_ms=NOW_MS - 7_200_000, v=1))
        assert rig.lanes() == {"1": Lane.BACKFILL, "2": Lane.LIVE, "3": Lane.BACKFILL}
        rig.fold(events.change("orders", "1", v=2), events.change("orders", "2", snapshot=True, v=2))
        assert rig.lanes() == {"1": Lane.LIVE, "2": Lane.LIVE, "3": Lane.BACKFILL}

    def test_wrong_expectation_rolls_everything_back(self, rig: Rig, events: Events) -> None:
        """A zombie's batch changes nothing."""
        change = events.change("orders", "1", v="a")
        rig.fold(change)
        [at] = rig.store.positions([TopicPartition("t.orders", "one", 0)]).values()
        late = events.change("orders", "1", offset=5, v="zombie")
        rounds = Stager(STRUCTURE).stage([(at.origin, late)], NOW_MS)
        with pytest.raises(PositionsMoved):
            rig.store.fold(Batch(rounds, [], [Move(at.origin, at.next_offset - 1, 6)]))
        assert rig.row("orders", "1").columns == {"v": "a"}
        [after] = rig.store.positions([TopicPartition("t.orders", "one", 0)]).values()
        assert after == at

    def test_rejects_are_kept_and_counted_once(self, rig: Rig) -> None:
        """A reject moves the position like any other message."""
        message = Message("t.orders", 0, 0, NOW_MS, b"\xff", b"not json \x00", [("h", None), ("g", b"\x01")])
        reject = Reject(RejectReason.NOT_JSON, "the value is not JSON", "orders", None, message)
        partition = TopicPartition("t.orders", "one", 0)
        [at] = rig.store.positions([partition]).values()
        rig.store.fold(Batch([], [("one", reject)], [Move(at.origin, at.next_offset, 1, rejected=1)]))
        assert rig.store.recent_rejects(timedelta(hours=1)) == {"t.orders": 1}
        assert rig.store.positions([partition])[partition].next_offset == 1


def _refund_line(events: Events, key: str = "5", *, kind: str = "line", refund_id: int = 3) -> Change:
    change = events.change("refund_lines", key, refund_id=refund_id)
    change.columns["kind"] = kind
    return change
