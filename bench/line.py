"""A broker's topics with the workload in them, and two ways to fold them: the daemon's loop and a plain serial one."""

from __future__ import annotations

import dataclasses
import itertools
import random
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from fixtures.apache_kafka import POM as KAFKA
from fixtures.kafka_server import KafkaServer
from fixtures.maven import UnavailableError, jars, java
from workload import LINES, Named, envelope, order_rows, schemas, shared_rows, shop_mapping

from daemon.demo.stack import CLIENT_PROPERTIES, Broker
from daemon.ingest.fold import row_hash
from daemon.ingest.kafka import KafkaSource
from daemon.ingest.loop import IngestLoop
from daemon.mapping.structure import Role, Source, Structure
from daemon.operate.health import Health
from daemon.operate.metrics import Metrics
from daemon.settings import Destination, Kafka, Postgres, Settings
from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.schedule import DebouncePolicy

BATCH = 5000
PARTITIONS = 4
FIRST_LSN = 1_000_000
POLICY = DebouncePolicy(timedelta(seconds=60), timedelta(seconds=600))


@contextmanager
def strong_broker() -> Iterator[tuple[Broker | KafkaServer, str]]:
    """Apache Kafka where its jars and Java can be had, with its name; else the light broker, which is slow at giving
    out what came in many small batches.
    """
    try:
        libraries = jars(KAFKA)
        java()
    except UnavailableError:
        with Broker() as light:
            yield light, "the light broker"
    else:
        with KafkaServer(libraries) as kafka:
            yield kafka, "Apache Kafka"


class Topics:
    """Topics of their own at a broker, one for each source, with what was produced to them.

    `wrapped` keys and values carry their schemas.
    """

    def __init__(self, broker: Broker | KafkaServer, first_lsn: int = FIRST_LSN, *, wrapped: bool = False) -> None:
        structure = shop_mapping().structure
        self.suffix = uuid.uuid4().hex[:8]
        sources = {n: dataclasses.replace(s, topic=f"{s.topic}.{self.suffix}") for n, s in structure.sources.items()}
        self.structure: Structure = dataclasses.replace(structure, sources=sources)
        self.bootstrap = broker.bootstrap
        self.messages = 0
        self.ends: dict[tuple[str, int], str] = {}
        """The key of the last message by source and partition."""
        self._wrapped = wrapped
        self._schemas: dict[str, tuple[bytes, bytes]] = {}
        self._lsns = itertools.count(first_lsn, 64)
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "log_level": 2})
        for source in sources.values():
            broker.create_topic(source.topic, PARTITIONS)

    def send(self, rows: Iterable[Named], op: str = "c") -> None:
        """These rows as change events of now, in order, in the partition of their key. The broker may not have them
        yet.
        """
        for source, key, row in rows:
            self.messages += 1
            value = envelope(source, row, next(self._lsns), int(time.time() * 1000), op)
            declared = self.structure.sources[source]
            columns = declared.key or ("id",)
            identity = orjson.dumps({name: row[name] for name in columns})
            if self._wrapped:
                if source not in self._schemas:
                    self._schemas[source] = schemas(source, row, columns)
                pairs = zip(self._schemas[source], (identity, value), strict=True)
                identity, value = (b'{"schema":%b,"payload":%b}' % pair for pair in pairs)
            partition = sum(key.encode()) % PARTITIONS
            self.ends[source, partition] = key
            while True:
                try:
                    self._producer.produce(declared.topic, value, identity, partition=partition)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._producer.poll(0)

    def produce(self, rows: Iterable[Named], op: str = "c") -> None:
        """`send` them, and return once the broker has all."""
        self.send(rows, op)
        assert self._producer.flush(120) == 0


def backlog(orders: int) -> Iterator[Named]:
    """What a snapshot reads: all that is looked up, and all orders."""
    yield from shared_rows()
    for number in range(orders):
        yield from order_rows(number)


