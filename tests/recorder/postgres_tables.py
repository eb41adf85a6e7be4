"""A PostgreSQL table as it is now, described and printed by the server itself."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql


def read_table(connection: psycopg.Connection, name: str) -> dict[str, Any]:
    """{"pk": names, "replica_identity": default or full, "columns": [[name, type, not null, default]], "rows": texts}.

    Rows are in the order of the key, each value in the server's own output for its type, None for null.
    """
    columns = connection.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)"
        " from pg_attribute a left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)"
        " where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum",
        [name],
    ).fetchall()
    key = connection.execute(
        "select a.attname, c.relreplident from pg_class c join pg_index i on i.indrelid = c.oid and i.indisprimary"
        " cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)"
        " join pg_attribute a on (a.attrelid, a.attnum) = (c.oid, k.attnum)"
        " where c.oid = %s::regclass order by k.place",
        [name],
    ).fetchall()
    texts = sql.SQL(", ").join(_text(column, kind) for column, kind, *_ in columns)
    order = sql.SQL(", ").join(sql.Identifier(column) for column, _ in key)
    rows = connection.execute(
        sql.SQL("select {} from {} order by {}").format(texts, sql.Identifier(name), order)
    ).fetchall()
    return {
        "pk": [column for column, _ in key],
        "replica_identity": {"d": "default", "f": "full"}[key[0][1]],
        "columns": [list(column) for column in columns],
        "rows": [list(row) for row in rows],
    }


def _text(column: str, kind: str) -> sql.Composed:
    """The column in the server's own output. A time with zone in UTC, for the connector has no other."""
    expression = "{} at time zone 'UTC'" if kind == "time with time zone" else "{}"
    value = sql.SQL(expression).format(sql.Identifier(column))
    return sql.SQL("case when {} is not null then format('%s', {}) end").format(sql.Identifier(column), value)
