"""Gaps on Apache Kafka: what Kafka no longer has halts that source, visibly, until a person says where to go on."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from confluent_kafka import TopicPartition
from fixtures.kafka_server import KafkaNode
from ingest_rig import TIMEOUT, Line, Running, complete, halted, positions, rows

pytestmark = [pytest.mark.apache_kafka, pytest.mark.postgres]

DAY_MS = 86_400_000


def read_first(line: Line, state: psycopg.Connection, eventually: Callable[..., None], count: int = 10) -> None:
    """A loop that reads so many orders and ends."""
    line.send("orders", count)
    with line.running() as running:
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="the first orders")
        assert running.loop.caught_up.wait(TIMEOUT)


def remove_before(kafka: KafkaNode, topic: str, offset: int) -> None:
    """As retention does, but at once: partition 0 begins there from now on."""
    at = TopicPartition(topic, 0, offset)
    kafka.admin.delete_records([at])[at].result(TIMEOUT)


def make_anew(kafka: KafkaNode, topic: str) -> None:
    kafka.delete_topic(topic)
    kafka.create_topic(topic, 4)


def make_compacted(kafka: KafkaNode, topic: str) -> None:
    """Deletes are kept for a day."""
    kafka.configure_topic(topic, cleanup_policy="compact", delete_retention_ms=str(DAY_MS))


def let_pass(state: psycopg.Connection, hours: int) -> None:
    """As if nothing had been read for so long."""
    state.execute("update kafka_position set read_at = read_at - make_interval(hours => %s)", [hours])


def stands_still(
    running: Running, line: Line, state: psycopg.Connection, reason: str, eventually: Callable[..., None]
) -> None:
    """Orders are halted for this reason: metric, readiness, durable text and cure; customers go on."""
    topic = line.names["orders"]
    eventually(
        lambda: running.gauge("source_halted", source="orders", reason=reason) == 1, timeout=TIMEOUT, what=reason
    )
    customers = line.send("customers", 5)
    eventually(lambda: customers <= rows(state, "customers"), timeout=TIMEOUT, what="the customers")
    eventually(lambda: topic in running.reason(), timeout=TIMEOUT, what="unreadiness")
    assert f"position reset {topic} --to" in running.reason()
    eventually(lambda: halted(state, topic), timeout=TIMEOUT, what="the durable reason")
    assert halted(state, topic) == {running.loop.halted[topic]}
    assert running.gauge("source_halted") == 1


def goes_on(running: Running, line: Line, state: psycopg.Connection, eventually: Callable[..., None]) -> None:
    """Nothing is halted any more."""
    eventually(running.ready, timeout=TIMEOUT, what="readiness")
    assert running.gauge("source_halted") == 0
    assert halted(state, line.names["orders"]) == set()


def test_messages_that_retention_took_before_they_were_read_halt_the_source(
    kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """The position stays at the gap, over a restart too; after the reset what is left is folded."""
    topic = kafka_line.names["orders"]
    read_first(kafka_line, state, eventually)
    lost = kafka_line.send("orders", 5)
    left = kafka_line.send("orders", 5)
    other = kafka_line.send("orders", 5, partition=1)
    remove_before(kafka, topic, 15)
    with kafka_line.running() as running:
        stands_still(running, kafka_line, state, "retention", eventually)
        assert "offsets 10 to 14" in running.reason()
    with kafka_line.running() as running:
        stands_still(running, kafka_line, state, "retention", eventually)
        assert positions(state, topic)[0] == 10
        assert not rows(state, "orders") & (left | other)
        kafka_line.reset("orders", -1)
        eventually(lambda: left | other <= rows(state, "orders"), timeout=TIMEOUT, what="what is left")
        goes_on(running, kafka_line, state, eventually)
    assert not lost & rows(state, "orders")


def test_records_removed_while_they_wait_to_be_read_halt_the_source(
    kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """The loop is halted for another reason and its topic shortened meanwhile: let go, it notices the gap at once."""
    topic = kafka_line.names["orders"]
    read_first(kafka_line, state, eventually)
    kafka_line.send("orders", 5)
    remove_before(kafka, topic, 12)
    with kafka_line.running() as running:
        stands_still(running, kafka_line, state, "retention", eventually)
        kafka_line.send("orders", 5)
        remove_before(kafka, topic, 18)
        kafka_line.reset("orders", 12)
        eventually(lambda: "offsets 12 to 17" in running.reason(), timeout=TIMEOUT, what="the new gap")
        assert positions(state, topic)[0] == 12


@pytest.mark.parametrize("count", [3, 30], ids=["shorter", "outgrown"])
def test_a_topic_made_anew_while_nobody_read_halts_the_source(
    count: int, kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Whether or not the new one has the old position: nothing of it is folded before the reset, then all of it."""
    topic = kafka_line.names["orders"]
    read_first(kafka_line, state, eventually)
    before = rows(state, "orders")
    make_anew(kafka, topic)
    anew = kafka_line.send("orders", count)
    with kafka_line.running() as running:
        stands_still(running, kafka_line, state, "recreated", eventually)
        assert rows(state, "orders") == before
        kafka_line.reset("orders", -1)
        eventually(lambda: rows(state, "orders") == before | anew, timeout=TIMEOUT, what="all of the new one")
        goes_on(running, kafka_line, state, eventually)


