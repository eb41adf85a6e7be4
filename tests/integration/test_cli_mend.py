"""`rejects` and `quarantine`: what they list, and exactly what a retry changes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import Project


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: Any
) -> Project:
    """A project on a migrated database, worked on by alice."""
    monkeypatch.setenv("LOGNAME", "alice")
    made = Project(tmp_path, monkeypatch, capsys)
    made.set("postgres", dsn=database.settings.dsn)
    return made


@pytest.fixture
def sql(database: Any) -> Iterator[psycopg.Connection]:
    """A connection in our schema with a destination, three quarantined orders and a clean one."""
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into destination (name, base_url, client_id) values ('main', 'http://x', 'c')")
        connection.execute(
            "insert into order_sync (destination, lane, order_key, vendor_order_id, revision, settled_revision,"
            " last_change, due_at, digest, quarantine_revision, quarantine_mapping, quarantine_reason,"
            " quarantined_at, attempts)"
            " select 1, 0, n::text, 'V-' || n, 4, 3, now(), now() - interval '1 h', '\\x01', 4, 'm1', '400', now(), 2"
            " from generate_series(1, 3) n"
        )
        connection.execute(
            "insert into order_sync (destination, lane, order_key, revision, settled_revision, last_change, due_at,"
            " digest) values (1, 0, 'clean', 1, 1, now(), now(), '\\x01')"
        )
        yield connection


def quarantined(sql: psycopg.Connection) -> list[str]:
    """The orders that are in quarantine."""
    statement = "select order_key from order_sync where quarantine_revision = revision order by 1"
    return [key for (key,) in sql.execute(statement).fetchall()]


def actions(sql: psycopg.Connection) -> list[tuple[Any, ...]]:
    """What operators did."""
    return sql.execute("select who, command, arguments, affected from operator_action order by id").fetchall()


def test_quarantine_list(project: Project, sql: psycopg.Connection) -> None:
    """Order, reason and attempts, as table and as JSON."""
    found = project("quarantine", "list", "--json").json()
    assert [(row["order_key"], row["reason"], row["attempts"]) for row in found] == [
        ("1", "400", 2),
        ("2", "400", 2),
        ("3", "400", 2),
    ]
    assert "V-2" in project("quarantine", "list").out
    assert len(project("quarantine", "list", "--limit", "1", "--json").json()) == 1


def test_quarantine_retry_is_a_forced_send_of_the_named_orders(project: Project, sql: psycopg.Connection) -> None:
    """Revision up, digest gone, due now, alone; by order key or vendor id; the others stay; the action is recorded."""
    ran = project("quarantine", "retry", "1", "V-2", "clean")
    assert ran.code == 0
    assert ran.out.splitlines()[0] == "2 orders will be sent anew"
    assert ran.out.splitlines()[1].startswith("1 of the named ones are not in quarantine")
    assert quarantined(sql) == ["3"]
    changed = sql.execute(
        "select revision, digest, send_alone, due_at > now() - interval '1 minute', first_change is not null,"
        " quarantine_reason from order_sync where order_key in ('1', '2')"
    ).fetchall()
    assert changed == [(5, None, True, True, True, None)] * 2
    [clean] = sql.execute("select revision, digest from order_sync where order_key = 'clean'").fetchall()
    assert clean == (1, b"\x01")
    assert actions(sql) == [("alice", "quarantine retry", {"orders": ["1", "V-2", "clean"]}, 2)]


def test_quarantine_retry_all(project: Project, sql: psycopg.Connection) -> None:
    """All of them, and nothing else."""
    assert project("quarantine", "retry", "--all", "--json").json() == {"retried": ["1", "2", "3"]}
    assert quarantined(sql) == []
    assert actions(sql) == [("alice", "quarantine retry", {"all": True}, 3)]


@pytest.mark.parametrize(
    "arguments", [["quarantine", "retry"], ["quarantine", "retry", "1", "--all"], ["rejects", "retry"]]
)
def test_retry_wants_names_or_all(project: Project, sql: psycopg.Connection, arguments: list[str]) -> None:
    """Nothing named is not everything."""
    ran = project(*arguments)
    assert ran.code == 2
    assert "or give --all; one of the two" in ran.err
    assert quarantined(sql) == ["1", "2", "3"]


@pytest.fixture
def reject(sql: psycopg.Connection) -> int:
    """The id of a reject whose value is no UTF-8."""
    row = sql.execute(
        'insert into rejected_message (topic, topic_id, partition, "offset", reason, detail, key, value)'
        " values ('shop.orders', 'x', 2, 9, 'not_json', 'byte 1', '{\"id\":1}', '\\xff7b') returning id"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_rejects_list_hides_what_is_resolved(project: Project, sql: psycopg.Connection, reject: int) -> None:
    """Coordinates and reason, without the bytes; resolved ones only where asked for."""
    [row] = project("rejects", "list", "--json").json()
    assert (row["id"], row["topic"], row["partition"], row["offset"], row["reason"]) == (
        reject,
        "shop.orders",
        2,
        9,
        "not_json",
    )
    assert (row["key_bytes"], row["value_bytes"]) == (8, 2)
    assert "not_json" in project("rejects", "list").out
    assert project("rejects", "list", "--topic", "other", "--json").json() == []
    sql.execute("update rejected_message set resolved_at = now()")
    assert project("rejects", "list", "--json").json() == []
    assert len(project("rejects", "list", "--resolved", "--json").json()) == 1


def test_rejects_show_gives_bytes_only_when_asked(project: Project, sql: psycopg.Connection, reject: int) -> None:
    """A raw message may hold personal data; in JSON it is base64, whatever the bytes are."""
    assert "value" not in project("rejects", "show", str(reject), "--json").json()
    found = project("rejects", "show", str(reject), "--raw", "--json").json()
    assert base64.b64decode(found["value"]) == b"\xff{"
    text = project("rejects", "show", str(reject), "--raw").out
    assert 'key: {"id":1}' in text
    assert "value: \\xff{" in text


def test_rejects_show_of_an_unknown_id(project: Project, sql: psycopg.Connection) -> None:
    """The cure is the list."""
    ran = project("rejects", "show", "404")
    assert ran.code == 2
    assert "reject 404: there is none; `order-sync rejects list` shows the open ones" in ran.err


def test_rejects_retry_folds_what_can_be_read_now(project: Project, sql: psycopg.Connection, reject: int) -> None:
    """What is Debezium after all is folded and resolved; what is not stays a reject; both are counted."""
    value = (
        '{"before": null, "after": {"id": 5, "status": "paid"}, "op": "c", "ts_ms": 1, "source": {"connector": "x"}}'
    )
    sql.execute("insert into origin (topic, topic_id, partition) values ('shop.orders', 'x', 2)")
    sql.execute("insert into kafka_position (origin, next_offset) select id, 20 from origin")
    sql.execute(
        'insert into rejected_message (topic, topic_id, partition, "offset", reason, detail, key, value)'
        " values ('shop.orders', 'x', 2, 10, 'bad_value', 'total', '{\"id\":5}', %s)",
        [value.encode()],
    )
    counts = project("rejects", "retry", "--all", "--json").json()
    assert (counts["folded"], counts["rejected"]) == (1, 1)
    assert [row["id"] for row in project("rejects", "list", "--json").json()] == [reject]
    assert '"status": "paid"' in project("rows", "orders", "--key", "5").out
    [(_, command, _, affected)] = actions(sql)
    assert (command, affected) == ("rejects retry", 1)
