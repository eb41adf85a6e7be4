"""`status`, `rows`, `sources`, `show`: what they read from a state that was written by hand."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import MAPPING, Project

BIG = "12345678901234567890123456789.1200"
ACCEPTED = b'{"order_id":"A-1","customer_email":"jane@example.com","purchase_total":20.50}'


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: Any
) -> Project:
    """A project on a migrated database; there is no Kafka."""
    made = Project(tmp_path, monkeypatch, capsys)
    made.set("postgres", dsn=database.settings.dsn)
    return made


@pytest.fixture
def sql(database: Any) -> Iterator[psycopg.Connection]:
    """A connection in our schema, with three sources, an origin and a destination in place."""
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into source (name) values ('orders'), ('lines'), ('customers')")
        connection.execute("insert into origin (topic, topic_id, partition) values ('shop.orders', 'x', 0)")
        connection.execute(
            "insert into kafka_position (origin, next_offset, folded, stale, skipped, rejected)"
            " values (1, 40, 30, 4, 3, 2)"
        )
        connection.execute(
            "insert into destination (name, base_url, client_id)"
            " values ('main', 'http://127.0.0.1:1', 'sandbox-client')"
        )
        yield connection


def add_row(sql: psycopg.Connection, source: str, key: str, columns: str, **more: Any) -> None:
    """Mirror one row; `columns` is JSON text."""
    values = {"root": None, "deleted": False, "unknown": None} | more
    sql.execute(
        'insert into source_row (source, key, root, deleted, unknown, origin, "offset", columns)'
        " select id, %s, %s, %s, %s, 1, 1, %s::jsonb from source where name = %s",
        [key, values["root"], values["deleted"], values["unknown"], columns, source],
    )


def add_order(sql: psycopg.Connection, key: str, **columns: Any) -> None:
    """Add an order's record: owed and due unless told otherwise. A text that begins with = is an SQL expression."""
    values: dict[str, Any] = {
        "lane": 0,
        "last_change": "=now()",
        "first_change": "=now()",
        "due_at": "=now()",
    } | columns
    values |= {"destination": 1, "order_key": key}
    raw = {name: value[1:] for name, value in values.items() if isinstance(value, str) and value.startswith("=")}
    given = {name: value for name, value in values.items() if name not in raw}
    places = [raw.get(name, f"%({name})s") for name in values]
    sql.execute(f"insert into order_sync ({', '.join(values)}) values ({', '.join(places)})", given)


def shop_order(sql: psycopg.Connection) -> None:
    """Order 7, number A-1, with a line and a customer."""
    order = {"id": 7, "number": "A-1", "status": "paid", "customer_id": 3, "currency": "EUR"}
    order |= {"placed_at": "2026-03-01T08:00:00Z"}
    add_row(sql, "orders", "7", json.dumps(order)[:-1] + ', "total": 20.50}', root="7")
    line = '{"id": 1, "order_id": 7, "sku": "S", "title": "Shirt", "quantity": 2, "price": 10.25}'
    add_row(sql, "lines", "1", line, root="7")
    add_row(sql, "customers", "3", '{"id": 3, "email": "jane@example.com", "shipping_note": "ring"}')


def test_before_migrate_every_command_says_so(project: Project, empty_database: Any) -> None:
    """Exit code 2, one line, no traceback."""
    project.set("postgres", dsn=empty_database.settings.dsn)
    for command in (
        ["status"],
        ["sources"],
        ["show", "7"],
        ["rows", "orders"],
        ["rejects", "list"],
        ["quarantine", "list"],
    ):
        ran = project(*command)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == "error: Postgres: schema order_sync is not there; run `order-sync migrate` first\n"


def test_postgres_away_is_an_error_line(project: Project) -> None:
    """Nothing to change, just not reachable: exit code 1."""
    project.set("postgres", dsn="host=127.0.0.1 port=1 dbname=x")
    ran = project("status")
    assert ran.code == 1
    assert ran.err.startswith("error: Postgres: ")
    assert len(ran.err.splitlines()) == 1


