"""`order-sync migrate`: for a revision of a release, and for a role that only runs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from cli_project import Project
from fixtures.postgres import Database
from psycopg.conninfo import make_conninfo

pytestmark = pytest.mark.postgres


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], empty_database: Database
) -> Project:
    """A project on an empty database, worked on by alice."""
    monkeypatch.setenv("LOGNAME", "alice")
    made = Project(tmp_path, monkeypatch, capsys)
    made.set("postgres", dsn=empty_database.settings.dsn)
    return made


def test_a_release_is_noted_with_its_revision(project: Project, empty_database: Database) -> None:
    """As the init container of every pod runs it."""
    for _ in range(2):
        assert project("migrate", "--release", "sync/shop:7").code == 0
    with closing(empty_database.connect()) as connection:
        noted = connection.execute("select who, arguments from order_sync.operator_action").fetchall()
    assert noted == [("alice", {"release": "sync/shop", "revision": 7})]


@pytest.mark.parametrize("text", ["shop", "shop:", ":3", "shop:x", "shop:-1"])
def test_a_release_without_a_revision_is_refused(project: Project, text: str) -> None:
    """Before anything is changed."""
    ran = project("migrate", "--release", text)
    assert ran.code == 2
    assert "must be NAME:REVISION" in ran.err


def test_the_grants_name_the_role_of_the_settings(project: Project, empty_database: Database) -> None:
    """They are printed as SQL, and nothing is asked or changed. That they suffice: tests/contract."""
    role = f"run_{empty_database.name}"
    project.set("postgres", dsn=make_conninfo(empty_database.settings.dsn, user=role), schema_name="shop")
    ran = project("migrate", "--print-grants")
    assert ran.code == 0
    statements = [line for line in ran.out.splitlines() if line and not line.startswith("--")]
    assert statements[0] == f"grant usage on schema shop to {role};"
    assert len(statements) == 7
    with closing(empty_database.connect()) as connection:
        connection.execute(f"create role {role}")
        try:
            connection.execute("create schema shop")
            connection.execute(ran.out.encode())
        finally:
            connection.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")
