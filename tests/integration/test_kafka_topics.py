"""Topics that appear and grow, a broker that dies, messages of several megabytes: on Apache Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from confluent_kafka.admin import NewPartitions
from fixtures.kafka_server import KafkaNode
from ingest_rig import TIMEOUT, Line, complete, positions, steps_back

pytestmark = [pytest.mark.apache_kafka, pytest.mark.postgres]


def test_a_topic_that_appears_later_is_taken_up_from_its_beginning(
    kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """The loop is ready without it and tells that it is missing; nothing of it is missed."""
    late = kafka_line.names["orders"] = f"late-{uuid.uuid4().hex[:12]}"
    kafka_line.send("customers", 10)
    with kafka_line.running() as running:
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="the customers")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        assert running.gauge("topic_missing", topic=late) == 1
        kafka.create_topic(late, 2)
        kafka_line.send("orders", 10, partition=0)
        kafka_line.send("orders", 10, partition=1)
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="the orders")
        eventually(lambda: running.gauge("topic_missing", topic=late) == 0, timeout=TIMEOUT, what="the metric")
    kafka.delete_topic(late)


def test_partitions_added_later_are_taken_up_from_their_beginning(
    kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """What was produced to them before the loop noticed is folded too."""
    topic = kafka_line.names["orders"]
    kafka_line.send("orders", 5)
    with kafka_line.running() as running:
        assert running.loop.caught_up.wait(TIMEOUT)
        kafka.admin.create_partitions([NewPartitions(topic, 6)])[topic].result(TIMEOUT)
        for number in (4, 5):
            kafka_line.send("orders", 5, partition=number)
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="the new partitions")
        assert positions(state, topic) == {0: 5, 1: 0, 2: 0, 3: 0, 4: 5, 5: 5}


@pytest.fixture
def broken_kafka(kafka: KafkaNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaNode]:
    """The session's Kafka, which is running again afterwards whatever happens; its silence is noticed sooner."""
    monkeypatch.setattr("daemon.ingest.cluster.ANSWER_SECS", 2.0)
    yield kafka
    kafka.start()


def test_a_broker_killed_and_away_for_a_while_is_waited_for(
    broken_kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Not ready with the cure while it is away, no failure, and on by itself afterwards: nothing lost or doubled."""
    kafka_line.send("orders", 20)
    with kafka_line.running() as running:
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="the first orders")
        broken_kafka.kill()
        eventually(lambda: running.gauge("kafka_trouble", kind="unreachable") == 1, timeout=TIMEOUT, what="trouble")
        eventually(lambda: "see that the brokers run" in running.reason(), timeout=TIMEOUT, what="unreadiness")
        broken_kafka.start()
        kafka_line.send("orders", 20, partition=1)
        kafka_line.send("customers", 20, partition=2)
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="what came afterwards")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        assert running.gauge("kafka_trouble") == 0
    assert steps_back(state) == []


def test_messages_of_several_megabytes_are_folded_with_the_default_settings(
    kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """One beyond a fetch's usual size, between small ones, and two that fill a batch."""
    kafka.configure_topic(kafka_line.names["orders"], max_message_bytes="20000000")
    kafka_line.send("orders", 3)
    kafka_line.send("orders", 1, padding="x" * 12_000_000)
    kafka_line.send("orders", 3)
    kafka_line.send("orders", 2, partition=1, padding="x" * 8_000_000)
    with kafka_line.running():
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="all of them")
    lengths = state.execute("select max(length(columns ->> 'padding')) from source_row").fetchone()
    assert lengths == (12_000_000,)