def test_status_counts_owed_orders_by_state(project: Project, sql: psycopg.Connection) -> None:
    """Owed, in flight, waiting and quarantined by lane with the oldest age; clean orders do not appear."""
    add_order(sql, "owed", first_change="=now() - interval '90 s'")
    add_order(sql, "not-yet", due_at="=now() + interval '1 h'")
    add_order(sql, "old", lane=1, first_change="=now() - interval '2 h'")
    add_order(
        sql, "flying", request_id=5, sent_revision=1, sent_first_change="=now() - interval '10 s'", first_change=None
    )
    add_order(sql, "waits", hold="waiting")
    add_order(sql, "bad", quarantine_revision=1)
    add_order(sql, "mended", quarantine_revision=1, revision=2)
    add_order(sql, "clean", settled_revision=1)
    add_order(sql, "draft", settled_revision=1, hold="held")
    ran = project("status", "--no-lag", "--json")
    counted = {(row["lane"], row["state"]): (row["orders"], row["due"]) for row in ran.json()["orders"]}
    assert counted == {
        ("live", "owed"): (3, 2),
        ("live", "in_flight"): (1, 0),
        ("live", "waiting"): (1, 1),
        ("live", "quarantined"): (1, 0),
        ("backfill", "owed"): (1, 1),
    }
    assert [row["orders"] for row in ran.json()["held"]] == [1]
    oldest = {(row["lane"], row["state"]): row["oldest_secs"] for row in ran.json()["orders"]}
    assert oldest["live", "owed"] == pytest.approx(90, abs=30)
    assert oldest["backfill", "owed"] == pytest.approx(7200, abs=30)
    assert "2 h 0 m" in project("status", "--no-lag").out


def test_status_never_scans_clean_orders(project: Project, sql: psycopg.Connection) -> None:
    """The count over owed orders goes through the partial index, however many clean ones there are."""
    from daemon.state.queries import queries

    sql.execute(
        "insert into order_sync (destination, lane, settled_revision, last_change, due_at, order_key)"
        " select 1, 0, 1, now(), now(), n::text from generate_series(1, 20000) n"
    )
    sql.execute("analyze order_sync")
    plan = "\n".join(row[0] for row in sql.execute("explain " + queries("reads.sql")["owed_orders"]).fetchall())
    assert "order_sync_owed" in plan
    assert "Seq Scan on order_sync" not in plan


def test_status_shows_destination_requests_and_rejects(project: Project, sql: psycopg.Connection) -> None:
    """Who leads, what halts, what the budget holds, verdicts of the last hour, open rejects."""
    sql.execute("update destination set halted_reason = '401: the key is refused', halted_at = now()")
    sql.execute(
        "insert into lease (destination, epoch, holder, expires_at)"
        " values (1, 3, '00000000-0000-0000-0000-000000000001', now() + interval '1 minute')"
    )
    request = (
        "insert into delivery_request (destination, epoch, lane, orders, bytes, order_keys, revisions, reserved_at,"
        " settled_at, counts_until, outcome) values (1, 3, 0, 1, %s, '{7}', '{1}', now() - %s::interval, %s, %s, %s)"
    )
    sql.execute(request, [100, "1 s", None, None, None])
    sql.execute(request, [50, "5 s", "now", "now", "accepted"])
    sql.execute(request, [70, "2 h", "now", "yesterday", "accepted"])
    sql.execute(
        'insert into rejected_message (topic, topic_id, partition, "offset", reason, detail)'
        " values ('shop.orders', 'x', 0, 9, 'not_json', 'byte 1')"
    )
    found = project("status", "--json").json()
    [main] = found["destinations"]
    assert main["condition"] == "halted: 401: the key is refused"
    assert main["leader"] == "00000000-0000-0000-0000-000000000001"
    assert main["budget_used_bytes"] == 100
    assert {row["verdict"]: row["requests"] for row in found["requests"]} == {"open": 1, "accepted": 1}
    assert [(row["reason"], row["rejects"]) for row in found["rejects"]] == [("not_json", 1)]
    assert found["kafka"].startswith("unknown: Kafka 127.0.0.1:1: ")


def test_status_shows_what_stands_still_and_what_holds_delivery(project: Project, sql: psycopg.Connection) -> None:
    """A halted partition with its reason, and targets with their end; a rebuild's has none. Otherwise nothing of it."""
    assert "Delivery is held" not in project("status", "--no-lag").out
    sql.execute(
        "insert into origin (topic, topic_id, partition) select 'shop.taxes', 'x', n from generate_series(0, 2) n"
    )
    sql.execute(
        "insert into kafka_position (origin, next_offset, halted, halted_at, target, target_since, target_until)"
        " select id, 5, case partition when 0 then 'offset 5 is gone' end, now(), 9, now(),"
        " case partition when 2 then 'infinity' else now() + interval '1 hour' end from origin"
        " where topic = 'shop.taxes'"
    )
    found = project("status", "--no-lag", "--json").json()
    assert [(row["partition"], row["why"]) for row in found["halted"]] == [(0, "offset 5 is gone")]
    assert [(row["partition"], row["target"], row["until"] is None) for row in found["gate"]] == [
        (1, 9, False),
        (2, 9, True),
    ]
    text = project("status", "--no-lag").out
    assert "offset 5 is gone" in text
    assert "Delivery is held until a backlog is folded" in text


