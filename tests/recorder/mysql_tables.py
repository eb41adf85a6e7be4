"""Tables of MySQL and MariaDB as they are now, and values in the words of their SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from recorder.mysql_server import BinlogServer

_BINARY = re.compile(r"(tiny|medium|long)?blob|(var)?binary")


def read_table(server: BinlogServer, name: str) -> dict[str, Any]:
    """{"pk": names, "replica_identity": full, "columns": [[name, type, not null, default]], "rows": texts or None}."""
    described = _select(
        server,
        ("column_name", "column_type", "is_nullable", "column_default", "column_key"),
        f"information_schema.columns where table_schema = '{server.database}' and table_name = '{name}'"
        " order by ordinal_position",
    )
    key = [str(column) for column, *_, role in described if role == "PRI"]
    texts = [_text(str(column), str(kind)) for column, kind, *_ in described]
    return {
        "pk": key,
        "replica_identity": "full",
        "columns": [
            [column, kind, nullable == "NO", None if default == "NULL" else default]
            for column, kind, nullable, default, _ in described
        ],
        "rows": _select(server, texts, f"{name} order by {', '.join(key)}"),
    }


def _select(server: BinlogServer, expressions: Iterable[str], rest: str) -> list[list[str | None]]:
    """Rows of texts. They travel in hexadecimal, for the client's output cannot tell null from a text."""
    safe = ", ".join(f"coalesce(hex(convert({text} using utf8mb4)), '-')" for text in expressions)
    lines = server.run(f"select {safe} from {rest};")
    return [[None if text == "-" else bytes.fromhex(text).decode() for text in line.split("\t")] for line in lines]


def _text(column: str, kind: str) -> str:
    if kind.startswith("bit"):
        return f"{column} + 0"
    return f"hex({column})" if _BINARY.match(kind) else f"cast({column} as char)"


def literal(value: Any) -> str:
    """A value as SQL writes it. Times are taken to be in UTC."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, Decimal | float):
        return str(value)
    if isinstance(value, datetime):
        value = value.replace(tzinfo=None).isoformat(" ")
    if isinstance(value, date | time):
        value = value.isoformat()
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"