def live(orders: int, changes: int) -> Iterator[Named]:
    """Changes of orders that are there, always the same: half of them of a hundredth of the orders."""
    lots = random.Random(1)
    for number in range(changes):
        order = lots.randrange(max(1, orders // 100) if lots.random() < 0.5 else orders)
        rows = list(order_rows(order, status="shipped" if number % 2 else "paid"))
        source, key, row = rows[0] if number % 3 else rows[1 + number % LINES]
        yield source, key, row | ({"updated_at": f"2026-03-02T08:00:{number % 60:02}Z"} if number % 3 else {})


def settings_of(topics: Topics, postgres: Postgres, group: str | None = None) -> Settings:
    """The daemon's defaults, on these topics and this database."""
    return Settings(
        mapping=Path("unused"),
        kafka=Kafka(
            bootstrap_servers=topics.bootstrap, group_id=group or uuid.uuid4().hex, properties=CLIENT_PROPERTIES
        ),
        postgres=postgres,
        destinations={"a": Destination(client_id="c")},
    )


class Folding:
    """The daemon's ingest loop over topics, joined to its group and about to begin."""

    def __init__(self, settings: Settings, structure: Structure) -> None:
        self._store = PostgresIngestStore(settings.postgres, POLICY)
        self.source = KafkaSource(settings.kafka, structure.by_topic())
        health = Health(60).loop("ingest")
        self._loop = IngestLoop(settings, structure, self._store, self.source, Metrics(), health, threading.Event())
        self._store.open(structure, ["a"])
        self.source.subscribe()
        while not self.source.waiting:
            self.source.poll(0.1)

    def run(self) -> None:
        """Until all that was in the topics is committed."""
        while not self._loop.caught_up.is_set():
            self._loop.run_once()

    def close(self) -> None:
        """Leave."""
        self.source.close()
        self._store.close()


class SerialLoop:
    """Reads with orjson, copies 5,000 rows into a temporary table and upserts them into a table with the same columns
    and indexes. It keeps no positions, finds no roots, marks no orders and knows nothing of staleness.
    """

    def __init__(self, topics: Topics, connection: psycopg.Connection[Any]) -> None:
        self._by_topic = topics.structure.by_topic()
        self._connection = connection
        self._numbers = {name: number for number, name in enumerate(sorted(topics.structure.sources), 1)}
        self._consumer = Consumer(
            {"bootstrap.servers": topics.bootstrap, "group.id": uuid.uuid4().hex, "enable.partition.eof": True}
        )
        connection.execute(
            "insert into source (id, name) overriding system value"
            " select * from unnest(%s::int[], %s::text[]) on conflict do nothing",
            [list(self._numbers.values()), list(self._numbers)],
        )

    def run(self) -> None:
        """From the beginning to the end of all partitions."""
        partitions = [TopicPartition(t, n, OFFSET_BEGINNING) for t in self._by_topic for n in range(PARTITIONS)]
        columns = 'source, key, root, parent, refs, lineage, origin, "offset", position, committed, first_seen, columns'
        ended = 0
        with closing(self._consumer):
            self._consumer.assign(partitions)
            while ended < len(partitions):
                rows = {}
                while len(rows) < BATCH and ended < len(partitions):
                    for message in self._consumer.consume(1000, 0.1):
                        if message.error() is not None:
                            ended += message.error().code() == KafkaError._PARTITION_EOF
                            continue
                        row = self._row(message)
                        rows[row[0], row[1]] = row
                with self._connection.transaction():
                    self._connection.execute(
                        "create temp table stage (like source_row including defaults) on commit drop"
                    )
                    with self._connection.cursor().copy(f"copy stage ({columns}) from stdin") as copy:
                        for row in rows.values():
                            copy.write_row(row)
                    self._connection.execute(
                        f"insert into source_row ({columns}) select {columns} from stage"
                        " on conflict (source, key) do update"
                        ' set columns = excluded.columns, root = excluded.root, "offset" = excluded."offset",'
                        " position = excluded.position, committed = excluded.committed, refs = excluded.refs"
                    )

    def _row(self, message: Any) -> tuple[Any, ...]:
        source: Source = self._by_topic[message.topic()]
        event = orjson.loads(message.value())
        row, origin = event["after"], event["source"]
        assert source.key is not None
        key = str(row[source.key[0]])
        root = key if source.role is Role.ROOT else row.get("order_id")
        parent = str(row["refund_id"]) if source.name == "refund_lines" else None
        refs = [row_hash(link.target, str(row[link.columns[0]])) for link in source.refs] or None
        at, stamp = origin["lsn"], origin["ts_ms"]
        text = orjson.dumps(row).decode()
        return self._numbers[source.name], key, root, parent, refs, 1, 1, message.offset(), [at], stamp, stamp, text