def test_status_tells_the_lag(project: Project, sql: psycopg.Connection, broker: Any, topics: Any) -> None:
    """End of each partition less the position; a topic that is gone has no end."""
    topic = topics("orders", partitions=1)
    project.set("kafka", bootstrap_servers=broker.bootstrap)
    sql.execute("insert into origin (topic, topic_id, partition) values (%s, 'y', 0)", [topic])
    sql.execute("insert into kafka_position (origin, next_offset) values (2, 0)")
    found = project("status", "--json").json()
    assert found["kafka"] == "reachable"
    assert {row["topic"]: row["lag_messages"] for row in found["lag"]} == {topic: 0, "shop.orders": None}


def test_rows_are_json_lines_with_every_digit(project: Project, sql: psycopg.Connection) -> None:
    """Key order, numbers as they are stored, deleted rows and unknown columns marked."""
    add_row(sql, "orders", "1", f'{{"id": 1, "total": {BIG}, "note": "ü"}}')
    add_row(sql, "orders", "2", '{"id": 2}', deleted=True, unknown=["total", "note"])
    ran = project("rows", "orders")
    first, second = ran.out.splitlines()
    assert f'"total": {BIG}' in first
    assert json.loads(first)["columns"]["note"] == "ü"
    assert json.loads(second) == {"key": "2", "deleted": True, "unknown": ["note", "total"], "columns": {"id": 2}}


def test_rows_hide_what_is_personal(project: Project, sql: psycopg.Connection) -> None:
    """By the name of the column, unless it is asked for; the numbers beside it keep their digits."""
    add_row(sql, "orders", "1", f'{{"id": 1, "total": {BIG}, "customer_email": "jo@example.com"}}')
    hidden, shown = project("rows", "orders").out, project("rows", "orders", "--reveal").out
    assert json.loads(hidden, parse_float=str)["columns"]["customer_email"] == "***"
    assert BIG in hidden
    assert "jo@example.com" in shown


def test_rows_by_key_and_limit(project: Project, sql: psycopg.Connection) -> None:
    """One row, or the first few; pages do not lose or repeat a row."""
    sql.execute(
        'insert into source_row (source, key, origin, "offset", columns)'
        " select 1, n::text, 1, n, '{}' from generate_series(1, 2500) n"
    )
    keys = [json.loads(line)["key"] for line in project("rows", "orders").out.splitlines()]
    assert len(keys) == len(set(keys)) == 2500
    assert keys == sorted(keys)
    assert len(project("rows", "orders", "--limit", "1200").out.splitlines()) == 1200
    assert json.loads(project("rows", "orders", "--key", "77").out)["key"] == "77"
    assert project("rows", "orders", "--key", "0").out == ""


def test_rows_of_an_unknown_source(project: Project, sql: psycopg.Connection) -> None:
    """The cure is the command that lists them."""
    ran = project("rows", "ordrs")
    assert ran.code == 2
    assert "source ordrs: nothing was ever read into it; `order-sync sources` lists them" in ran.err


def test_sources_lists_positions_and_columns(project: Project, sql: psycopg.Connection) -> None:
    """The mapping's topics, what became of their messages, and the types that were seen."""
    sql.execute("insert into source_column (source, name, type) values (1, 'total', 'numeric(12,2)')")
    found = project("sources", "--json").json()
    assert {row["source"] for row in found["sources"]} == {"orders", "lines", "customers"}
    [at] = found["positions"]
    counts = (at["source"], at["next_offset"], at["folded"], at["stale"], at["skipped"], at["rejected"])
    assert counts == ("orders", 40, 30, 4, 3, 2)
    assert [(row["source"], row["name"], row["type"]) for row in found["columns"]] == [
        ("orders", "total", "numeric(12,2)")
    ]
    assert "numeric(12,2)" in project("sources").out


def test_sources_show_a_recreated_topic_once(project: Project, sql: psycopg.Connection) -> None:
    """Only the newest incarnation counts."""
    sql.execute("insert into origin (topic, topic_id, partition) values ('shop.orders', 'newer', 0)")
    sql.execute("insert into kafka_position (origin, next_offset) values (2, 3)")
    assert [at["next_offset"] for at in project("sources", "--json").json()["positions"]] == [3]


