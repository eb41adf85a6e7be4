"""A batch is polled, decoded and staged while the transaction of the one before runs; that changes nothing else."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from ingest_rig import QUIET, TIMEOUT, Line, accounted, complete, rows, steps_back

from daemon.errors import PositionsMoved, StateContended, StateRefused, StateUnavailable
from daemon.ingest import eras
from daemon.state.era import Era
from daemon.state.ingest_store import Batch, FoldResult, Position, PostgresIngestStore, TopicPartition

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]


class Slow(PostgresIngestStore):
    """Begins every fold at once and ends it once it may."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begun, self.may_end = threading.Event(), threading.Event()

    def fold(self, batch: Batch) -> FoldResult:
        self.hold()
        return super().fold(batch)

    def hold(self) -> None:
        """Return once it may."""
        self.begun.set()
        assert self.may_end.wait(TIMEOUT)


class Restored(Slow):
    """While the first fold is under way, another process finds that the state went back."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.replays: list[bool] = []

    def era(self) -> Era:
        return dataclasses.replace(super().era(), replaying=bool(self.replays))

    def fold(self, batch: Batch) -> FoldResult:
        self.replays.append(batch.replay)
        return super().fold(batch)


class Away(PostgresIngestStore):
    """Is away once, when partitions are judged."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.leaves, self.left = threading.Event(), threading.Event()

    def positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        if self.leaves.is_set() and not self.left.is_set():
            self.left.set()
            raise StateUnavailable("gone for a moment")
        return super().positions(partitions)


class Refusing(Slow):
    """Never takes order 1, and says so once the loop may have gathered more."""

    def fold(self, batch: Batch) -> FoldResult:
        if any(row.key == "1" for rows in batch.rounds for row in rows):
            self.hold()
            raise StateRefused("a value of order 1")
        return super().fold(batch)


class Stormy(PostgresIngestStore):
    """Fails every other fold: before it did anything, or after all was committed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lots = random.Random(7)
        self.failed: list[str] = []

    def fold(self, batch: Batch) -> FoldResult:
        kinds: list[type[Exception]] = [StateUnavailable, StateContended, PositionsMoved]
        if sum(map(len, batch.rounds)) > 1:  # a lone message would be a reject
            kinds.append(StateRefused)
        error = self._lots.choice(kinds)("the storm")
        when = self._lots.choice(("before", "after", "never", "never"))
        if when == "before":
            self._fail(error, when)
        result = super().fold(batch)
        if when == "after" and not isinstance(error, StateRefused):
            self._fail(error, when)
        return result

    def _fail(self, error: Exception, when: str) -> None:
        self.failed.append(f"{type(error).__name__} {when}")
        raise error


def test_the_loop_goes_on_beside_a_slow_transaction(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """What comes meanwhile is fetched and shown as lag, and folded behind what came before. One that never ended would
    be seen: the loop does not say that it turned.
    """
    line.send("orders", 5)
    with line.running(store=Slow) as running:
        store = running.store
        assert isinstance(store, Slow)
        assert store.begun.wait(TIMEOUT)
        turned = running.health._turned_at
        line.send("orders", 7)
        eventually(lambda: running.gauge("consumer_lag_messages") == 12, timeout=TIMEOUT, what="the lag of all twelve")
        assert accounted(state) == 0
        assert not running.loop.caught_up.is_set()
        assert running.health._turned_at == turned
        store.may_end.set()
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="all twelve")
        assert running.health._turned_at > turned
        eventually(lambda: running.gauge("consumer_lag_messages") == 0, timeout=TIMEOUT, what="no lag")
    assert not steps_back(state)


def test_a_batch_that_was_prepared_before_a_new_era_is_prepared_again(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else orders that it touches would not be sent anew, although the API may have what was lost."""
    monkeypatch.setattr(eras, "LOOK_SECS", 0.0)
    line.send("orders", 5)
    with line.running(store=Restored, kafka={"batch_max_messages": 5, "topic_refresh_secs": 60}) as running:
        store = running.store
        assert isinstance(store, Restored)
        assert store.begun.wait(TIMEOUT)
        line.send("orders", 5)
        gathered = running.loop._gathered  # the first fold may be one of ends alone
        eventually(lambda: len(gathered.messages) - gathered.taken >= 5, timeout=TIMEOUT, what="the next batch")
        store.may_end.set()
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="all ten")
    assert store.replays[:2] == [False, True]
    assert all(store.replays[1:])


def test_only_the_message_that_is_refused_becomes_a_reject(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Not those that were gathered while its transaction was under way."""
    line.send("orders", 1)
    with line.running(store=Refusing, kafka={"batch_max_messages": 50}) as running:
        store = running.store
        assert isinstance(store, Refusing)
        assert store.begun.wait(TIMEOUT)
        line.send("orders", 20)
        eventually(lambda: len(running.loop._gathered.messages) > 1, timeout=TIMEOUT, what="what came after it")
        store.may_end.set()
        eventually(lambda: accounted(state) == 21, timeout=TIMEOUT, what="all of them")
    assert state.execute('select "offset" from rejected_message').fetchall() == [(0,)]
    assert len(rows(state, "orders")) == 20


def test_a_state_that_is_away_while_partitions_are_judged_is_asked_again_soon(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Consumption is paused meanwhile: not until Kafka would be looked at anyway."""
    line.send("orders", 3)
    with line.running(store=Away, kafka={"topic_refresh_secs": 600}) as running:
        store = running.store
        assert isinstance(store, Away)
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="the first three")
        eventually(lambda: running.loop._next_look > time.monotonic() + 60, timeout=TIMEOUT, what="no look soon")
        store.leaves.set()
        running.loop._next_look = 0.0
        assert store.left.wait(TIMEOUT)
        line.send("orders", 3)
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="the other three")


def test_whatever_becomes_of_a_transaction_nothing_is_lost_doubled_or_moved_back(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Tiny batches, each prepared before it is known how the one before ends; half of the transactions fail, some of
    them after they were committed.
    """
    for number in range(60):
        line.send("orders", 3, partition=number % 2)
        line.send("customers", 2, partition=number % 2)
    limits = {"batch_max_messages": 4, "batch_max_wait_ms": 5}
    with line.running(store=Stormy, kafka=limits, ingest={"retry_initial_ms": 1, "retry_max_secs": 0.01}) as running:
        eventually(lambda: complete(state, line), timeout=3 * TIMEOUT, what="all of them")
        store = running.store
    assert isinstance(store, Stormy)
    assert len(set(store.failed)) == 7
    assert not steps_back(state)
    assert state.execute("select count(*) from rejected_message").fetchone() == (0,)
    assert len(rows(state, "orders")) == 180


def test_rejects_of_a_batch_that_is_under_way_count_against_the_budget_of_the_next(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Never more than the budget is kept, in however many batches they come."""
    producer = Producer({"bootstrap.servers": line.bootstrap}, logger=QUIET)
    for _ in range(40):
        producer.produce(line.names["orders"], b"junk", b"key", partition=0)
    assert producer.flush(TIMEOUT) == 0
    with line.running(kafka={"batch_max_messages": 3}, ingest={"reject_budget": 10}) as running:
        eventually(lambda: line.names["orders"] in running.loop.halted, timeout=TIMEOUT, what="the halt")
    kept = state.execute("select count(*)::int from rejected_message").fetchone()
    assert kept is not None
    assert 3 <= kept[0] <= 10
