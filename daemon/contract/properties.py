"""The properties of the Debezium connectors we want. Every name is one that Debezium 3.6 or Kafka Connect 4 knows.

What a person fills in stands as a reference to Connect's environment (`${env:NAME}`): a secret is never printed.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable

from daemon.contract.tables import Capture, Database, pattern
from daemon.mapping.structure import ConnectorModes

HEARTBEAT_MS = 10_000
HEARTBEAT_PREFIX = "order-sync-heartbeat"
LARGEST_MESSAGE = 20 * 1024 * 1024
RETENTION_MS = 14 * 86_400_000
PARTITIONS = 6
JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"

_MYSQL_SERVER_IDS = range(100_000, 1_000_000)
_ADAPTIVE_OF_MYSQL = "adaptive_time_microseconds"

TOPIC_SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": str(RETENTION_MS),
    "min.insync.replicas": "2",
    "max.message.bytes": str(LARGEST_MESSAGE),
}


def connector_name(capture: Capture) -> str:
    """The connector's name, also as a Kubernetes object."""
    return f"order-sync-{capture.slug.replace('_', '-').strip('-')}"


def slot_name(capture: Capture) -> str:
    """The name of replication slot and publication."""
    return f"order_sync_{capture.slug}"[:63]


def role_name(capture: Capture) -> str:
    """The connector's own role in the OMS's database."""
    return f"debezium_{capture.slug}"[:32]


def environment(capture: Capture, what: str) -> str:
    """A reference to what a person has to fill in."""
    return f"${{env:{capture.slug.upper()}_{what}}}"


def properties(capture: Capture, database: Database) -> dict[str, str]:
    """The connector's configuration, in the order in which people read it."""
    own = _postgres(capture) if database is Database.POSTGRES else _mysql(capture)
    return own | _captured(capture) | _values(capture, database) | _KAFKA


def _postgres(capture: Capture) -> dict[str, str]:
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": environment(capture, "DB_HOST"),
        "database.port": "5432",
        "database.user": environment(capture, "DB_USER"),
        "database.password": environment(capture, "DB_PASSWORD"),
        "database.dbname": environment(capture, "DB_NAME"),
        "topic.prefix": capture.prefix,
        "slot.name": slot_name(capture),
        "publication.name": slot_name(capture),
        "publication.autocreate.mode": "filtered",
        "heartbeat.interval.ms": str(HEARTBEAT_MS),
        # A message in the log moves the slot on while the captured tables are quiet and others are not; needs no table.
        "heartbeat.action.query": f"select pg_logical_emit_message(false, '{HEARTBEAT_PREFIX}', '')",
        "message.prefix.exclude.list": HEARTBEAT_PREFIX,
    }


def _mysql(capture: Capture) -> dict[str, str]:
    server_id = _MYSQL_SERVER_IDS[zlib.crc32(capture.prefix.encode()) % len(_MYSQL_SERVER_IDS)]
    return {
        "connector.class": "io.debezium.connector.mysql.MySqlConnector",
        "tasks.max": "1",
        "database.hostname": environment(capture, "DB_HOST"),
        "database.port": "3306",
        "database.user": environment(capture, "DB_USER"),
        "database.password": environment(capture, "DB_PASSWORD"),
        "database.server.id": str(server_id),
        "database.include.list": ",".join(dict.fromkeys(pattern(table.schema) for table in capture.tables)),
        "topic.prefix": capture.prefix,
        "schema.history.internal.kafka.bootstrap.servers": environment(capture, "KAFKA_BOOTSTRAP_SERVERS"),
        "schema.history.internal.kafka.topic": f"schema-history.{capture.prefix}",
        "include.schema.changes": "false",
        "bigint.unsigned.handling.mode": common_modes(capture).bigint_unsigned_handling_mode,
        "heartbeat.interval.ms": str(HEARTBEAT_MS),
    }