@pytest.mark.parametrize("count", [3, 30], ids=["shorter", "outgrown"])
def test_a_topic_made_anew_while_it_is_read_halts_the_source(
    count: int, kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """The consumer itself may take the new topic for the old one; the loop tells them apart by their ids."""
    topic = kafka_line.names["orders"]
    kafka_line.send("orders", 10)
    with kafka_line.running() as running:
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="the first orders")
        make_anew(kafka, topic)
        anew = kafka_line.send("orders", count)
        stands_still(running, kafka_line, state, "recreated", eventually)
        kafka_line.reset("orders", -1)
        eventually(lambda: anew <= rows(state, "orders"), timeout=TIMEOUT, what="all of the new one")
        goes_on(running, kafka_line, state, eventually)


def test_a_topic_deleted_while_it_is_read_is_missing_and_made_anew_is_halted(
    kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Minutes may lie between: the other source goes on meanwhile, and the new topic is not taken for the old one."""
    topic = kafka_line.names["orders"]
    kafka_line.send("orders", 10)
    with kafka_line.running() as running:
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="the first orders")
        kafka.delete_topic(topic)
        eventually(lambda: running.gauge("topic_missing", topic=topic) == 1, timeout=TIMEOUT, what="the missing topic")
        eventually(
            lambda: not {t for t, _ in running.source.assigned} & {topic}, timeout=TIMEOUT, what="the revocation"
        )
        kafka_line.send("customers", 5)
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="the customers")
        kafka.create_topic(topic, 4)
        anew = kafka_line.send("orders", 5)
        stands_still(running, kafka_line, state, "recreated", eventually)
        kafka_line.reset("orders", -1)
        eventually(lambda: anew <= rows(state, "orders"), timeout=TIMEOUT, what="all of the new one")
        goes_on(running, kafka_line, state, eventually)


def test_a_position_above_the_logs_end_halts_the_source(
    kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """As after an unclean election, or where brokers tell no topic ids: it is not waited for in silence."""
    topic = kafka_line.names["orders"]
    read_first(kafka_line, state, eventually)
    state.execute(
        "update kafka_position set next_offset = 1000 where origin = "
        "(select id from origin where topic = %s and partition = 0)",
        [topic],
    )
    with kafka_line.running() as running:
        stands_still(running, kafka_line, state, "truncated", eventually)
        assert "its log ends at 10" in running.reason()
        kafka_line.reset("orders", 10)
        goes_on(running, kafka_line, state, eventually)
        kafka_line.send("orders", 5)
        eventually(lambda: kafka_line.sent["orders"] == rows(state, "orders"), timeout=TIMEOUT, what="what comes next")


def test_a_compacted_topic_read_too_late_halts_the_source(
    kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Deletes among what is unread may be gone after delete.retention.ms; after the reset it is read on."""
    make_compacted(kafka, kafka_line.names["orders"])
    read_first(kafka_line, state, eventually)
    late = kafka_line.send("orders", 5)
    let_pass(state, 25)
    with kafka_line.running() as running:
        stands_still(running, kafka_line, state, "compaction", eventually)
        assert not late & rows(state, "orders")
        kafka_line.reset("orders", None)
        eventually(lambda: late <= rows(state, "orders"), timeout=TIMEOUT, what="what came late")
        goes_on(running, kafka_line, state, eventually)


@pytest.mark.parametrize(
    ("compacted", "unread", "hours"), [(True, 5, 23), (True, 0, 25), (False, 5, 25)], ids=["early", "read", "kept"]
)
def test_what_is_not_too_late_is_read_on(
    compacted: bool,
    unread: int,
    hours: int,
    kafka: KafkaNode,
    kafka_line: Line,
    state: psycopg.Connection,
    eventually: Callable[..., None],
) -> None:
    """In time, or with nothing left unread, or where nothing is compacted: no halt, everything is folded."""
    if compacted:
        make_compacted(kafka, kafka_line.names["orders"])
    read_first(kafka_line, state, eventually)
    kafka_line.send("orders", unread)
    let_pass(state, hours)
    with kafka_line.running() as running:
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="everything")
        goes_on(running, kafka_line, state, eventually)
        kafka_line.send("orders", 5)
        eventually(lambda: complete(state, kafka_line), timeout=TIMEOUT, what="what comes afterwards")
        assert running.gauge("source_halted") == 0
