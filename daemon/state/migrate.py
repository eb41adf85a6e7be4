"""Brings the schema up to this program's version. Safe from several replicas at once: they queue on one lock.

A migration is a numbered `.sql` file, run whole in one transaction together with its row in `schema_migration`.
Migrations only expand what the version before them uses, so that version keeps running on the new schema.
"""

from __future__ import annotations

from importlib.resources import files

import psycopg
from psycopg import sql

from daemon.errors import SchemaError
from daemon.settings import Postgres
from daemon.state.database import Cursor, connect, transaction

# Any constant will do as long as nothing else in this database uses it: "order-sy" as a 64-bit number.
_LOCK = int.from_bytes(b"order-sy")


def known_migrations() -> dict[int, str]:
    """Number and SQL text of every migration this program carries, in order."""
    found = {
        int(entry.name.split("_")[0]): entry.read_text(encoding="utf-8")
        for entry in files("daemon.state").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    }
    return dict(sorted(found.items()))


def applied_migrations(cursor: Cursor, schema: str) -> set[int]:
    """The numbers already applied in this schema; empty where there is no schema yet."""
    cursor.execute("select to_regclass(%s)", [f'"{schema}".schema_migration'])
    row = cursor.fetchone()
    if row is None or row[0] is None:
        return set()
    cursor.execute("select number from schema_migration")
    return {number for (number,) in cursor.fetchall()}


def migrate(settings: Postgres) -> list[int]:
    """Apply what is missing, return its numbers. Raises SchemaError where the role may not, or the schema is newer."""
    known = known_migrations()
    with connect(settings) as connection:
        try:
            return _apply(connection, settings, known)
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaError(
                f"Postgres: the role may not create schema {settings.schema_name}: {error.diag.message_primary}; "
                f"run `order-sync migrate` as a role that may, or grant create on the database"
            ) from error


def _apply(connection: psycopg.Connection[tuple[object, ...]], settings: Postgres, known: dict[int, str]) -> list[int]:
    done: list[int] = []
    with transaction(connection, settings) as cursor:
        cursor.execute("set local statement_timeout to 0")
        cursor.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        applied = applied_migrations(cursor, settings.schema_name)
        _refuse_newer(applied, known)
        if not applied:
            # `if not exists` would ask for the right to create a schema even where one was made for us.
            cursor.execute("select to_regnamespace(%s) is null", [f'"{settings.schema_name}"'])
            if cursor.fetchone() == (True,):
                cursor.execute(sql.SQL("create schema {}").format(sql.Identifier(settings.schema_name)))
            cursor.execute(
                "create table schema_migration"
                " (number integer primary key, applied_at timestamptz not null default clock_timestamp())"
            )
        for number, text in known.items():
            if number not in applied:
                cursor.execute(text.encode())
                cursor.execute("insert into schema_migration (number) values (%s)", [number])
                done.append(number)
    return done


def _refuse_newer(applied: set[int], known: dict[int, str]) -> None:
    if newer := sorted(applied - known.keys()):
        raise SchemaError(
            f"Postgres: the schema has migration {newer[-1]}, which this program does not know; run a newer image"
        )


def check_schema(cursor: Cursor, schema: str) -> None:
    """Raise SchemaError where migrations are missing. A newer schema is fine: it only expands what we use."""
    applied = applied_migrations(cursor, schema)
    if missing := sorted(known_migrations().keys() - applied):
        what = f"lacks migration {missing[0]}" if applied else "is not there"
        raise SchemaError(f"Postgres: schema {schema} {what}; run `order-sync migrate` first")
