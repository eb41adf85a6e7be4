"""What is asked of connector, database and Kafka follows from the mapping alone."""

from __future__ import annotations

import dataclasses
import json
import shlex
from types import MappingProxyType
from typing import Any

import pytest

from daemon.contract.kafka import acl_part, topic_part
from daemon.contract.mysql import parts as mysql_parts
from daemon.contract.postgres import parts as postgres_parts
from daemon.contract.properties import connector_name, properties, slot_name, to_declare
from daemon.contract.signal import key_columns, signal_for, snapshot_signal
from daemon.contract.state import state_part
from daemon.contract.tables import Capture, Database, Table, captures, table_of, unnamed
from daemon.mapping.structure import ConnectorModes, Role, Source, Structure

STRING = ConnectorModes(decimal_handling_mode="string")


def structure(**changes: dict[str, Any]) -> Structure:
    """Orders and lines of connector `oms`, as Debezium names their topics, changed by source."""
    sources = {
        "orders": Source("orders", "oms.public.orders", Role.ROOT, key=("id",), modes=STRING),
        "lines": Source("lines", "oms.public.order_lines", Role.SHARED, key=("id",), modes=STRING),
    }
    for name, change in changes.items():
        sources[name] = dataclasses.replace(sources[name], **change)
    return Structure("orders", MappingProxyType(sources), "v")


def capture(**changes: dict[str, Any]) -> Capture:
    """What the one connector of those captures."""
    [found] = captures(structure(**changes))
    return found


def signalled(statement: str) -> dict[str, Any]:
    """The data of a signal, as PostgreSQL would read the statement's last literal."""
    text = statement[statement.index("'{") + 1 : statement.rindex("'")]
    found: dict[str, Any] = json.loads(text.replace("''", "'"))
    return found


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        ("oms.public.orders", ("oms", Table("public", "orders"))),
        ("eu.shop-1.sales.Orders", ("eu.shop-1", Table("sales", "Orders"))),
        ("shop.orders", None),
        ("orders", None),
        ("oms..orders", None),
    ],
)
def test_a_topic_tells_its_table(topic: str, told: tuple[str, Table] | None) -> None:
    """Prefix, schema and table by the last two dots; a name without them tells nothing."""
    assert table_of(topic) == told


def test_each_prefix_is_a_connector() -> None:
    """Topics of two prefixes are captured by two connectors; one without schema and table by none."""
    two = structure(lines={"topic": "crm.public.lines"})
    assert [(found.prefix, found.tables) for found in captures(two)] == [
        ("oms", (Table("public", "orders"),)),
        ("crm", (Table("public", "lines"),)),
    ]
    assert [source.name for source in unnamed(structure(lines={"topic": "shop.lines"}))] == ["lines"]


def test_the_postgres_connector_captures_the_mapped_tables_alone() -> None:
    """Tables from topics, dropped columns left out, exact decimals, heartbeats, tombstones, a signal table, no keys."""
    wanted = properties(capture(lines={"drop": frozenset({"note", "cost"})}), Database.POSTGRES)
    assert wanted["table.include.list"] == "public.orders,public.order_lines"
    assert wanted["column.exclude.list"] == "public.order_lines.cost,public.order_lines.note"
    assert wanted["signal.data.collection"] == "public.debezium_signal"
    assert wanted["slot.name"] == wanted["publication.name"] == "order_sync_oms"
    assert wanted["publication.autocreate.mode"] == "filtered"
    assert wanted["decimal.handling.mode"] == "string"
    assert wanted["tombstones.on.delete"] == "true"
    assert wanted["skipped.operations"] == "none", "a truncate that is skipped is never alarmed"
    assert int(wanted["heartbeat.interval.ms"]) > 0
    assert "message.key.columns" not in wanted
    assert wanted["value.converter.schemas.enable"] == wanted["key.converter.schemas.enable"] == "false"
    assert "column.exclude.list" not in properties(capture(), Database.POSTGRES)


