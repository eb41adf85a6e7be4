"""One recording: the rig is started, the shop opens, everything that the connector sent is written down."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from fixtures.apache_kafka import POM as KAFKA
from fixtures.kafka_server import KafkaServer
from fixtures.maven import jars
from recorder.compaction import is_compacted, unknowns
from recorder.messages import Line, drain, schema_ids, write_json, write_messages
from recorder.mysql_server import MariaServer, MySqlServer
from recorder.mysql_shop import MySqlShop
from recorder.oms import BinlogOms, PostgresOms
from recorder.postgres_shop import PostgresShop
from recorder.recordings import Recording
from recorder.registry import Registry

from daemon.demo.connect import artifact, wheel_jars
from daemon.demo.process import wait_until
from daemon.demo.stack import Broker, Connect, PostgresServer

MARIADB_CONNECTOR = Path(__file__).with_name("mariadb_connector_pom.xml")
AVRO_ARTIFACTS = {
    "avro",
    "common-utils",
    "kafka-avro-serializer",
    "kafka-connect-avro-converter",
    "kafka-connect-avro-data",
    "kafka-schema-registry-client",
    "kafka-schema-serializer",
}
MYSQL_ARTIFACTS = {
    "debezium-connector-binlog",
    "debezium-connector-mysql",
    "debezium-ddl-parser",
    "debezium-storage-file",
    "mysql-binlog-connector-java",
    "mysql-connector-j",
}
LOCAL = ("name", "database.", "slot.name", "publication.name", "schema.history.", "topic.creation.", "poll.")
COMPACTION_SECS = 120.0
COMPACTIONS = 2  # the second one removes the tombstones that the first one saw, where they are not kept


def record(recording: Recording, into: Path, *, note: Callable[[str], None] = lambda _: None) -> Counter[str]:
    """Record into a directory: `<name>.jsonl.xz`, `<name>.expected.json.xz`. Returns the messages by topic.

    Raises RigError where a part of the rig cannot be started or does not do its work in time, UnavailableError where
    one cannot be fetched.
    """
    with ExitStack() as parts:
        directory = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="order-sync-recorder-")))
        note("starting the rig")
        shop = _shop(recording, directory, parts)
        broker = _broker(recording, directory, parts)
        connect = parts.enter_context(Connect(directory / "connect", broker.bootstrap, libraries=_libraries(recording)))
        properties = {**shop.connector(), **recording.properties}
        registry = parts.enter_context(Registry(directory / "registry")) if recording.avro else None
        if registry is not None:
            properties |= {f"{role}.converter.schema.registry.url": registry.url for role in ("key", "value")}
        shop.fill()
        connect.start_connector(properties)
        note("waiting for the snapshot")
        shop.await_connector(connect)
        shop.live()
        note("waiting for the changes")
        shop.await_connector(connect)
        if isinstance(broker, KafkaServer) and isinstance(shop, PostgresShop):
            for _ in range(COMPACTIONS):
                shop.touch()
                shop.await_connector(connect)
                note("waiting for the compaction")
                _await_compaction(recording, broker)
        lines = drain(broker.bootstrap, leave_out=shop.leave_out)
        tables = shop.truth()
        orders = shop.orders() if isinstance(shop, PostgresOms | BinlogOms) else None
        schemas = {identity: registry.schema(identity) for identity in schema_ids(lines)} if registry else None
    return _write(recording, into, properties, lines, tables, schemas, orders)


def _write(
    recording: Recording,
    into: Path,
    properties: dict[str, str],
    lines: list[Line],
    tables: dict[str, Any],
    schemas: dict[int, str] | None,
    orders: list[dict[str, Any]] | None,
) -> Counter[str]:
    counts = Counter(line[0] for line in lines)
    kept = {
        name: value
        for name, value in sorted(properties.items())
        if not name.startswith(LOCAL) and not name.endswith(".registry.url")
    }
    truth: dict[str, Any] = {"connector": kept, "topics": counts, "tables": tables}
    if orders is not None:
        truth["orders"] = orders
    if recording.compacted is not None:
        truth["unknown"] = unknowns(lines, tables)
    write_messages(into / f"{recording.name}.jsonl.xz", lines)
    write_json(into / f"{recording.name}.expected.json.xz", truth)
    if schemas is not None:
        write_json(into / f"{recording.name}.schemas.json.xz", {str(key): text for key, text in schemas.items()})
    return counts


def _shop(
    recording: Recording, directory: Path, parts: ExitStack
) -> PostgresShop | MySqlShop | PostgresOms | BinlogOms:
    oms = recording.oms
    if recording.database != "postgres":
        server_class = MariaServer if recording.database == "mariadb" else MySqlServer
        if oms is not None:
            return BinlogOms(parts.enter_context(server_class(oms.name)), oms)
        return MySqlShop(parts.enter_context(server_class()))
    server = parts.enter_context(PostgresServer(directory / "postgres", logical=True))
    if oms is not None:
        return parts.enter_context(closing(PostgresOms(server, oms)))
    return parts.enter_context(closing(PostgresShop(server, full_identity=recording.full_identity)))


def _broker(recording: Recording, directory: Path, parts: ExitStack) -> Broker | KafkaServer:
    if recording.compacted is None:
        return parts.enter_context(Broker(directory / "broker"))
    kafka = parts.enter_context(KafkaServer(jars(KAFKA), directory / "kafka"))
    for table, settings in recording.compacted.items():
        kafka.create_topic(f"oms.public.{table}", 3, settings)
    return kafka


def _libraries(recording: Recording) -> list[Path]:
    if recording.database == "mariadb":
        return sorted(jars(MARIADB_CONNECTOR).glob("*.jar"))
    wanted = AVRO_ARTIFACTS if recording.avro else MYSQL_ARTIFACTS if recording.database == "mysql" else ()
    return [jar for jar in wheel_jars() if artifact(jar) in wanted]


def _await_compaction(recording: Recording, kafka: KafkaServer) -> None:
    topics = [f"oms.public.{table}" for table in recording.compacted or ()]
    logs = kafka.directory / "data"
    wait_until(lambda: is_compacted(logs, topics), "Kafka's compaction", timeout=COMPACTION_SECS, interval=0.2)
