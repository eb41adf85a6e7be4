"""Messages a second from broker to committed state, beside a plain serial loop that writes the same columns.

Both read the same topics of the same broker into the same Postgres (durable settings), in one process, in turn. The
serial loop decodes with orjson, copies 5,000 rows into a temporary table and upserts them into a table with the same
columns and indexes; it keeps no positions, finds no roots, marks no orders, knows nothing of staleness. The ratio is
what the bookkeeping costs; absolute figures are those of this machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from daemon.demo.stack import Broker, PostgresServer
from daemon.ingest.fold import row_hash
from daemon.ingest.kafka import KafkaSource
from daemon.ingest.loop import IngestLoop
from daemon.mapping.loader import load_mapping
from daemon.mapping.structure import Role, Structure
from daemon.operate.health import Health
from daemon.operate.logs import configure_logs
from daemon.operate.metrics import Metrics
from daemon.settings import Destination, Kafka, Postgres, Settings
from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.migrate import migrate
from daemon.state.schedule import DebouncePolicy

BATCH = 5000
LINES = 3


def workload(orders: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(source, key, row) of new orders with their lines, a discount for every fourth and a refund for every tenth."""
    for n in range(orders):
        order = str(uuid.UUID(int=n))
        yield (
            "orders",
            order,
            {
                "id": order,
                "number": f"D-{n}",
                "status": "paid",
                "channel": "web",
                "customer_id": str(uuid.UUID(int=n % 5000)),
                "guest_email": None,
                "guest_phone": None,
                "shipping_address_id": n % 9000,
                "currency": "EUR",
                "discount": "0.00",
                "shipping": "4.90",
                "tax": "19.37",
                "total": "126.21",
                "is_renewal": False,
                "ip": "10.0.0.1",
                "details": '{"tags": ["gift"], "note": "please ring the bell"}',
                "placed_at": "2026-03-01T08:14:59.274427Z",
                "paid_at": "2026-03-01T08:15:09.274427Z",
                "shipped_at": None,
                "cancelled_at": None,
                "updated_at": "2026-03-01T08:15:09.274427Z",
            },
        )
        for line in range(LINES):
            number = n * LINES + line
            row = {"id": number, "order_id": order, "position": line, "sku": f"SKU-{number % 300}", "quantity": 1}
            yield "order_lines", str(number), row | {"unit_price": "33.98", "discount": "0.00"}
        if n % 4 == 0:
            yield "order_discounts", str(n), {"id": n, "order_id": order, "code": "SPRING", "amount": "5.00"}
        if n % 10 == 0:
            refund = {"id": n, "order_id": order, "status": "done", "reason": "damaged", "amount": "33.98"}
            yield "refunds", str(n), refund | {"done_at": "2026-03-02T08:14:59.274427Z"}
            line = {"id": n, "refund_id": n, "order_line_id": n * LINES, "quantity": 1, "amount": "33.98"}
            yield "refund_lines", str(n), line


def envelope(source: str, row: dict[str, Any], lsn: int, now_ms: int) -> bytes:
    """A change event as Debezium's PostgreSQL connector writes it, JSON without schemas."""
    origin = {
        "version": "3.6.3.Final",
        "connector": "postgresql",
        "name": "oms",
        "ts_ms": now_ms,
        "snapshot": "false",
        "db": "oms",
        "sequence": f'["{lsn}","{lsn}"]',
        "ts_us": now_ms * 1000,
        "ts_ns": now_ms * 1000000,
        "schema": "public",
        "table": source,
        "txId": lsn // 100,
        "lsn": lsn,
        "xmin": None,
        "origin": None,
        "origin_lsn": None,
    }
    event = {"before": None, "after": row, "source": origin, "transaction": None, "op": "c"}
    return orjson.dumps(event | {"ts_ms": now_ms, "ts_us": now_ms * 1000, "ts_ns": now_ms * 1000000})


def produce(bootstrap: str, structure: Structure, orders: int) -> int:
    """Fill the topics; how many messages."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 1_000_000})
    now_ms, count = int(time.time() * 1000), 0
    for source, key, row in workload(orders):
        count += 1
        value = envelope(source, row, 1_000_000 + 64 * count, now_ms)
        identity = orjson.dumps({"id": row["id"]})
        producer.produce(structure.sources[source].topic, value, identity, partition=hash(key) % 3)
        if count % 10_000 == 0:
            producer.poll(0)
    producer.flush(120)
    return count


def fold(bootstrap: str, postgres: Postgres, structure: Structure) -> float:
    """Seconds from the first assigned partition until all is committed, by the daemon's own ingest loop."""
    kafka = Kafka(bootstrap_servers=bootstrap, group_id=uuid.uuid4().hex, properties={"session.timeout.ms": 6000})
    settings = Settings(
        mapping=Path("unused"), kafka=kafka, postgres=postgres, destinations={"a": Destination(client_id="c")}
    )
    store = PostgresIngestStore(postgres, DebouncePolicy(timedelta(seconds=60), timedelta(seconds=600)))
    source = KafkaSource(kafka, structure.by_topic())
    health = Health(60).loop("ingest")
    loop = IngestLoop(settings, structure, store, source, Metrics(), health, threading.Event())
    store.open(structure, ["a"])
    source.subscribe()
    while not source.waiting:
        source.poll(0.1)
    started = time.perf_counter()
    while not loop.caught_up.is_set():
        loop.run_once()
    elapsed = time.perf_counter() - started
    source.close()
    store.close()
    return elapsed