def test_the_mysql_connector_has_a_history_and_a_number() -> None:
    """A schema history topic, a server id that stays, and no property of the other database."""
    shop = capture(orders={"topic": "oms.shop.orders"}, lines={"topic": "oms.shop.order_lines"})
    wanted = properties(shop, Database.MYSQL)
    assert wanted["database.include.list"] == "shop"
    assert wanted["table.include.list"] == "shop.orders,shop.order_lines"
    assert wanted["schema.history.internal.kafka.topic"] == "schema-history.oms"
    assert 0 < int(wanted["database.server.id"]) < 2**32
    assert wanted["database.server.id"] == properties(shop, Database.MYSQL)["database.server.id"]
    assert wanted["include.schema.changes"] == "false"
    assert wanted["time.precision.mode"] == "adaptive_time_microseconds", "MySQL's connector has no `adaptive`"
    assert not {"slot.name", "plugin.name", "interval.handling.mode"} & wanted.keys()


@pytest.mark.parametrize("database", list(Database))
def test_no_secret_and_no_place_is_printed(database: Database) -> None:
    """Host, user and password are references to Connect's environment, named after the connector."""
    wanted = properties(capture(), database)
    for name in ("database.hostname", "database.user", "database.password"):
        assert wanted[name].startswith("${env:OMS_DB_"), name


def test_modes_that_the_mapping_declares_are_the_connectors() -> None:
    """Times, intervals and bytes as declared; a placeholder that is not the usual one too."""
    modes = dataclasses.replace(
        STRING,
        time_precision_mode="microseconds",
        interval_handling_mode="string",
        binary_handling_mode="hex",
        unavailable_value_placeholder="?",
    )
    shop = capture(orders={"modes": modes}, lines={"modes": modes})
    wanted = properties(shop, Database.POSTGRES)
    assert wanted["time.precision.mode"] == "microseconds"
    assert wanted["interval.handling.mode"] == "string"
    assert wanted["binary.handling.mode"] == "hex"
    assert wanted["unavailable.value.placeholder"] == "?"
    assert to_declare(shop, Database.POSTGRES) == []


def test_a_mapping_that_declares_otherwise_is_told() -> None:
    """Precise decimals, flattened rows and sources that disagree do not fit this connector: it has one mode for all."""
    [precise] = to_declare(capture(lines={"modes": ConnectorModes()}), Database.POSTGRES)
    assert precise.startswith("debezium.decimal_handling_mode of lines must be string")
    [flat] = to_declare(capture(orders={"modes": dataclasses.replace(STRING, unwrapped=True)}), Database.POSTGRES)
    assert flat.startswith("debezium.unwrapped of orders must be false")
    millis = dataclasses.replace(STRING, time_precision_mode="connect")
    [cut] = to_declare(capture(orders={"modes": millis}, lines={"modes": millis}), Database.POSTGRES)
    assert "milliseconds" in cut
    assert any("adaptive_time_microseconds" in said for said in to_declare(capture(), Database.MYSQL))


def test_names_fit_where_they_are_used() -> None:
    """A slot takes lower case and underscores, a Kubernetes object lower case and dashes."""
    [odd] = captures(structure(orders={"topic": "EU.Shop-1.s.orders"}, lines={"topic": "EU.Shop-1.s.lines"}))
    assert slot_name(odd) == "order_sync_eu_shop_1"
    assert connector_name(odd) == "order-sync-eu-shop-1"


def test_names_of_tables_are_patterns_and_quoted() -> None:
    """The connector's lists are regular expressions, SQL wants quotes: neither may match or name another table."""
    odd = Table("Sales", 'or"der$')
    assert odd.pattern() == r"Sales.or\"der\$"
    assert odd.sql(Database.POSTGRES) == '"Sales"."or""der$"'
    assert odd.sql(Database.MYSQL) == '`Sales`.`or"der$`'
    assert Table("public", "orders").sql(Database.POSTGRES) == "public.orders"


def test_a_signal_names_a_whole_table_or_some_rows() -> None:
    """Without keys all rows; with keys a filter over the key columns, as SQL within JSON within SQL."""
    table = Table("public", "orders")
    assert signalled(snapshot_signal(table, None)) == {"type": "incremental", "data-collections": ["public.orders"]}
    some = signalled(snapshot_signal(table, [{"id": "7"}, {"id": "o'8"}]))
    [condition] = some["additional-conditions"]
    assert condition == {"data-collection": "public.orders", "filter": """"id" = '7' or "id" = 'o''8'"""}
    [pair] = signalled(snapshot_signal(table, [{"a": "1", "b": "2"}]))["additional-conditions"]
    assert pair["filter"] == """("a" = '1' and "b" = '2')"""


