"""`pause`, `resume`, `backfill`, `guard` and `actions`: what they change, what they say, what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import Project

from daemon.cli import steer


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
    """A connection in our schema with a destination: four old orders are parked, one is not surveyed, two guarded."""
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into destination (name, base_url, client_id) values ('main', 'http://x', 'c')")
        for number, year in enumerate((2022, 2023, 2024, 2025)):
            add(connection, f"old{number}", "backfill", placed_at=f"{year}-06-01")
        add(connection, "new", None, lane=1)
        add(connection, "g1", "guarded", lane=0, vendor_order_id="V-1")
        add(connection, "g2", "guarded", lane=0, digest="\\x01")
        yield connection


def add(sql: psycopg.Connection, key: str, hold: str | None, lane: int = 1, **columns: Any) -> None:
    """An owed order, parked for this reason."""
    values = {"order_key": key, "hold": hold, "lane": lane, **columns}
    if hold is not None:
        values |= {"parked_revision": 1, "body_bytes": 6_000_000, "hold_since": "2026-01-01T00:00:00Z"}
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    sql.execute(
        f"insert into order_sync (destination, last_change, first_change, due_at, {names})"
        f" values (1, now(), now(), now(), {places})",
        values,
    )


def actions(sql: psycopg.Connection) -> list[tuple[Any, ...]]:
    """What operators did."""
    return sql.execute("select who, command, arguments, affected from operator_action order by id").fetchall()


def destination(sql: psycopg.Connection, columns: str) -> tuple[Any, ...]:
    """Columns of the destination."""
    found = sql.execute(f"select {columns} from destination").fetchone()
    assert found is not None
    return found


def test_before_migrate_every_command_says_so(project: Project, empty_database: Any) -> None:
    """Exit code 2, one line, nothing done."""
    project.set("postgres", dsn=empty_database.settings.dsn)
    for command in (
        ["pause"],
        ["resume"],
        ["backfill"],
        ["backfill", "--since", "all"],
        ["guard", "list"],
        ["actions"],
    ):
        ran = project(*command)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == "error: Postgres: schema order_sync is not there; run `order-sync migrate` first\n"


def test_pause_and_resume_are_stored_and_written_down(project: Project, sql: psycopg.Connection) -> None:
    """Each says what it changed; resuming lifts a halt; `status` tells the condition."""
    assert project("pause").out == "main: paused\n"
    assert project("pause").out == "main: paused already\n"
    assert destination(sql, "paused, paused_at is not null") == (True, True)
    assert "paused since" in project("status", "--no-lag").out
    assert project("resume", "--destination", "main").out == "main: resumed\n"
    assert project("resume", "--json").json() == {"resumed": []}
    sql.execute("update destination set halted_reason = '401', halted_at = now()")
    assert project("resume").out == "main: resumed\n"
    assert destination(sql, "paused, paused_at, halted_reason, halted_at") == (False, None, None, None)
    everything = {"destinations": ["main"]}
    assert actions(sql) == [
        ("alice", "pause", everything, 1),
        ("alice", "pause", everything, 0),
        ("alice", "resume", everything, 1),
        ("alice", "resume", everything, 0),
        ("alice", "resume", everything, 1),
    ]


def test_backfill_alone_says_what_there_is(project: Project, sql: psycopg.Connection) -> None:
    """The forecast by orders, bytes and the backfill's part of the budget; nothing is asked for."""
    said = project("backfill").out
    assert said == (
        "main: 4 orders, 24000000 bytes to send, about 2 m 0 s at the backfill's part of the budget; "
        "1 orders are not surveyed yet: when they were placed is not known\n"
    )
    assert destination(sql, "backfill_since") == (None,)
    assert actions(sql) == []