def serial(bootstrap: str, server: PostgresServer, database: str, structure: Structure) -> float:
    """Seconds that the plain loop takes for the same topics."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "enable.partition.eof": True})
    by_topic = structure.by_topic()
    partitions = [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in by_topic for number in range(3)]
    columns = 'source, key, root, parent, refs, lineage, origin, "offset", position, committed, first_seen, columns'
    numbers = {name: number for number, name in enumerate(sorted(structure.sources), 1)}
    with closing(server.connect(database)) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute(
            "insert into source (id, name) overriding system value select * from unnest(%s::int[], %s::text[])",
            [list(numbers.values()), list(numbers)],
        )
        started, ended = time.perf_counter(), 0
        consumer.assign(partitions)
        while ended < len(partitions):
            rows = []
            while len(rows) < BATCH and ended < len(partitions):
                for message in consumer.consume(1000, 0.1):
                    if message.error() is not None:
                        ended += message.error().code() == KafkaError._PARTITION_EOF
                        continue
                    rows.append(_plain_row(message, by_topic, numbers))
            with connection.transaction():
                connection.execute("create temp table stage (like source_row including defaults) on commit drop")
                with connection.cursor().copy(f"copy stage ({columns}) from stdin") as copy:
                    for row in rows:
                        copy.write_row(row)
                connection.execute(
                    f"insert into source_row ({columns}) select {columns} from stage"
                    " on conflict (source, key) do update"
                    ' set columns = excluded.columns, root = excluded.root, "offset" = excluded."offset",'
                    " position = excluded.position, committed = excluded.committed, refs = excluded.refs"
                )
        elapsed = time.perf_counter() - started
    consumer.close()
    return elapsed


def _plain_row(message: Any, by_topic: dict[str, Any], numbers: dict[str, int]) -> tuple[Any, ...]:
    source = by_topic[message.topic()]
    event = orjson.loads(message.value())
    row, origin = event["after"], event["source"]
    key = str(row[source.key[0]])
    root = key if source.role is Role.ROOT else row.get("order_id")
    parent = None if source.role is Role.ROOT or root else str(row["refund_id"])
    refs = [row_hash(link.target, str(row[link.columns[0]])) for link in source.refs] or None
    at, stamp = origin["lsn"], origin["ts_ms"]
    text = orjson.dumps(row).decode()
    return numbers[source.name], key, root, parent, refs, 1, 1, message.offset(), [at], stamp, stamp, text


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--orders", type=int, default=40_000)
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    configure_logs("console", "warning")
    structure = load_mapping(Path(str(files("daemon.demo").joinpath("shop/mapping.yaml")))).structure
    console = Console()
    times: dict[str, list[float]] = {"order-sync": [], "serial loop": []}
    with PostgresServer(durable=True) as server, Broker() as broker:
        suffix = uuid.uuid4().hex[:8]
        sources = {n: dataclasses.replace(s, topic=f"{s.topic}.{suffix}") for n, s in structure.sources.items()}
        structure = dataclasses.replace(structure, sources=sources)
        for source in structure.sources.values():
            broker.create_topic(source.topic, 3)
        count = produce(broker.bootstrap, structure, chosen.orders)
        for number in range(chosen.rounds):
            for name in times:
                database = f"bench_{number}_{name.split('-')[0].split()[0]}"
                server.create_database(database)
                postgres = Postgres(dsn=server.dsn(database))
                migrate(postgres)
                if name == "order-sync":
                    with closing(server.connect(database)) as connection:
                        connection.execute(
                            "insert into order_sync.destination (name, base_url, client_id) values ('a', 'x', 'c')"
                        )
                    elapsed = fold(broker.bootstrap, postgres, structure)
                else:
                    elapsed = serial(broker.bootstrap, server, database, structure)
                server.drop_database(database)
                times[name].append(elapsed)
    table = Table(
        "", "messages/s (median)", "of the serial loop", title=f"fold: {count} messages, {chosen.rounds} rounds"
    )
    base = statistics.median(times["serial loop"])
    for name, values in times.items():
        median = statistics.median(values)
        table.add_row(name, f"{count / median:,.0f}", f"{base / median:.0%}")
    console.print(table)


if __name__ == "__main__":
    main()