def test_a_signal_for_mysql_escapes_backslashes() -> None:
    """MySQL reads a backslash in a literal: each one is doubled at every level, and names stand in backticks."""
    statement = snapshot_signal(Table("shop", "orders"), [{"id": "a\\b"}], database=Database.MYSQL)
    text = statement[statement.index("'{") + 1 : statement.rindex("'")].replace("''", "'").replace("\\\\", "\\")
    [condition] = json.loads(text)["additional-conditions"]
    assert condition["filter"] == "`id` = 'a\\\\b'"
    assert "values (uuid(), " in statement


def test_keys_that_the_database_cannot_be_asked_by() -> None:
    """A composite key is taken apart; a key unknown, or whose text is not the OMS's, names the whole table."""
    lines = structure().sources["lines"]
    two = dataclasses.replace(lines, key=("order_id", "position"))
    assert key_columns(lines, "7") == {"id": "7"}
    assert key_columns(two, '["7","1"]') == {"order_id": "7", "position": "1"}
    assert key_columns(two, "7") is None
    assert key_columns(dataclasses.replace(lines, key=None), "7") is None
    raw = dataclasses.replace(lines, types=MappingProxyType({"id": "bytea"}))
    table = Table("public", "order_lines")
    assert signal_for(raw, table, ["AAE="]) == snapshot_signal(table, None)
    assert signal_for(two, table, ['["7","1"]', "odd"]) == snapshot_signal(table, None)
    assert signal_for(lines, table, ["7"]) == snapshot_signal(table, [{"id": "7"}])


@pytest.mark.parametrize(("database", "parts"), [(Database.POSTGRES, postgres_parts), (Database.MYSQL, mysql_parts)])
def test_every_part_has_a_reason_and_sql_ends(database: Database, parts: Any) -> None:
    """One reason each; statements to paste end with a semicolon; nothing grants more than it names."""
    for part in (
        *parts(capture()),
        topic_part(capture(), database, "b:1"),
        state_part(database="d", role="r", schema="s"),
    ):
        assert part.reason.endswith(".")
        assert "\n" not in part.reason
        if part.language == "sql":
            assert all(item.endswith(";") for item in part.items), part.name
            assert not any("superuser" in item or "all privileges" in item for item in part.items)


def test_the_connectors_role_owns_nothing_and_writes_its_marks_alone() -> None:
    """Select on the mapped tables; insert and delete on the signal table; that is in the publication too."""
    parts = {part.name: " ".join(part.items) for part in postgres_parts(capture())}
    assert "grant select on public.orders, public.order_lines to debezium_oms;" in parts["role"]
    assert "grant select, insert, delete on public.debezium_signal to debezium_oms;" in parts["signal"]
    assert parts["publication"] == (
        "create publication order_sync_oms for table public.orders, public.order_lines, public.debezium_signal;"
    )


def test_sources_without_a_declared_key_need_no_identity() -> None:
    """Their rows have the message key, which is the primary key."""
    parts = {part.name: part for part in postgres_parts(capture(orders={"key": None}, lines={"key": None}))}
    assert parts["replica_identity"].items == ()


def test_acls_name_topics_heartbeats_and_the_group() -> None:
    """Read, Describe and DescribeConfigs on each topic, Read on the group, nothing on the cluster."""
    part = acl_part(structure(), ["oms"], group="g", user="u v", servers="b:1")
    topics, group = (shlex.split(item) for item in part.items)
    named = [topics[at + 1] for at, word in enumerate(topics) if word == "--topic"]
    assert named == ["oms.public.orders", "oms.public.order_lines", "__debezium-heartbeat.oms"]
    assert [topics[at + 1] for at, word in enumerate(topics) if word == "--operation"] == [
        "Read",
        "Describe",
        "DescribeConfigs",
    ]
    assert "User:u v" in topics
    assert group[-4:] == ["--operation", "Read", "--group", "g"]
    assert "--cluster" not in topics + group
