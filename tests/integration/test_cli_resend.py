"""`resend`: what exactly it marks, where, and what it refuses."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import Project

from daemon.mapping.loader import load_mapping
from daemon.state import mend


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
def sql(database: Any, project: Project) -> Iterator[psycopg.Connection]:
    """Two destinations. At each: accepted orders 1 to 3, 4 owed live, 5 in quarantine, 6 held and never sent."""
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute(
            "insert into destination (name, base_url, client_id)"
            " values ('main', 'http://x', 'c'), ('other', 'http://y', 'c')"
        )
        connection.execute(
            "insert into order_sync (destination, lane, order_key, vendor_order_id, revision, settled_revision,"
            " last_change, due_at, digest, accepted_at, last_accepted, quarantine_revision, mapping_version)"
            " select d.id, 0, n::text, 'V-' || n, 4, case when n in (4, 5) then 3 else 4 end, now(),"
            " now() + interval '1 h', '\\x01', case when n < 6 then now() end, case when n < 6 then %s::bytea end,"
            " case when n = 5 then 4 end, 'm' from generate_series(1, 6) n, destination d",
            [zlib.compress(b"x" * 1000)],
        )
        put_in_force(connection, project)
        yield connection


def put_in_force(sql: psycopg.Connection, project: Project) -> None:
    """As if the daemon had started with the project's mapping."""
    version = load_mapping(project.folder / "mapping.yaml").version
    sql.execute("update mapping_in_force set version = %s", [version])


def marked(sql: psycopg.Connection, destination: int = 1) -> dict[str, tuple[Any, ...]]:
    """Orders with a raised revision: lane, whether the digest is kept, whether due now."""
    found = sql.execute(
        "select order_key, lane, digest is not null, due_at <= now() from order_sync"
        " where destination = %s and revision > 4",
        [destination],
    ).fetchall()
    return {row[0]: row[1:] for row in found}


def actions(sql: psycopg.Connection) -> list[tuple[Any, ...]]:
    """What operators did."""
    return sql.execute("select who, command, arguments, affected from operator_action order by id").fetchall()


def test_changed_keeps_digests(project: Project, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every clean order that was ever accepted is owed in the backfill; the digest decides later whether it is sent."""
    monkeypatch.setattr(mend, "PAGE", 2)
    ran = project("resend", "--changed", "--yes", "--json")
    assert ran.json() == {"marked": {"main": 3}}
    assert marked(sql) == dict.fromkeys(("1", "2", "3"), (1, True, True))
    assert marked(sql, 2) == {}, "the settings do not have it"
    assert actions(sql) == [("alice", "resend", {"forced": False, "destinations": ["main"]}, 3)]


def test_all_is_forced(project: Project, sql: psycopg.Connection) -> None:
    """Digests are gone; an owed order keeps its lane and its time; quarantine and what was never sent stay."""
    assert project("resend", "--all", "--yes").out == "main: 4 orders will be sent anew, in the backfill lane\n"
    assert marked(sql) == {**dict.fromkeys(("1", "2", "3"), (1, False, True)), "4": (0, False, False)}


def test_named_orders_go_at_once(project: Project, sql: psycopg.Connection) -> None:
    """By order key or vendor id, forced, live, also out of quarantine; with --destination at one place alone."""
    project.sections["destinations"]["other"] = {"base_url": "http://y", "client_id": "c"}
    ran = project("resend", "1", "V-5", "--json")
    assert ran.json() == {"resent": {"main": ["1", "5"], "other": ["1", "5"]}}
    assert marked(sql) == marked(sql, 2) == dict.fromkeys(("1", "5"), (0, False, True))
    assert project("resend", "2", "--destination", "other").code == 0
    assert set(marked(sql)) == {"1", "5"}
    assert [row[3] for row in actions(sql)] == [4, 1]


def test_forecast_is_confirmed(project: Project, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes the size is told and a no changes nothing."""
    said: list[str] = []

    def refuse(text: str, *, abort: bool) -> None:
        said.append(text)
        raise SystemExit(1)

    monkeypatch.setattr("typer.confirm", refuse)
    project.set("delivery", budget_bytes=1000, max_request_bytes=1000)
    assert project("resend", "--all").code == 1
    assert said == ["main: 5 orders, 0.0 MB, 5 m 0 s of the whole budget\nGo on?"]
    assert marked(sql) == {}
    assert actions(sql) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name orders, or give --changed or --all; one of the three"),
        (("1", "--all"), "name orders, or give --changed or --all; one of the three"),
        (("nobody",), "order nobody: no destination asked for has a record of it; nothing was changed"),
        (("1", "nobody"), "order nobody: no destination"),
        (("1", "--destination", "mian"), "--destination mian: the settings have no such destination; they have main"),
    ],
)
def test_what_cannot_be_is_refused(
    project: Project, sql: psycopg.Connection, arguments: tuple[str, ...], message: str
) -> None:
    """Exit code 2, a reason, and nothing changed."""
    ran = project("resend", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert marked(sql) == {}


def test_mapping_that_is_not_in_force_is_refused(project: Project, sql: psycopg.Connection) -> None:
    """Orders would be assembled by the old mapping: nothing would change."""
    sql.execute("update mapping_in_force set version = 'another'")
    ran = project("resend", "--changed", "--yes")
    assert ran.code == 2
    assert "mapping another is in force, the file here is " in ran.err
    assert marked(sql) == {}


def test_destination_that_never_started_is_refused(project: Project, sql: psycopg.Connection) -> None:
    """A destination of the settings that the state does not know yet has nothing to send anew."""
    project.sections["destinations"] = {"new": {"base_url": "http://z", "client_id": "c"}}
    ran = project("resend", "1")
    assert ran.code == 2
    assert "destinations.new: the state does not know it yet" in ran.err
