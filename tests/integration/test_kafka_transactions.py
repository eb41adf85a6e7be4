"""Transactional producers on Apache Kafka: what was aborted is never folded, markers hold up nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import psycopg
import pytest
from confluent_kafka import Producer
from fixtures.kafka_server import KafkaNode
from ingest_rig import QUIET, TIMEOUT, Line, accounted, complete, positions, rows, steps_back

from daemon.ingest.cluster import Cluster

pytestmark = [pytest.mark.apache_kafka, pytest.mark.postgres]


@pytest.fixture
def transactions(kafka: KafkaNode) -> Producer:
    """A producer with transactions."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid.uuid4().hex}, logger=QUIET)
    producer.init_transactions(TIMEOUT)
    return producer


def test_commits_are_folded_aborts_are_not_and_the_position_ends_at_the_logs_end(
    kafka_line: Line, state: psycopg.Connection, transactions: Producer, eventually: Callable[..., None]
) -> None:
    """Committed, aborted and open transactions over two partitions, one of them with nothing but an abort."""
    topic = kafka_line.names["orders"]
    with kafka_line.running() as running:
        for commit in (True, False, True, False):
            transactions.begin_transaction()
            keys = kafka_line.send("orders", 5, partition=0, via=transactions)
            if commit:
                kafka_line.sent.setdefault("orders", set()).update(keys)
                transactions.commit_transaction(TIMEOUT)
            else:
                kafka_line.send("orders", 5, partition=1, via=transactions)
                transactions.abort_transaction(TIMEOUT)
        eventually(lambda: positions(state, topic) == {0: 24, 1: 12, 2: 0, 3: 0}, timeout=TIMEOUT, what="the ends")
        assert complete(state, kafka_line)
        assert accounted(state) == 10
        settings = kafka_line.settings({}, {}).kafka
        ends = {partition: end for (_, partition), end in Cluster(settings, [topic]).look().ends.items()}
        assert ends == {0: 24, 1: 12, 2: 0, 3: 0}
        eventually(lambda: running.gauge("consumer_lag_messages", topic=topic) == 0, timeout=TIMEOUT, what="lag 0")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        assert running.loop.caught_up.is_set()
    assert steps_back(state) == []


def test_an_open_transaction_holds_back_its_partition_alone(
    kafka_line: Line, state: psycopg.Connection, transactions: Producer, eventually: Callable[..., None]
) -> None:
    """Messages behind an open transaction wait, told as lag; other partitions go on; then everything is folded."""
    topic = kafka_line.names["orders"]
    with kafka_line.running() as running:
        transactions.begin_transaction()
        opened = kafka_line.send("orders", 3, partition=0, via=transactions)
        behind = kafka_line.send("orders", 2, partition=0)
        beside = kafka_line.send("orders", 4, partition=1)
        eventually(lambda: rows(state, "orders") == beside, timeout=TIMEOUT, what="the other partition")
        eventually(lambda: running.gauge("consumer_lag_messages", topic=topic) == 5, timeout=TIMEOUT, what="the lag")
        assert positions(state, topic)[0] == 0
        transactions.commit_transaction(TIMEOUT)
        eventually(lambda: rows(state, "orders") == opened | behind | beside, timeout=TIMEOUT, what="everything")
        eventually(lambda: positions(state, topic)[0] == 6, timeout=TIMEOUT, what="the position behind the marker")
        eventually(lambda: running.gauge("consumer_lag_messages", topic=topic) == 0, timeout=TIMEOUT, what="lag 0")
        assert accounted(state) == 9
