"""Fold and store on Postgres against a naive dictionary, whatever the OMS, its connector, Kafka and operators do."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import pytest
from fixtures.postgres import Database
from fold_model import Model, Name, State
from fold_world import BIG, PARTITIONS, Event, Told, World
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from ingest_store_suite import NOW_MS, STRUCTURE, Seen
from test_postgres_ingest_store import PostgresRig

from daemon.errors import PositionsMoved
from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Change, Kind, Message, Reject
from daemon.ingest.fold import StagedRow, Stager
from daemon.ingest.kafka import Partition
from daemon.state.ingest_store import Batch, TopicPartition

STEPS = 50  # of an example; a few end earlier
EXAMPLES, LEAST_STEPS = (14, 600) if os.environ.get("CI") else (48, 2000)

KEYS = {
    "orders": ["1", "2", "3"],
    "lines": ["4", "5"],
    "refunds": ["6", "7", "8"],
    "refund_lines": ["9", "10", "11"],
    "notes": ["12", "13"],
    "customers": ["14", "15", "16"],
    "countries": ["DE", "FR"],
}
COLUMNS: dict[str, dict[str, list[Any]]] = {
    "orders": {"customer_id": [14, 15, 16, None]},
    "lines": {"order_id": [1, 2, 3]},
    "refunds": {"order_id": [1, 2, 3, None]},
    "refund_lines": {"refund_id": [6, 7, 8], "kind": ["line", "line", "line", "other"]},
    "notes": {"refund_line_id": [9, 10, 11]},
    "customers": {"country": ["DE", "FR", None]},
    "countries": {},
}

WHAT_HAPPENS = ("folded", "stale", "key changes", "positions moved", "retried", "overtaken", "caught up")

sources = st.sampled_from(list(KEYS))
seeds = st.integers(0, 2**32)


def image(name: Name, lot: random.Random) -> dict[str, Any]:
    """Values for a row; the large one is mostly left as it is."""
    values = {"v": lot.choice("ab"), **{column: lot.choice(some) for column, some in COLUMNS[name[0]].items()}}
    return values | ({BIG: lot.choice("XYZ")} if lot.random() < 0.4 else {})


class FoldMachine(RuleBasedStateMachine):
    """A world, a consumer of it, and what the mirror must hold."""

    rig: PostgresRig
    met: Counter[str]
    """How often happened what has to happen now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.rig.empty()
        self.world, self.model = World(STRUCTURE), Model(STRUCTURE)
        self.stager = Stager(STRUCTURE)
        self.states: dict[Partition, PartitionState] = {}
        self.spoilt: dict[tuple[int, int], Change] = {}
        self.belonged: dict[Name, set[str]] = {}
        self.consumed = 0
        self.take_up()

    # What the OMS does.

    @rule(seed=seeds, count=st.integers(4, 16))
    def work(self, seed: int, count: int) -> None:
        """Rows are inserted and changed, deleted, get other keys."""
        lot = random.Random(seed)
        for _ in range(count):
            self.act(lot)

    def act(self, lot: random.Random) -> None:
        """One statement."""
        source = lot.choice(list(KEYS))
        key = lot.choice(KEYS[source])
        fate, name = lot.random(), (source, key)
        free = [new for new in KEYS[source] if self.world.may_be_renamed(name, new)]
        if name not in self.world.rows or fate < 0.6:
            self.world.save(name, image(name, lot), decodable=lot.random() > 0.08)
        elif fate < 0.8 and free:
            self.world.rename(name, lot.choice(free))
        else:
            self.world.remove(name)

    # What connector and Kafka do.

    @rule(source=sources, incremental=st.booleans())
    def snapshot(self, source: str, incremental: bool) -> None:
        """A table is read whole."""
        self.world.snapshot(source, incremental=incremental)

    @rule(count=st.integers(1, 40))
    def restart_connector(self, count: int) -> None:
        """What it sent last comes again."""
        self.world.say_again(count)

    @rule(source=sources)
    def compact(self, source: str) -> None:
        """A topic keeps the last message of each key."""
        for partition in self.world.partitions(source):
            self.world.compact(partition)

    @rule(source=sources)
    def recreate(self, source: str) -> None:
        """A topic is made anew; an operator says that it is read from its beginning."""
        self.world.recreate(source, self.positions())
        for partition in self.world.partitions(source):
            self.rig.reset(partition, -1)
        self.take_up()

    # What the daemon and its operators do.

    @rule(seed=seeds, share=st.sampled_from([0.3, 0.6, 1.0]), most=st.sampled_from([1, 5, 50]))
    def consume(self, seed: int, share: float, most: int) -> None:
        """One batch, of some of the partitions."""
        self.fold(self.unread(random.Random(seed), share, most))

    @rule(seed=seeds)
    def consume_one_by_one(self, seed: int) -> None:
        """The same in transactions of one message."""
        for event in self.unread(random.Random(seed), 0.3, 3):
            self.fold([event])

    @rule(
        seed=seeds,
        count=st.integers(4, 16),
        share=st.sampled_from([0.3, 0.6, 1.0]),
        again=st.sampled_from([0, 0, 20]),
        retry=st.sampled_from([False, False, True]),
    )
    def work_and_consume(self, seed: int, count: int, share: float, again: int, retry: bool) -> None:
        """As it mostly is; now and then the connector restarts, or somebody retries rejects."""
        self.work(seed, count)
        self.restart_connector(again)
        self.consume(seed, share, 50)
        if retry:
            self.retry_rejects()

    @rule()
    def crash(self) -> None:
        """Another process takes over."""
        self.take_up()

    @rule(source=sources, number=st.integers(0, PARTITIONS - 1), back=st.integers(1, 20), most=st.integers(1, 6))
    def set_back(self, source: str, number: int, back: int, most: int) -> None:
        """A position is reset to an earlier offset, which the consumer finds out in its next fold; it begins anew."""
        partition = self.world.partitions(source)[number]
        self.rig.reset(partition, max(-1, self.positions()[partition] - back))
        self.meet_moved_positions(partition)
        self.fold(self.world.unread(partition, self.positions()[partition])[:most])

    @rule(source=sources, seed=seeds, most=st.integers(1, 6))
    def rebuild(self, source: str, seed: int, most: int) -> None:
        """A source is read anew, over what is there; it begins with that."""
        self.rig.raise_generation(source)
        self.model.generations[source] = self.model.generations.get(source, 0) + 1
        for partition in self.world.partitions(source):
            self.rig.reset(partition, -1)
        self.meet_moved_positions(self.world.partitions(source)[0])
        self.fold(self.unread(random.Random(seed), 1.0, most))

    @rule()
    def deliver(self) -> None:
        """Everything that is due is sent."""
        self.rig.settle()

    @rule()
    def retry_rejects(self) -> None:
        """They can be decoded now."""
        if not self.spoilt:
            return
        told: list[tuple[int, Change]] = []

        def attempt(page: list[tuple[int, int, Message]]) -> tuple[list[list[StagedRow]], list[int], dict[int, Reject]]:
            told.extend((origin, self.spoilt[origin, message.offset]) for _, origin, message in page)
            return self.stager.stage(told, NOW_MS), [number for number, _, _ in page], {}

        before = self.before()
        _, result = self.rig.store.retry(0, None, 1000, attempt)
        self.met["retried"] += result.folded.total()
        self.met["overtaken"] += result.stale.total()
        self.check(before, told, late=True)

    @rule(seed=seeds)
    def catch_up(self, seed: int) -> None:
        """All of it is consumed: what the mirror knows is what the OMS has."""
        while events := self.unread(random.Random(seed), 1.0, 50):
            self.fold(events)
        stored = self.stored()
        live = {name for name, row in stored.items() if not row.deleted}
        doubted = {name for name, row in stored.items() if row.unknown == {"*"}}
        assert live - doubted - self.world.ghosts <= self.world.rows.keys()
        for name in self.world.rows.keys() - doubted:
            row = stored[name]
            assert not row.deleted, name
            truth = {column: value for column, value in self.world.rows[name].items() if column not in row.unknown}
            assert row.unknown <= {BIG}, name
            for column in truth.keys() - ({BIG} if name[0] in self.world.faded else set()):
                assert row.columns[column] == truth[column], (name, column)
        self.met["caught up"] += 1

    @invariant()
    def books_add_up(self) -> None:
        """Every message that was consumed is counted once."""
        self.met["steps"] += 1
        [(counted,)] = self.rig.look.execute(
            "select coalesce(sum(folded + stale + skipped + rejected), 0)::int from kafka_position"
        ).fetchall()
        assert counted == self.consumed

    # How it is done.

    def take_up(self) -> None:
        """A consumer finds its positions in the state; it remembers nothing else."""
        positions = self.rig.store.positions(self.world.all_partitions())
        self.states = {
            (partition.topic, partition.partition): PartitionState(partition, position)
            for partition, position in positions.items()
        }

    def positions(self) -> dict[TopicPartition, int]:
        return {state.id: state.position.next_offset for state in self.states.values()}

    def unread(self, lot: random.Random, share: float, most: int) -> list[Event]:
        """Up to so many unread messages of each of a share of the partitions, in any order between them."""
        parts = [
            self.world.unread(partition, position)[:most]
            for partition, position in self.positions().items()
            if lot.random() < share
        ]
        order = [number for number, part in enumerate(parts) for _ in part]
        lot.shuffle(order)
        following = [iter(part) for part in parts]
        return [next(following[number]) for number in order]

    def fold(self, events: Sequence[Event]) -> None:
        """One transaction."""
        if not events:
            return
        batch, moves = self.consumed_batch(events)
        before = self.before()
        result = self.rig.store.fold(Batch(self.stager.stage(batch.changes, NOW_MS), batch.rejects, moves))
        batch.commit(moves)
        self.met["folded"] += result.folded.total()
        self.met["stale"] += result.stale.total()
        self.met["key changes"] += sum(change.old_key is not None for _, change in batch.changes)
        self.consumed += len(events)
        self.spoilt |= {
            (self.states[event.topic, event.partition].position.origin, event.offset): event.meant
            for event in events
            if event.meant is not None
        }
        self.check(before, batch.changes)

    def consumed_batch(self, events: Iterable[Event]) -> tuple[DecodedBatch, list[Any]]:
        batch = DecodedBatch(Told(), self.states)
        for event in events:
            batch.add(event)
        return batch, batch.moves({})

    def meet_moved_positions(self, partition: TopicPartition) -> None:
        """A consumer whose positions are not the state's any more changes nothing, and takes them up."""
        state = self.states[partition.topic, partition.partition]
        [now] = self.rig.store.positions([partition]).values()
        events = self.world.unread(partition, state.position.next_offset)[:5]
        if events and now.next_offset != state.position.next_offset:
            batch, moves = self.consumed_batch(events)
            seen = (self.stored(), self.rig.revisions())
            with pytest.raises(PositionsMoved):
                self.rig.store.fold(Batch(self.stager.stage(batch.changes, NOW_MS), batch.rejects, moves))
            assert (self.stored(), self.rig.revisions()) == seen
            self.met["positions moved"] += 1
        self.take_up()

    def before(self) -> tuple[dict[str, Any], dict[str, int]]:
        return self.model.documents(), self.rig.revisions()

    def check(
        self,
        before: tuple[dict[str, Any], dict[str, int]],
        changes: Sequence[tuple[int, Change]],
        *,
        late: bool = False,
    ) -> None:
        """The mirror holds what the model says after these changes; orders whose documents differ are due, and none
        that had nothing to do with them."""
        documents, revisions = before
        may = set().union(*(self.step(origin, change, late) for origin, change in changes))
        self.compare()
        after = self.model.documents()
        must = {order for order in documents.keys() | after.keys() if documents.get(order) != after.get(order)}
        due = {order for order, revision in self.rig.revisions().items() if revision > revisions.get(order, 0)}
        assert must <= due, must - due
        assert due <= may, due - may

    def step(self, origin: int, change: Change, late: bool) -> set[str]:
        """Tell the model one change; the orders that it may make due."""
        states = {name: self.model.state(name) for name in self.model.rows}
        self.associate()
        name = (change.source, change.key)
        if not self.model.take(change, origin, late=late):
            return set()
        changed = {row for row in self.model.rows if self.model.state(row) != states.get(row)}
        if change.kind is not Kind.UPSERT or change.unavailable:
            changed.add(name)
        if change.new_key is not None:  # it may bring values to whoever waits for them, or the word that there are none
            changed |= self.model.heirs(name)
        self.associate()
        orders = set().union(*(self.belonged.get(row, set()) for row in changed))
        for row in self.model.rows:
            if self.model.looked_up(row) & changed:
                orders |= self.belonged.get(row, set())
        return orders

    def associate(self) -> None:
        """Remember every order that a row, or one above it, ever belonged to."""
        for name in self.model.rows:
            above = [self.belonged.get(row, set()) for row in self.model.up(name)]
            orders = {order} if (order := self.model.order_of(name)) is not None else set()
            self.belonged[name] = self.belonged.get(name, set()).union(orders, *above)

    def stored(self) -> dict[Name, Seen]:
        found = self.rig.look.execute(
            "select s.name, r.key, r.columns, coalesce(r.unknown, '{}'), r.deleted, r.root, r.first_seen"
            " from source_row r join source s on s.id = r.source"
        ).fetchall()
        return {
            (source, key): Seen(columns, frozenset(unknown), *rest) for source, key, columns, unknown, *rest in found
        }

    def compare(self) -> None:
        stored = self.stored()
        assert stored.keys() == self.model.rows.keys()
        for name, row in stored.items():
            state = self.model.state(name)
            assert state is not None
            assert row.deleted == state.deleted, name
            assert (row.unknown == {"*"}) == state.doubted, name
            # A stale image may tell an earlier time; it is heard where it was coalesced with one that counts.
            counted = self.model.first_seen_ms(name)
            assert row.first_seen_ms in (counted, None) or self.model.told_ms[name] <= row.first_seen_ms, name
            assert counted is None or (row.first_seen_ms is not None and row.first_seen_ms <= counted), name
            if not state.deleted and not state.doubted:
                self.compare_values(name, row, state)
            order = self.model.order_of(name)
            assert order is None or row.root == order, (name, row.root, order)
            if row.root is not None:  # of a row whose way up is broken: where it last led, over deleted rows too
                self.belonged[name].add(row.root)

    def compare_values(self, name: Name, row: Seen, state: State) -> None:
        """A value for which the mirror has no place, as its key is another row's now, may be unknown, never wrong."""
        assert state.unknown <= row.unknown <= state.unknown | state.lost, name
        assert row.columns == {c: value for c, value in state.columns.items() if c not in row.unknown}, name


@pytest.mark.postgres
@pytest.mark.timeout(900)  # where the machine is busy with other things; by itself it takes less than a minute
def test_the_mirror_is_what_a_naive_dictionary_says(database: Database) -> None:
    """Rows, roots, unknown values and due marks after every fold; the OMS's own rows after every catching up."""
    counts: Counter[str] = Counter()
    with closing(PostgresRig(database)) as opened:

        class Machine(FoldMachine):
            rig = opened
            met = counts

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate],  # making a failure smaller takes more than the minutes that a test has
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert counts["steps"] >= LEAST_STEPS
    assert all(counts[what] for what in WHAT_HAPPENS), counts