def _captured(capture: Capture) -> dict[str, str]:
    dropped = [
        f"{item.table.pattern()}.{pattern(column)}" for item in capture.captured for column in sorted(item.source.drop)
    ]
    return {
        "table.include.list": ",".join(table.pattern() for table in capture.tables),
        **({"column.exclude.list": ",".join(dropped)} if dropped else {}),
        "snapshot.mode": "initial",
        "signal.data.collection": capture.signal.text,
        "incremental.snapshot.watermarking.strategy": "insert_delete",
    }


def _values(capture: Capture, database: Database) -> dict[str, str]:
    modes = common_modes(capture)
    time = modes.time_precision_mode
    if database is Database.MYSQL and time == "adaptive":
        time = _ADAPTIVE_OF_MYSQL
    placeholder = modes.unavailable_value_placeholder
    of_postgres = {"interval.handling.mode": modes.interval_handling_mode}
    if placeholder != ConnectorModes().unavailable_value_placeholder:
        of_postgres["unavailable.value.placeholder"] = placeholder
    return {
        "decimal.handling.mode": "string",
        "time.precision.mode": time,
        "binary.handling.mode": modes.binary_handling_mode,
        **(of_postgres if database is Database.POSTGRES else {}),
        "tombstones.on.delete": "true",
        "skipped.operations": "none",
        "provide.transaction.metadata": "false",
    }


_KAFKA = {
    "key.converter": JSON_CONVERTER,
    "key.converter.schemas.enable": "false",
    "value.converter": JSON_CONVERTER,
    "value.converter.schemas.enable": "false",
    "errors.tolerance": "none",
    "producer.override.max.request.size": str(LARGEST_MESSAGE),
    "producer.override.compression.type": "lz4",
    "topic.creation.default.replication.factor": "3",
    "topic.creation.default.partitions": str(PARTITIONS),
    **{f"topic.creation.default.{name}": value for name, value in TOPIC_SETTINGS.items()},
    "topic.creation.groups": "heartbeat",
    "topic.creation.heartbeat.include": r"__debezium-heartbeat\..*",
    "topic.creation.heartbeat.replication.factor": "3",
    "topic.creation.heartbeat.partitions": "1",
    "topic.creation.heartbeat.retention.ms": str(86_400_000),
}


def common_modes(capture: Capture) -> ConnectorModes:
    """The modes that most sources of the connector declare: it has one of each for all tables."""
    declared = [item.source.modes for item in capture.captured]

    def most(values: Iterable[str]) -> str:
        return Counter(values).most_common(1)[0][0]

    return ConnectorModes(
        decimal_handling_mode=most(modes.decimal_handling_mode for modes in declared),
        time_precision_mode=most(modes.time_precision_mode for modes in declared),
        interval_handling_mode=most(modes.interval_handling_mode for modes in declared),
        binary_handling_mode=most(modes.binary_handling_mode for modes in declared),
        bigint_unsigned_handling_mode=most(modes.bigint_unsigned_handling_mode for modes in declared),
        unavailable_value_placeholder=most(modes.unavailable_value_placeholder for modes in declared),
    )


def to_declare(capture: Capture, database: Database) -> list[str]:
    """What the mapping's `debezium:` has to say once a connector runs with these properties, where it does not yet."""
    wanted = properties(capture, database)
    said = []
    for name in ConnectorModes.__dataclass_fields__:
        value = wanted.get(name.replace("_", "."))
        others = [item.source.name for item in capture.captured if getattr(item.source.modes, name) != value]
        if value is not None and others:
            said.append(
                f"debezium.{name} of {', '.join(others)} must be {value}: change both once ingest has read the topics "
                "to their end, since a message is read by what is declared then"
            )
    flat = [item.source.name for item in capture.captured if item.source.modes.unwrapped]
    if flat:
        said.append(f"debezium.unwrapped of {', '.join(flat)} must be false: this connector sends whole envelopes")
    if wanted["time.precision.mode"] == "connect":
        said.append("time.precision.mode=connect cuts times to milliseconds: adaptive keeps what the OMS has")
    return said
