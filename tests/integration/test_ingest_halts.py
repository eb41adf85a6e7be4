"""Sources that halt, and go on by a person's command without a restart; the gate; topics that are missing."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from fixtures.kafka_server import KafkaNode
from ingest_rig import QUIET, TIMEOUT, Line, Running, accounted, complete, halted, positions, rows
from structlog.testing import capture_logs

from daemon.ingest.cluster import Cluster
from daemon.mapping.structure import Structure
from daemon.state.positions import reset_positions

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

MIRROR_LOCK = "pg_advisory_lock(hashtext('order-sync mirror'), hashtext('order_sync'))"


def reset(line: Line, source: str, offsets: dict[int, int | None]) -> None:
    """What `position reset` does once it has asked."""
    topic = line.names[source]
    there = Cluster(line.settings({}, {}).kafka, [topic]).look().topics[topic]
    reset_positions(line.database.settings, topic, there.topic_id, offsets, "a test", "somewhere")


def recreate(line: Line, broker: Any, source: str) -> None:
    """Delete a source's topic and make one of the same name."""
    topic = line.names[source]
    admin = AdminClient({"bootstrap.servers": line.bootstrap}, logger=QUIET)  # must stay alive until the answer
    admin.delete_topics([topic])[topic].result(TIMEOUT)
    broker.create_topic(topic, 2)


def send_junk(line: Line, count: int) -> None:
    """Messages that nobody can decode, to the orders' first partition."""
    producer = Producer({"bootstrap.servers": line.bootstrap}, logger=QUIET)
    for _ in range(count):
        producer.produce(line.names["orders"], b"junk", b"key", partition=0)
    assert producer.flush(TIMEOUT) == 0


def halted_for(running: Running, source: str) -> set[str]:
    """The reasons for which the metric says that a source is halted."""
    samples = (sample for family in running.metrics.source_halted.collect() for sample in family.samples)
    return {s.labels["reason"] for s in samples if s.labels["source"] == source and s.value}


# On Apache Kafka: librdkafka 2.16 crashes where a topic is deleted under it at the light broker, which answers a fetch
# by the old topic id with a new leader.
@pytest.mark.apache_kafka
def test_a_recreated_topic_that_outgrew_its_position_halts_until_it_is_reset(
    kafka: KafkaNode, kafka_line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """No offset is refused, yet nothing of the new topic is skipped; the other source goes on meanwhile."""
    line, broker = kafka_line, kafka
    topic = line.names["orders"]
    first = line.send("orders", 5)
    with line.running() as running:
        eventually(lambda: rows(state, "orders") == first, timeout=TIMEOUT, what="the first orders")
        recreate(line, broker, "orders")
        second = line.send("orders", 12)
        eventually(lambda: halted_for(running, "orders") == {"recreated"}, timeout=TIMEOUT, what="the halt")
        eventually(lambda: halted(state, topic), timeout=TIMEOUT, what="the halt in the state")
        eventually(lambda: "position reset" in running.reason(), timeout=TIMEOUT, what="unreadiness with the cure")
        customers = line.send("customers", 3)
        eventually(lambda: rows(state, "customers") == customers, timeout=TIMEOUT, what="the other source")
        reset(line, "orders", {0: -1})
        eventually(lambda: rows(state, "orders") == first | second, timeout=TIMEOUT, what="the new topic's orders")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        assert halted_for(running, "orders") == set()
    assert halted(state, topic) == set()
    assert positions(state, topic)[0] == 12


def test_a_topic_recreated_while_nobody_read_it_halts_at_the_start(
    line: Line, state: psycopg.Connection, broker: Any, eventually: Callable[..., None]
) -> None:
    """A start is no cure: nothing is read of the new topic, and the halt is written to where the old one stood."""
    topic = line.names["orders"]
    line.send("orders", 5)
    with line.running() as running:
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="the orders")
    recreate(line, broker, "orders")
    line.send("orders", 2)
    for _ in range(2):
        with line.running() as running:
            eventually(lambda: topic in running.loop.halted, timeout=TIMEOUT, what="the halt")
            eventually(lambda: halted(state, topic), timeout=TIMEOUT, what="the halt in the state")
    assert positions(state, topic)[0] == 5
    assert accounted(state) == 5


def test_a_position_that_is_reset_while_nothing_comes_is_followed(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """A partition at rest folds nothing that could fail: the loop looks by itself, and reads all of it again."""
    orders = line.send("orders", 5)
    with line.running() as running:
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="the orders")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        reset(line, "orders", {0: -1})
        eventually(lambda: accounted(state) == 10, timeout=TIMEOUT, what="the second reading")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
    assert rows(state, "orders") == orders
    assert positions(state, line.names["orders"])[0] == 5


