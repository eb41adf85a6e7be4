"""`order-sync rebuild` and `ghosts`: what they refuse, what they begin, and what is left to do by hand."""

from __future__ import annotations

import io
from typing import Any

import psycopg
import pytest
from cli_project import MAPPING, Project
from confluent_kafka import Producer
from fixtures.postgres import Database

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]


@pytest.fixture
def project(
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database: Database,
    broker: Any,
    topics: Any,
) -> Project:
    """A migrated project whose topics hold a few messages each."""
    made = Project(tmp_path, monkeypatch, capsys)
    names = {source: topics(source, partitions=2) for source in ("orders", "lines", "customers")}
    made.mapping(**names)
    made.topics = names
    made.set("postgres", dsn=database.settings.dsn)
    made.set("kafka", bootstrap_servers=broker.bootstrap)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for topic in names.values():
        for n in range(4):
            producer.produce(topic, b"{}", str(n).encode(), partition=n % 2)
            producer.flush(10)
    assert made("migrate").code == 0
    return made


@pytest.fixture
def sql(connection: psycopg.Connection) -> psycopg.Connection:
    """The state, looked at."""
    connection.execute("set search_path to order_sync")
    return connection


def add_row(sql: psycopg.Connection, source: str, key: str, root: str | None) -> None:
    """A row as it was folded before."""
    sql.execute(
        'insert into source_row (source, key, root, columns, origin, "offset")'
        " select id, %s, %s, '{}', 1, 1 from source where name = %s",
        [key, root, source],
    )


def test_rebuild_begins_and_is_watched_by_a_second_call(project: Project, sql: psycopg.Connection) -> None:
    """The positions go to the beginning and hold delivery; without a source the command tells how far it is."""
    assert project("rebuild", "--source", "lines", "--yes", "--detach").code == 0
    assert sql.execute("select name, generation from source where generation > 0").fetchall() == [("lines", 1)]
    progress = project("rebuild", "--json").json()
    assert [(one["topic"], one["partition"], one["done"], one["target"]) for one in progress] == [
        (project.topics["lines"], 0, 0, 2),
        (project.topics["lines"], 1, 0, 2),
    ]
    sql.execute("update kafka_position set target = null, target_until = null")
    ran = project("rebuild")
    assert "no rebuild is under way" in ran.out


def test_rebuild_asks_before_it_begins(
    project: Project, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --yes and with any other answer than yes nothing happens."""
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert project("rebuild", "--source", "lines", "--detach").code != 0
    assert sql.execute("select count(*) from source where generation > 0").fetchone() == (0,)


def test_rebuild_names_what_it_cannot_do(project: Project) -> None:
    """No source, an unknown one, a topic that is not there, a Kafka that is not there: each with its cure."""
    assert "--source or give --all" in project("rebuild", "--all", "--source", "lines").err
    assert "no such source; it has customers, lines, orders" in project("rebuild", "--source", "x", "--yes").err
    project.mapping(**{**project.topics, "lines": "not-there"})
    ran = project("rebuild", "--source", "lines", "--yes")
    assert ran.code == 2
    assert "topic not-there does not exist; mend sources.lines.topic" in ran.err
    project.set("kafka", bootstrap_servers="127.0.0.1:1")
    assert "Kafka 127.0.0.1:1" in project("rebuild", "--source", "orders", "--yes").err


def test_other_types_are_refused_until_their_source_is_rebuilt(project: Project, sql: psycopg.Connection) -> None:
    """`migrate` names the command; after it the new mapping is in force."""
    add_row(sql, "orders", "1", "1")
    typed = MAPPING.replace("    key: [id]\n    one:", '    key: [id]\n    types: {{total: "numeric(12,2)"}}\n    one:')
    assert typed != MAPPING
    project.mapping(typed, **project.topics)
    ran = project("migrate")
    assert ran.code == 2
    assert "order-sync rebuild --source orders" in ran.err
    assert project("rebuild", "--source", "orders", "--yes", "--detach").code == 0
    assert project("migrate").code == 0


def test_ghosts_are_listed_and_swept_within_bounds(project: Project, sql: psycopg.Connection) -> None:
    """Sweeping refuses while the topic is still read, and where more orders than allowed would change."""
    sql.execute(
        "insert into destination (name, base_url, client_id) values ('main', 'http://127.0.0.1:1', 'sandbox-client')"
    )
    for n in range(4):
        add_row(sql, "lines", str(n), f"order {n % 2}")
    assert project("ghosts", "list", "--json").json() == []
    project("rebuild", "--source", "lines", "--yes", "--detach")
    assert "still reading it" in project("ghosts", "sweep", "--source", "lines", "--yes").err
    sql.execute("update kafka_position set target = null, target_until = null")
    sql.execute("update source_row set generation = 1 where key = '0'")
    listed = project("ghosts", "list", "--json").json()
    assert [(one["key"], one["order"]) for one in listed] == [("1", "order 1"), ("2", "order 0"), ("3", "order 1")]
    refused = project("ghosts", "sweep", "--source", "lines", "--max-orders", "1", "--yes")
    assert refused.code == 2
    assert "3 ghosts in 2 orders, more than --max-orders 1" in refused.err
    asserted = project("ghosts", "sweep", "--all", "--yes", "--json")
    assert asserted.code == 0, asserted.err
    assert asserted.json()["rows"] == 3
    assert sql.execute("select count(*) from source_row where deleted").fetchone() == (3,)
    assert project("ghosts", "list", "--json").json() == []


def test_a_rebuild_by_snapshot_reads_nothing_again(project: Project, sql: psycopg.Connection) -> None:
    """Positions stay, delivery is not held; rows count as ghosts until the snapshot shows them."""
    add_row(sql, "lines", "1", "order 1")
    ran = project("rebuild", "--source", "lines", "--by-snapshot", "--yes")
    assert ran.code == 0
    assert "start a snapshot" in ran.out
    assert sql.execute("select count(*) from kafka_position where target is not null").fetchone() == (0,)
    assert [one["key"] for one in project("ghosts", "list", "--json").json()] == ["1"]
