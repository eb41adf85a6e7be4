"""Debezium's JDBC sink, the second peer: the rows of each source upserted into a table by their primary key.

It runs as its users run it, in Kafka Connect's standalone worker, and needs schemas in every message and Apache Kafka
itself: its client stalls on the light broker. All of it comes from Maven coordinates. Its clock runs from when its task
has been given all partitions until the last row of each partition is there: Java's start is left out, as joining is
left out of ours.
"""

from __future__ import annotations

import tempfile
import uuid
from functools import partial
from pathlib import Path
from time import perf_counter

from confluent_kafka import ConsumerGroupState
from fixtures.apache_kafka import POM as KAFKA
from fixtures.kafka_server import KafkaServer
from fixtures.maven import UnavailableError, jars, java
from line import BATCH, Topics, backlog
from peers import LIMIT_SECS, address, beside
from rig import HERE, Figure, Size, at_least, looking

from daemon.demo.connect import JSON_CONVERTER
from daemon.demo.process import Child, RigError, wait_until
from daemon.demo.stack import PostgresServer
from daemon.settings import Postgres

NAME = "Debezium's JDBC sink"
POM = HERE / "jdbc_sink_pom.xml"
TIMES = 2
START_SECS = 120
LOOK_SECS = 0.05
TABLES = "select count(*) from pg_tables where schemaname = 'public'"


def measure(size: Size) -> list[Figure]:
    """A snapshot with schemas, folded by the daemon's ingest and by the sink in turn."""
    try:
        libraries, kafka_libraries = jars(POM), jars(KAFKA)
        java()
    except UnavailableError as error:
        raise RigError(f"{NAME} from Maven: {error}") from None
    with PostgresServer(durable=True) as server, KafkaServer(kafka_libraries) as kafka:
        topics = Topics(kafka, wrapped=True)
        topics.produce(backlog(size.orders // 2))
        figure = beside(NAME, size.rounds, server, topics, partial(_sink, libraries, kafka, topics))
    [version] = (jar.stem.rpartition("jdbc-")[2] for jar in libraries.glob("debezium-connector-jdbc-*.jar"))
    figure.note = (
        f"{topics.messages} messages with schemas, which the sink needs and both read, from Apache Kafka; "
        f"{version} with one task, {BATCH:,} rows to a batch by UNNEST, timed from its assignment on, Java not yet warm"
    )
    return [at_least(figure, TIMES)]


def _sink(libraries: Path, kafka: KafkaServer, topics: Topics, postgres: Postgres) -> float:
    """Seconds."""
    name = f"sink-{uuid.uuid4().hex[:8]}"
    database = address(postgres)
    worker = {
        "bootstrap.servers": topics.bootstrap,
        "key.converter": JSON_CONVERTER,
        "value.converter": JSON_CONVERTER,
        "offset.storage.file.filename": "offsets",
        "plugin.discovery": "service_load",
        "listeners": "http://127.0.0.1:0",
        "consumer.max.poll.records": BATCH,
    }
    sink = {
        "name": name,
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": 1,
        "topics": ",".join(topics.structure.by_topic()),
        "connection.url": f"jdbc:postgresql://{database['host']}:{database['port']}/{database['dbname']}",
        "connection.username": database["user"],
        "connection.password": database["password"],
        "insert.mode": "upsert",
        "primary.key.mode": "record_key",
        "delete.enabled": "false",
        "schema.evolution": "basic",
        "collection.name.format": "${source.table}",
        "batch.size": BATCH,
        "dialect.postgres.unnest.insert.enabled": "true",  # off by default; the fastest of what it offers
    }
    with tempfile.TemporaryDirectory(prefix="order-sync-sink-") as directory, looking(postgres) as look:
        home = Path(directory)
        for file, properties in {"worker": worker, "sink": sink}.items():
            (home / file).write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        options = ["-Xmx1g", "-Dlog4j2.level=WARN", "-cp", f"{libraries}/*"]
        command = [java(), *options, "org.apache.kafka.connect.cli.ConnectStandalone", "worker", "sink"]
        child = Child(NAME, command, log=home / "log", directory=home)

        def assigned() -> bool:
            group = f"connect-{name}"
            found = kafka.admin.describe_consumer_groups([group])[group].result()
            return _runs(child) and found.state == ConsumerGroupState.STABLE

        def counts(statement: str, count: int) -> bool:
            row = look.execute(statement).fetchone()
            return _runs(child) and row is not None and row[0] == count

        last_rows = _last_rows(topics)
        try:
            wait_until(assigned, f"{NAME}: assignment", timeout=START_SECS, interval=LOOK_SECS)
            began = perf_counter()
            wait_until(lambda: counts(TABLES, len(topics.structure.sources)), f"{NAME}: tables", timeout=START_SECS)
            wait_until(
                lambda: counts(last_rows, len(topics.ends)), f"{NAME}: rows", timeout=LIMIT_SECS, interval=LOOK_SECS
            )
            return perf_counter() - began
        finally:
            child.end()


def _runs(child: Child) -> bool:
    """Raises RigError where it does not: the worker outlives a task that failed."""
    if child.returncode is not None or " ERROR " in child.log.read_text(encoding="utf-8"):
        raise child.failure("does not run")
    return True


def _last_rows(topics: Topics) -> str:
    """How many of the last rows of all partitions are there; looks each up by its key, which costs next to nothing."""
    keys: dict[str, list[str]] = {}
    for (source, _), key in topics.ends.items():
        keys.setdefault(source, []).append(f"'{key}'")
    columns = {name: (source.key or ("id",))[0] for name, source in topics.structure.sources.items()}
    counts = (f"(select count(*) from public.{s} where {columns[s]} in ({', '.join(of)}))" for s, of in keys.items())
    return f"select {' + '.join(counts)}"
