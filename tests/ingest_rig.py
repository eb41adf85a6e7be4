"""Two small sources on topics of their own, loops over them in threads, and the books that must add up."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer
from fixtures.postgres import Database

from daemon.ingest.cluster import Cluster
from daemon.ingest.kafka import KafkaSource
from daemon.ingest.loop import IngestLoop
from daemon.mapping.structure import Role, Source, Structure
from daemon.operate.health import Health, LoopHealth
from daemon.operate.metrics import Metrics
from daemon.settings import Destination, Ingest, Kafka, Settings
from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.positions import reset_positions
from daemon.state.schedule import DebouncePolicy

TIMEOUT = 40
QUIET = logging.getLogger("librdkafka")
# As in production but small, so that the group notices within a second or two who came and who went.
QUICK = {
    "session.timeout.ms": 2000,
    "heartbeat.interval.ms": 200,
    "max.poll.interval.ms": 60_000,
    "fetch.wait.max.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "fetch.error.backoff.ms": 50,
}
# Positions that move back are written down; nothing may do that but a person.
WATCH = """
create table went_back (origin int, was bigint, became bigint);
create function note_step_back() returns trigger language plpgsql as $$
begin
    insert into order_sync.went_back values (old.origin, old.next_offset, new.next_offset);
    return null;
end $$;
create trigger note_step_back after update on kafka_position for each row
    when (new.next_offset < old.next_offset) execute function note_step_back();
"""


def prepared(look: psycopg.Connection) -> psycopg.Connection:
    """The connection, in our schema, with the destination registered and positions watched."""
    look.execute("set search_path to order_sync")
    look.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
    look.execute(WATCH)
    return look


def change(number: int, table: str, padding: str = "") -> tuple[bytes, bytes]:
    """Key and value of row `number` being created, as Debezium's JSON without schemas."""
    source = {
        "connector": "postgresql", "name": "oms", "db": "oms", "schema": "public", "table": table,
        "lsn": 1000 + number, "ts_ms": 1_767_355_200_000 + number, "snapshot": "false",
    }  # fmt: skip
    after = {"id": number, "padding": padding}
    value = {"before": None, "after": after, "op": "c", "ts_ms": source["ts_ms"], "source": source}
    return json.dumps({"id": number}).encode(), json.dumps(value).encode()


