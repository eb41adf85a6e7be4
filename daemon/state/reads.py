"""What the commands read, in plain records. Nothing is locked, and clean orders are never scanned.

Every read happens inside `reading`, a read-only transaction. A record is a dict by column name.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import psycopg

from daemon.errors import SchemaError
from daemon.mapping.rows import StoredRow, Wanted
from daemon.settings import Postgres
from daemon.state.database import Cursor, connect, transaction
from daemon.state.migrate import applied_migrations, check_schema, known_migrations
from daemon.state.queries import queries

Record: TypeAlias = "dict[str, Any]"

_SQL = queries("reads.sql")
PAGE = 1000  # rows of the mirror in memory at once
ORDER_PAGE = 500  # orders with their documents


@contextmanager
def reading(settings: Postgres, *, migrated: bool = True) -> Iterator[Cursor]:
    """A read-only transaction. Raises StateUnavailable, and SchemaError where migrations or privileges are missing."""
    with connect(settings) as connection:
        try:
            with transaction(connection, settings) as cursor:
                cursor.execute("set transaction read only")
                if migrated:
                    check_schema(cursor, settings.schema_name)
                yield cursor
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaError(
                f"Postgres: {error.diag.message_primary}; grant the role of postgres.dsn the use of schema "
                f"{settings.schema_name} and its tables, or use the role that ran `order-sync migrate`"
            ) from error


def records(cursor: Cursor, statement: str, **parameters: object) -> list[Record]:
    """All rows of one named statement of reads.sql; times are in UTC."""
    cursor.execute(_SQL[statement], parameters)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, map(_utc, row), strict=True)) for row in cursor.fetchall()]


def _utc(value: object) -> object:
    # The driver hands out times in the time zone of the server's settings.
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def server(cursor: Cursor, settings: Postgres) -> Record:
    """Role, database, version and privileges; works without our schema."""
    [record] = records(cursor, "server", schema=settings.schema_name)
    return record


def schema_difference(cursor: Cursor, settings: Postgres) -> tuple[list[int], list[int]]:
    """Migrations that the schema lacks, and those that it has and this program does not know."""
    known, applied = known_migrations().keys(), applied_migrations(cursor, settings.schema_name)
    return sorted(known - applied), sorted(applied - known)


def columns_seen(cursor: Cursor) -> dict[str, set[str]]:
    """The columns that messages have shown, by source."""
    seen: dict[str, set[str]] = {}
    for record in records(cursor, "columns"):
        seen.setdefault(record["source"], set()).add(record["name"])
    return seen


def rows_of_order(cursor: Cursor, order_key: str) -> list[StoredRow]:
    """All mirrored rows of one order, in source and key order."""
    return [_stored(record) for record in records(cursor, "rows_of_order", root=order_key)]


def rows_at(cursor: Cursor, wanted: Iterable[Wanted]) -> list[StoredRow]:
    """The mirrored rows with these keys, or below these rows."""
    found: list[StoredRow] = []
    names = sorted(wanted)
    for below, statement in ((False, "rows_by_key"), (True, "rows_below")):
        sources, keys = ([name[part] for name in names if name.below is below] for part in (0, 1))
        if keys:
            found += [_stored(record) for record in records(cursor, statement, sources=sources, keys=keys)]
    return found


def mirror(settings: Postgres, source: str, key: str | None, limit: int | None) -> Iterator[str]:
    """JSON lines of one source's rows in key order, each number as it is stored; a page in memory at a time.

    {"key": text, "deleted": bool, "unknown": [column, ...] or ["*"], "columns": {...}}. Raises KeyError for a source
    that was never registered.
    """
    after: str | None = None
    left = limit
    with reading(settings) as cursor:
        number = records(cursor, "source_number", source=source)
        if not number:
            raise KeyError(source)
        found = records(cursor, "mirror_row", source=number[0]["id"], key=key) if key is not None else []
    yield from map(_line, found)
    while key is None and (left is None or left > 0):
        size = PAGE if left is None else min(PAGE, left)
        with reading(settings) as cursor:
            page = records(cursor, "mirror_page", source=number[0]["id"], after=after, limit=size)
        yield from map(_line, page)
        if len(page) < size:
            return
        after = page[-1]["key"]
        left = None if left is None else left - len(page)


def _line(record: Record) -> str:
    head = {"key": record["key"], "deleted": record["deleted"], "unknown": sorted(record["unknown"] or [])}
    # Postgres' own text of the columns: parsing and writing it anew could only lose digits.
    return f'{json.dumps(head, ensure_ascii=False)[:-1]}, "columns": {record["columns"]}}}'


def _stored(record: Record) -> StoredRow:
    return StoredRow(
        source=record["source"],
        key=record["key"],
        root=record["root"],
        columns=json.loads(record["columns"], parse_float=Decimal),
        unknown=frozenset(record["unknown"] or ()),
        deleted=record["deleted"],
        first_seen_ms=record["first_seen"],
        parent=record["parent"],
    )


def order_pages(settings: Postgres, destination: int) -> Iterator[list[Record]]:
    """The records of a destination in key order, with the documents last accepted; a page is a transaction."""
    after = ""
    while True:
        with reading(settings) as cursor:
            page = records(cursor, "order_page", destination=destination, after=after, limit=ORDER_PAGE)
        if not page:
            return
        for record in page:
            body = record["last_accepted"]
            record["last_accepted"] = None if body is None else zlib.decompress(body)
        yield page
        after = page[-1]["order_key"]


def quarantined(cursor: Cursor, limit: int) -> list[Record]:
    """The oldest quarantined orders."""
    return records(cursor, "quarantined_orders", limit=limit)


def rejects(cursor: Cursor, *, limit: int, topic: str | None = None, resolved: bool = False) -> Sequence[Record]:
    """The oldest rejects without their bytes; resolved ones too where asked for."""
    return records(cursor, "rejects", limit=limit, topic=topic, resolved=resolved)
