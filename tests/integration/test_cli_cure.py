"""What `show` and `rejects list` print for rows that are missing: the statements bring exactly those rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import MAPPING, Project
from test_cli_look import add_order, add_row

TOPICS = {name: f"oms.public.{name}" for name in ("orders", "lines", "customers")}
ORDER = {"id": 7, "number": "A-1", "status": "paid", "customer_id": 3, "currency": "EUR", "total": 20}
ORDER |= {"placed_at": "2026-03-01T08:00:00Z"}
LINE = {"id": 1, "order_id": 7, "sku": "S", "title": "Shirt", "quantity": 2, "price": 10}


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: Any
) -> Project:
    """A project over topics that tell their tables."""
    made = Project(tmp_path, monkeypatch, capsys)
    made.mapping(**TOPICS)
    made.set("postgres", dsn=database.settings.dsn)
    return made


@pytest.fixture
def sql(database: Any) -> Iterator[psycopg.Connection]:
    """A connection in our schema, with order 7 waiting and whatever a test adds."""
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into source (name) values ('orders'), ('lines'), ('customers')")
        connection.execute("insert into origin (topic, topic_id, partition) values ('oms.public.orders', 'x', 0)")
        connection.execute("insert into lineage (identity) values ('postgresql/oms/shop/public/orders')")
        connection.execute("insert into destination (name, base_url, client_id) values ('main', 'http://x', 'c')")
        yield connection


def cures(project: Project) -> dict[str, dict[str, Any]]:
    """The cures of order 7 by source; the same stand in the text."""
    found = project("show", "7", "--json").json()["cures"]
    text = project("show", "7").out
    for cure in found:
        assert cure["signal"] in text
        assert cure["rebuild"] in text
    return {cure["source"]: cure for cure in found}


def the_filter(signal: str) -> str:
    """The rows that a signal names."""
    data = json.loads(signal[signal.index("'{") + 1 : signal.rindex("'")].replace("''", "'"))
    assert data["type"] == "incremental"
    found: str = data["additional-conditions"][0]["filter"]
    return found


def test_an_absent_row_is_asked_for_by_its_key(project: Project, sql: psycopg.Connection) -> None:
    """The customer that never arrived: row, statement for the OMS's database, and the replay of its topic."""
    add_row(sql, "orders", "7", json.dumps(ORDER), root="7")
    add_row(sql, "lines", "1", json.dumps(LINE), root="7")
    add_order(sql, "7", hold="waiting", hold_since="=now()")
    [cure] = cures(project).values()
    assert cure["rows"] == [{"source": "customers", "key": "3", "columns": []}]
    assert cure["signal"].startswith("insert into public.debezium_signal (id, type, data) values (gen_random_uuid()")
    assert '"data-collections": ["public.customers"]' in cure["signal"]
    assert the_filter(cure["signal"]) == """"id" = '3'"""
    assert cure["rebuild"] == "order-sync rebuild --source customers"
    assert "customers 3: the row has not arrived" in project("show", "7").out


def test_unknown_values_are_named_by_column_and_row(project: Project, sql: psycopg.Connection) -> None:
    """Only columns that the mapping reads; a row of which nothing is known counts as all of them."""
    add_row(sql, "orders", "7", json.dumps(ORDER | {"note": None}), root="7", unknown=["note"])
    add_row(sql, "lines", "1", json.dumps(LINE), root="7", unknown=["price"])
    add_row(sql, "lines", "2", '{"id": 2, "order_id": 7}', root="7", unknown=["*"])
    add_row(sql, "customers", "3", '{"id": 3}')
    add_order(sql, "7", hold="waiting", hold_since="=now()")
    found = cures(project)
    assert found.keys() == {"lines", "customers"}, "nobody reads the order's note"
    assert [(row["key"], row["columns"]) for row in found["lines"]["rows"]] == [
        ("1", ["price"]),
        ("2", ["id", "order_id", "price", "quantity", "sku", "title"]),
    ]
    assert the_filter(found["lines"]["signal"]) == """"id" = '1' or "id" = '2'"""
    assert [(row["key"], row["columns"]) for row in found["customers"]["rows"]] == [("3", ["email"])]


def test_an_order_whose_own_row_is_missing(project: Project, sql: psycopg.Connection) -> None:
    """Lines came before it: the root is asked for by the order's key."""
    add_row(sql, "lines", "1", json.dumps(LINE), root="7")
    [cure] = cures(project).values()
    assert (cure["source"], the_filter(cure["signal"])) == ("orders", """"id" = '7'""")


def test_an_order_that_waits_for_nothing_has_no_cure(project: Project, sql: psycopg.Connection) -> None:
    """All rows are there."""
    add_row(sql, "orders", "7", json.dumps(ORDER), root="7")
    add_row(sql, "lines", "1", json.dumps(LINE), root="7")
    add_row(sql, "customers", "3", '{"id": 3, "email": null}')
    assert project("show", "7", "--json").json()["cures"] == []


def test_the_statement_is_for_the_database_that_wrote(project: Project, sql: psycopg.Connection) -> None:
    """MySQL's names are quoted otherwise; which one it is, the messages have told."""
    sql.execute("update lineage set identity = 'mariadb/oms//public/orders'")
    add_row(sql, "lines", "1", json.dumps(LINE), root="7")
    [cure] = cures(project).values()
    assert "values (uuid(), " in cure["signal"]
    assert "`id` = " in cure["signal"]


def test_without_a_table_the_replay_is_left(project: Project, sql: psycopg.Connection) -> None:
    """A topic whose name does not end in schema.table names no table to ask for."""
    project.mapping(MAPPING)
    add_row(sql, "lines", "1", json.dumps(LINE), root="7")
    [cure] = project("show", "7", "--json").json()["cures"]
    assert cure["signal"] is None
    assert "order-sync rebuild --source orders" in project("show", "7").out


def test_rejects_with_a_key_tell_how_to_have_their_rows(project: Project, sql: psycopg.Connection) -> None:
    """Retry first; where the message is wrong for good, the rows by their keys, those of resolved rejects left out."""
    reject = (
        'insert into rejected_message (topic, topic_id, partition, "offset", reason, detail, source, row_key,'
        " resolved_at) select 'oms.public.lines', 'x', 0, %s, 'bad_value', 'd', id, %s, %s from source"
        " where name = 'lines'"
    )
    assert "retry" not in project("rejects", "list").out
    for offset, key, resolved in ((1, "5", None), (2, "4", None), (3, "4", None), (4, "9", "now"), (5, None, None)):
        sql.execute(reject, [offset, key, resolved])
    *_, retry, rows = project("rejects", "list", "--resolved").out.splitlines()
    assert "`order-sync rejects retry --all`" in retry
    assert the_filter(rows) == """"id" = '4' or "id" = '5'"""
    assert isinstance(project("rejects", "list", "--json").json(), list)
    project.mapping("nonsense: 1\n")
    assert "rejects retry" in project("rejects", "list").out, "it does not need the mapping"