@dataclass
class Running:
    """A loop that runs, and what it says."""

    loop: IngestLoop
    metrics: Metrics
    health: LoopHealth
    source: KafkaSource
    store: PostgresIngestStore

    def ready(self) -> bool:
        return bool(self._report()["ready"])

    def reason(self) -> str:
        """Why it is not ready; empty where it is."""
        return str(self._report().get("reason", ""))

    def gauge(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        samples = (sample for family in getattr(self.metrics, name).collect() for sample in family.samples)
        found = (s.value for s in samples if labels.items() <= s.labels.items() and not s.name.endswith("_created"))
        return float(sum(found))

    def _report(self) -> dict[str, object]:
        return self.health.report(0, 1e9)


@dataclass
class Line:
    """Topics for `orders` and `customers`, and what it takes to produce to them and to run loops over them."""

    bootstrap: str
    database: Database
    names: dict[str, str]
    sent: dict[str, set[str]] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    secret_properties: Mapping[str, str] = field(default_factory=dict)
    consumer_bootstrap: str | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def structure(self) -> Structure:
        """Orders by themselves, customers shared."""
        roles = {"orders": Role.ROOT, "customers": Role.SHARED}
        return Structure(
            root="orders",
            version="rig",
            sources={name: Source(name, self.names[name], role, types={"id": "int8"}) for name, role in roles.items()},
        )

    def send(
        self, source: str, count: int = 1, *, partition: int = 0, padding: str = "", via: Producer | None = None
    ) -> set[str]:
        """Produce rows that were never there before; their keys. By `via` they are not counted as sent."""
        properties = {"bootstrap.servers": self.bootstrap, "linger.ms": 5, "message.max.bytes": 64_000_000}
        producer = via or Producer(properties, logger=QUIET)
        keys = set()
        for number in itertools.islice(self._numbers, count):
            key, value = change(number, source, padding)
            producer.produce(self.names[source], value, key, partition=partition)
            producer.poll(0)
            keys.add(str(number))
        assert producer.flush(TIMEOUT) == 0
        if via is None:
            self.sent.setdefault(source, set()).update(keys)
        return keys

    def reset(self, source: str, offset: int | None) -> None:
        """As an operator does. -1: all partitions from the beginning; else partition 0 goes on there (None: where it
        stands) and the others where they stand.
        """
        topic = self.names[source]
        there = Cluster(self.settings({}, {}).kafka, [topic]).look().topics[topic]
        others = dict.fromkeys(there.partitions, -1 if offset == -1 else None)
        reset_positions(self.database.settings, topic, there.topic_id, others | {0: offset}, "a test", "somewhere")

    @contextmanager
    def running(
        self,
        *,
        source: Callable[..., KafkaSource] = KafkaSource,
        store: Callable[..., PostgresIngestStore] = PostgresIngestStore,
        kafka: Mapping[str, Any] | None = None,
        ingest: Mapping[str, Any] | None = None,
    ) -> Iterator[Running]:
        """A loop in a thread of its own; stopped and joined at the end. It must not have failed."""
        settings = self.settings(kafka or {}, ingest or {})
        metrics, health, stop = Metrics(), Health(stall_secs=30).loop("ingest"), threading.Event()
        consumer = source(settings.kafka, self.structure.by_topic())
        policy = DebouncePolicy(timedelta(0), timedelta(0))
        opened = store(self.database.settings, policy)
        loop = IngestLoop(settings, self.structure, opened, consumer, metrics, health, stop)
        failures: list[BaseException] = []

        def guarded() -> None:
            try:
                loop.run(["a"])
            except BaseException as error:  # noqa: BLE001 - told to the test
                failures.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        try:
            yield Running(loop, metrics, health, consumer, opened)
        finally:
            stop.set()
            thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert not failures

    def settings(self, kafka: Mapping[str, Any], ingest: Mapping[str, Any]) -> Settings:
        """The daemon's settings: production's defaults but for the times."""
        return Settings(
            mapping=Path("unused"),
            kafka=Kafka(
                **{
                    "bootstrap_servers": self.consumer_bootstrap or self.bootstrap,
                    "group_id": f"group-{self.names['orders']}",
                    "properties": {**QUICK, **self.properties},
                    "secret_properties": dict(self.secret_properties),
                    "topic_refresh_secs": 0.5,
                    **kafka,
                }
            ),
            postgres=self.database.settings,
            ingest=Ingest(**{"retry_initial_ms": 50, "retry_max_secs": 0.5, **ingest}),
            destinations={"a": Destination(client_id="c")},
        )


def rows(look: psycopg.Connection, source: str) -> set[str]:
    """The keys of a source's rows that are not deleted."""
    found = look.execute(
        "select r.key from source_row r join source s on s.id = r.source where s.name = %s and not r.deleted", [source]
    ).fetchall()
    return {key for (key,) in found}


def accounted(look: psycopg.Connection) -> int:
    """How many messages the durable counts tell: folded, stale, skipped and rejected together."""
    row = look.execute(
        "select coalesce(sum(folded + stale + skipped + rejected), 0)::int from kafka_position"
    ).fetchone()
    assert row is not None
    return int(row[0])


def positions(look: psycopg.Connection, topic: str) -> dict[int, int]:
    """Where each partition of a topic stands, over all its incarnations the newest."""
    found = look.execute(
        "select distinct on (o.partition) o.partition, p.next_offset from kafka_position p"
        " join origin o on o.id = p.origin where o.topic = %s order by o.partition, o.id desc",
        [topic],
    ).fetchall()
    return dict(found)


def halted(look: psycopg.Connection, topic: str) -> set[str]:
    """The durable reasons why partitions of a topic stand still."""
    found = look.execute(
        "select distinct p.halted from kafka_position p join origin o on o.id = p.origin"
        " where o.topic = %s and p.halted is not null",
        [topic],
    ).fetchall()
    return {why for (why,) in found}


def complete(look: psycopg.Connection, line: Line) -> bool:
    """Whether every row that was sent is there, and every message was counted once."""
    total = sum(len(keys) for keys in line.sent.values())
    return accounted(look) == total and all(rows(look, source) == keys for source, keys in line.sent.items())


def steps_back(look: psycopg.Connection) -> list[Any]:
    """Positions that moved back, ever."""
    return look.execute("select * from went_back").fetchall()