def test_rejects_over_the_budget_halt_until_a_person_wants_them_kept(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """The halt is durable and names an example; after a reset to where it stands they are kept and it goes on."""
    topic = line.names["orders"]
    send_junk(line, 30)
    line.send("orders", 4, partition=0)
    with line.running(ingest={"reject_budget": 10}) as running:
        eventually(lambda: halted_for(running, "orders") == {"rejects"}, timeout=TIMEOUT, what="the halt")
        eventually(lambda: halted(state, topic), timeout=TIMEOUT, what="the halt in the state")
        [why] = halted(state, topic)
        assert "partition 0 offset 0 (not_json" in why
        assert f"`order-sync position reset {topic} --to here`" in why
        assert positions(state, topic)[0] <= 0
        reset(line, "orders", {0: None, 1: None})
        eventually(lambda: rows(state, "orders") == line.sent["orders"], timeout=TIMEOUT, what="what stands behind")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
    assert state.execute("select count(*) from rejected_message").fetchone() == (30,)
    assert halted(state, topic) == set()
    assert accounted(state) == 34


def test_a_restart_with_the_cause_mended_ends_a_halt_for_rejects(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """What a process before wrote down is gone once the partitions are read again: nothing was skipped meanwhile."""
    topic = line.names["orders"]
    send_junk(line, 30)
    with line.running(ingest={"reject_budget": 10}):
        eventually(lambda: halted(state, topic), timeout=TIMEOUT, what="the halt in the state")
    with line.running(ingest={"reject_budget": 100}) as running:
        eventually(lambda: accounted(state) == 30, timeout=TIMEOUT, what="the rejects")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
    assert halted(state, topic) == set()


def test_a_backlog_at_the_start_holds_delivery_until_it_is_folded(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """The targets stand before anything is folded, and are gone once all of it is."""
    line.send("orders", 50)
    line.send("customers", 50, partition=1)
    standing = "select count(*)::int from kafka_position where target is not null"
    state.execute(f"select {MIRROR_LOCK}")
    with line.running() as running:
        eventually(lambda: state.execute(standing).fetchone() == (2,), timeout=TIMEOUT, what="the targets")
        assert accounted(state) == 0
        state.execute(f"select {MIRROR_LOCK.replace('lock(', 'unlock(', 1)}")
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="the backlog")
        eventually(lambda: state.execute(standing).fetchone() == (0,), timeout=TIMEOUT, what="the open gate")
        eventually(lambda: running.gauge("gate_targets") == 0, timeout=TIMEOUT, what="the metric")


class RequiringLine(Line):
    """Its orders' topic must be there."""

    @property
    def structure(self) -> Structure:
        structure = super().structure
        orders = dataclasses.replace(structure.sources["orders"], required=True)
        return dataclasses.replace(structure, sources={**structure.sources, "orders": orders})


def test_a_required_topic_that_is_missing_makes_not_ready(
    line: Line, state: psycopg.Connection, broker: Any, eventually: Callable[..., None]
) -> None:
    """The other source is read all the same; once the topic is there, all is well by itself."""
    late = f"late-{uuid.uuid4().hex[:12]}"
    requiring = RequiringLine(line.bootstrap, line.database, {**line.names, "orders": late})
    requiring.send("customers", 3)
    with requiring.running() as running:
        eventually(lambda: complete(state, requiring), timeout=TIMEOUT, what="the customers")
        eventually(lambda: "requires it" in running.reason(), timeout=TIMEOUT, what="unreadiness")
        assert late in running.reason()
        assert running.gauge("topic_missing", topic=late) == 1
        broker.create_topic(late, 2)
        requiring.send("orders", 3)
        eventually(lambda: complete(state, requiring), timeout=TIMEOUT, what="the orders")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        assert running.gauge("topic_missing") == 0


def test_a_truncate_is_counted_and_said_with_its_cure(
    line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Its rows stay: nobody knows whether the OMS meant it."""
    orders = line.send("orders", 3)
    producer = Producer({"bootstrap.servers": line.bootstrap}, logger=QUIET)
    source = {"connector": "postgresql", "name": "oms", "db": "oms", "schema": "public", "table": "orders", "lsn": 9999}
    truncate = {"before": None, "after": None, "op": "t", "ts_ms": 1, "source": source | {"ts_ms": 1}}
    producer.produce(line.names["orders"], json.dumps(truncate).encode(), None, partition=0)
    assert producer.flush(TIMEOUT) == 0
    with capture_logs() as logs, line.running() as running:
        eventually(lambda: accounted(state) == 4, timeout=TIMEOUT, what="all of them")
        eventually(
            lambda: running.gauge("messages_total", outcome="skipped", reason="truncate") == 1,
            timeout=TIMEOUT,
            what="the count",
        )
    [said] = [entry for entry in logs if entry["event"] == "source was truncated in the OMS, its rows are kept"]
    assert (said["log_level"], said["source"]) == ("error", "orders")
    assert "order-sync rebuild --source orders" in said["cure"]
    assert rows(state, "orders") == orders