def test_backfill_asks_for_a_range(project: Project, sql: psycopg.Connection) -> None:
    """From a date on, before another; the same again keeps its place, another range begins anew, stopping ends it."""
    ran = project("backfill", "--since", "2023-01-01", "--until", "2025-01-01T00:00:00+00:00", "--json")
    [ahead] = ran.json()
    assert (ahead["orders"], ahead["bytes"], ahead["unsurveyed"], ahead["minutes"]) == (2, 12_000_000, 1, 1.0)
    assert destination(sql, "backfill_since::date::text, backfill_until::date::text") == ("2023-01-01", "2025-01-01")
    sql.execute("update destination set backfill_reached = '2024-01-01'")
    project("backfill", "--since", "2023-01-01", "--until", "2025-01-01")
    assert destination(sql, "backfill_reached::date::text") == ("2024-01-01",)
    states = {row["state"]: row["orders"] for row in project("status", "--no-lag", "--json").json()["orders"]}
    assert states == {"asked": 2, "backfill": 2, "guarded": 2, "owed": 1}
    project("backfill", "--since", "all")
    assert destination(sql, "backfill_since::text, backfill_until::text, backfill_reached::text") == (
        "-infinity",
        "infinity",
        "-infinity",
    )
    assert project("backfill", "--stop").out == "main: stopped\n"
    assert project("backfill", "--stop").out == "main: nothing was asked for\n"
    assert destination(sql, "backfill_since, backfill_until") == (None, None)
    assert [(command, affected) for _, command, _, affected in actions(sql)] == [
        ("backfill", 1),
        ("backfill", 1),
        ("backfill", 1),
        ("backfill --stop", 1),
        ("backfill --stop", 0),
    ]
    assert actions(sql)[0][2] == {
        "destinations": ["main"],
        "since": "2023-01-01T00:00:00+00:00",
        "until": "2025-01-01T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["backfill", "--wait"], "give --since (with --until and --wait where you like) or --stop"),
        (["backfill", "--stop", "--since", "all"], "one of the two"),
        (["backfill", "--since", "yesterday"], "--since yesterday: must be a date such as 2026-01-31"),
        (["backfill", "--since", "2026-01-01T00:00:00"], "this time has no zone"),
        (["backfill", "--since", "2026-01-02", "--until", "2026-01-01"], "no order was placed then"),
        (
            ["pause", "--destination", "other"],
            "other: the settings have no such destination; they have main",
        ),
        (["guard", "release"], "name the orders or give --all; one of the two"),
        (["guard", "discard", "g1", "--all"], "name the orders or give --all; one of the two"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    project: Project, sql: psycopg.Connection, arguments: list[str], says: str
) -> None:
    """Exit code 2, one line that says what to write instead, and nothing is changed."""
    ran = project(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert len(ran.err.splitlines()) == 1
    assert actions(sql) == []


def test_destination_that_never_started_cannot_be_steered(project: Project, sql: psycopg.Connection) -> None:
    """The cure is to start it, or its setting."""
    sql.execute("update destination set name = 'old'")
    for command in (["pause"], ["resume"], ["backfill", "--since", "all"]):
        ran = project(*command)
        assert ran.code == 2
        assert ran.err.startswith("error: destinations.main: the state does not know it yet; start the daemon with it")
    assert actions(sql) == []


def test_backfill_waits_until_all_is_sent(
    project: Project, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar grows to its end; a halt that holds it up is told."""
    sql.execute("update destination set halted_reason = '401'")
    seen: list[str] = []
    steps: list[Callable[[], object]] = [
        lambda: sql.execute("update destination set halted_reason = null"),
        lambda: sql.execute("update order_sync set settled_revision = 1, parked_revision = null where lane = 1"),
    ]
    monkeypatch.setattr(steer.time, "sleep", lambda _: seen.append(str(steps.pop(0)())))
    ran = project("backfill", "--since", "all", "--wait")
    assert ran.code == 0
    assert len(seen) == 2
    assert "5/5" in ran.out


def test_guard_list_release_and_discard(project: Project, sql: psycopg.Connection) -> None:
    """By order key or by id at the API; released ones are due as they were, discarded ones settled."""
    listed = project("guard", "list", "--json").json()
    assert [(row["order_key"], row["vendor_order_id"]) for row in listed] == [("g1", "V-1"), ("g2", None)]
    assert "V-1" in project("guard", "list", "--destination", "main").out
    ran = project("guard", "release", "V-1", "old0")
    assert ran.out.splitlines() == [
        "1 orders will be sent as they are",
        "1 of the named ones are not guarded; `order-sync show ORDER_ID` says how they stand",
    ]
    ran = project("guard", "discard", "--all", "--json")
    assert ran.json() == {"discarded": ["g2"]}
    state = (
        "select parked_revision, zeroed, hold, revision > settled_revision, digest from order_sync where order_key = %s"
    )
    assert sql.execute(state, ["g1"]).fetchone() == (None, True, None, True, None)
    assert sql.execute(state, ["g2"]).fetchone() == (None, False, "discarded", False, b"\x01")
    assert sql.execute(state, ["old0"]).fetchone() == (1, False, "backfill", True, None)
    assert actions(sql) == [
        ("alice", "guard release", {"orders": ["V-1", "old0"], "destinations": ["main"]}, 1),
        ("alice", "guard discard", {"all": True, "destinations": ["main"]}, 1),
    ]


def test_status_and_show_say_what_is_parked(project: Project, sql: psycopg.Connection) -> None:
    """Counts and bytes by reason, and one order's reason with the command that decides."""
    found = project("status", "--no-lag", "--json").json()
    assert {row["reason"]: (row["orders"], row["bytes"]) for row in found["parked"]} == {
        "backfill": (4, 24_000_000),
        "guarded": (2, 12_000_000),
    }
    assert "guarded" in project("status", "--no-lag").out
    assert "`order-sync guard release`" in project("show", "g1").out
    assert "`order-sync backfill --since DATE`" in project("show", "old1").out


@pytest.mark.parametrize(("mode", "says"), [("off", "off: nothing is judged"), ("shadow", "shadow, no leader")])
def test_status_tells_the_mode(project: Project, sql: psycopg.Connection, mode: str, says: str) -> None:
    """A destination that does not send says so first; so does the forecast."""
    project.destination(delivery=mode)
    assert says in project("status", "--no-lag").out
    assert f"nothing is sent now (delivery: {mode})" in project("backfill").out


def test_actions_are_listed_last_first(project: Project, sql: psycopg.Connection) -> None:
    """Who, when, what and how many, as table and as JSON."""
    project("pause")
    project("guard", "release", "--all")
    found = project("actions", "--json").json()
    assert [(row["who"], row["command"], row["affected"]) for row in found] == [
        ("alice", "guard release", 2),
        ("alice", "pause", 1),
    ]
    assert len(project("actions", "--limit", "1", "--json").json()) == 1
    assert "guard release" in project("actions").out