def test_show_tells_the_whole_order(project: Project, sql: psycopg.Connection) -> None:
    """Record, holds, rows, the document as it would be now and as last accepted, requests."""
    shop_order(sql)
    add_order(
        sql,
        "7",
        vendor_order_id="A-1",
        revision=3,
        settled_revision=2,
        due_at="=now() + interval '50 s'",
        last_accepted=zlib.compress(ACCEPTED),
    )
    sql.execute(
        "insert into delivery_request (destination, epoch, lane, orders, bytes, order_keys, revisions,"
        " settled_at, outcome) values (1, 1, 0, 2, 10, '{6,7}', '{1,2}', now(), 'accepted')"
    )
    found = project("show", "A-1", "--json", "--reveal").json()
    assert found["order_key"] == "7"
    assert found["outcome"].startswith("ready, ")
    assert found["document"]["purchase_total"] == 20.5
    assert found["document"]["customer_email"] == "jane@example.com"
    assert found["accepted"]["main"]["purchase_total"] == 20.5
    assert [(row["source"], row["key"], row["looked_up"]) for row in found["rows"]] == [
        ("orders", "7", False),
        ("lines", "1", False),
        ("customers", "3", True),
    ]
    assert [(row["revision"], row["outcome"]) for row in found["requests"]] == [(2, "accepted")]
    [record] = found["records"]
    assert record["held_by"][0].endswith("when its quiet period or maximum wait ends")


def test_times_are_utc_whatever_the_server_is_set_to(project: Project, sql: psycopg.Connection, database: Any) -> None:
    """The same moment, with Z, for people and scripts."""
    add_order(sql, "7", due_at="='2999-03-01 08:00:00Z'")
    sql.execute(f"alter database {database.name} set timezone to 'Asia/Tokyo'")
    [record] = project("show", "7", "--json").json()["records"]
    assert record["due_at"] == "2999-03-01T08:00:00+00:00"
    assert "until 2999-03-01 08:00:00Z, when its quiet period" in project("show", "7").out


def test_show_keeps_digits_and_masks_people(project: Project, sql: psycopg.Connection) -> None:
    """Amounts keep their scale; whatever looks personal is masked until --reveal, and the output says so."""
    shop_order(sql)
    add_order(sql, "7", last_accepted=zlib.compress(ACCEPTED))
    text = project("show", "7").out
    assert '"total":20.50' in text
    assert '"purchase_total":20.50' in text.replace(" ", "")
    assert "jane@example.com" not in text
    assert "--reveal shows them" in text
    assert "jane@example.com" in project("show", "7", "--reveal").out


def test_show_of_rows_without_their_root(project: Project, sql: psycopg.Connection) -> None:
    """Lines came before their order: it waits, and the missing part is named."""
    add_row(sql, "lines", "1", '{"id": 1, "order_id": 7}', root="7")
    add_order(sql, "7", hold="waiting", hold_detail="orders 7", hold_since="=now()")
    found = project("show", "7", "--json").json()
    assert found["outcome"].startswith("waiting: no_root")
    assert found["document"] is None
    assert found["records"][0]["held_by"][0].startswith("waiting since ")


def test_show_with_a_broken_mapping_still_shows_the_state(project: Project, sql: psycopg.Connection) -> None:
    """The record does not depend on the mapping; why there is no document is said."""
    shop_order(sql)
    add_order(sql, "7")
    project.mapping("nonsense: 1\n")
    found = project("show", "7", "--json").json()
    assert "mapping.yaml" in found["outcome"]
    assert len(found["rows"]) == 2


def test_show_of_an_order_nobody_knows(project: Project, sql: psycopg.Connection) -> None:
    """Exit code 1, and why there may be nothing."""
    ran = project("show", "nobody")
    assert ran.code == 1
    assert "order nobody: no order has this key, and none was sent under this id" in ran.out


def test_show_says_which_destinations_an_order_is_not_for(project: Project, sql: psycopg.Connection) -> None:
    """With conditions of destinations, the one that is false is named with the place that it would go to."""
    shop_order(sql)
    add_order(sql, "7")
    project.mapping(MAPPING + "destinations:\n  main: {{when: order.number == 'nobody'}}\n")
    why = "no order for the API: `destinations.main.when` of the mapping is false"
    assert project("show", "7", "--json").json()["not_for"] == {"main": why}
    assert f"at main: {why}" in project("show", "7").out
