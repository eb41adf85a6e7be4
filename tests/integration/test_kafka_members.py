"""Members of the group that come, go, sleep and wake up, on Apache Kafka: every message counts once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from ingest_rig import TIMEOUT, Line, accounted, complete, positions, steps_back

from daemon.ingest.kafka import KafkaSource, Poll
from daemon.state.ingest_store import Batch, FoldResult, PostgresIngestStore

pytestmark = [pytest.mark.apache_kafka, pytest.mark.postgres]


class Unending(KafkaSource):
    """Keeps partition ends back while told to, so that the batch stays open; counts what it handed out."""

    handed = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open = threading.Event()
        self._kept: dict[tuple[str, int], int] = {}

    def poll(self, timeout_secs: float) -> Poll:
        polled = super().poll(timeout_secs)
        self.handed += len(polled.messages)
        self._kept |= polled.ends
        polled.ends = {}
        if self.open.is_set():
            polled.ends, self._kept = {p: e for p, e in self._kept.items() if p in self.assigned}, {}
        return polled


def test_a_rebalance_inside_a_batch_loses_and_doubles_nothing(
    kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Messages of all partitions are read and not folded yet when another member takes half of them."""
    for number in range(4):
        kafka_line.send("orders", 25, partition=number)
        kafka_line.send("customers", 25, partition=number)
    endless = {"batch_max_wait_ms": 600_000}
    with kafka_line.running(source=Unending, kafka=endless) as first:
        assert isinstance(first.source, Unending)
        eventually(lambda: first.source.handed >= 200, timeout=TIMEOUT, what="an open batch of everything")
        assert accounted(state) == 0
        with kafka_line.running() as second:
            eventually(lambda: second.loop.caught_up.is_set(), timeout=TIMEOUT, what="the second member's half")
            assert accounted(state) == 100
            eventually(lambda: first.source.handed >= 300, timeout=TIMEOUT, what="the first to read its half anew")
            first.source.open.set()
            eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="both halves")
        for number in range(4):
            kafka_line.send("orders", 5, partition=number)
            kafka_line.send("customers", 5, partition=number)
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="all partitions by the first again")
        assert first.gauge("fold_retries_total") == 0
    assert steps_back(state) == []


class Sleeper(PostgresIngestStore):
    """Falls asleep at a fold while told to, as a process does that is stopped or starved."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tired, self.asleep, self.wake = threading.Event(), threading.Event(), threading.Event()

    def fold(self, batch: Batch) -> FoldResult:
        if self.tired.is_set():
            self.tired.clear()
            self.asleep.set()
            assert self.wake.wait(TIMEOUT)
        return super().fold(batch)


def test_a_zombie_that_wakes_up_folds_nothing_and_goes_on(
    kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Its partitions moved while it slept: its fold fails whole, positions are read anew, it works again."""
    soon = {"properties": {**kafka_line.settings({}, {}).kafka.properties, "max.poll.interval.ms": 3000}}
    with kafka_line.running(store=Sleeper, kafka=soon) as zombie:
        sleeper = zombie.store
        assert isinstance(sleeper, Sleeper)
        assert zombie.loop.caught_up.wait(TIMEOUT)
        sleeper.tired.set()
        kafka_line.send("orders", 20)
        assert sleeper.asleep.wait(TIMEOUT)
        with kafka_line.running() as other:
            eventually(
                lambda: complete(state, kafka_line), timeout=TIMEOUT, what="the other member to do the zombie's work"
            )
            kafka_line.send("orders", 20)
            eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="and more")
            sleeper.wake.set()
            eventually(
                lambda: zombie.gauge("fold_retries_total") == 1, timeout=TIMEOUT, what="the zombie's fold to fail"
            )
            eventually(lambda: zombie.ready() and other.ready(), timeout=TIMEOUT, what="both to share the partitions")
            eventually(lambda: len(zombie.source.assigned) == 4, timeout=TIMEOUT, what="the zombie's share")
            for number in range(4):
                kafka_line.send("orders", 10, partition=number)
            eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="work by both")
    assert steps_back(state) == []
    assert sum(positions(state, kafka_line.names["orders"]).values()) == 80
