"""The signal that lets a running connector send rows again: an incremental snapshot, as SQL for the OMS's database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import orjson

from daemon.contract.tables import Database, Table, identifier, literal, signal_table
from daemon.mapping.column_types import Family, parse_type
from daemon.mapping.structure import Source

# In these families the mirror's text of a value is not the text by which the OMS's database finds it.
_NOT_COMPARABLE = frozenset({Family.BYTES, Family.INTERVAL, Family.ARRAY})


def snapshot_signal(
    table: Table, keys: Iterable[Mapping[str, str]] | None, *, database: Database = Database.POSTGRES
) -> str:
    """The statement that has the connector send rows of a table again: all (None), or those with these column values.

    The table needs a primary key, and the connector the signal table in the same schema. Values are texts: the
    database compares them as the columns' types.
    """
    data: dict[str, object] = {"type": "incremental", "data-collections": [table.text]}
    if keys is not None:
        conditions = " or ".join(_condition(key, database) for key in keys)
        data["additional-conditions"] = [{"data-collection": table.text, "filter": conditions}]
    fresh = "gen_random_uuid()::text" if database is Database.POSTGRES else "uuid()"
    values = ", ".join((fresh, "'execute-snapshot'", literal(json.dumps(data, ensure_ascii=False), database)))
    return f"insert into {signal_table(table).sql(database)} (id, type, data) values ({values});"  # noqa: S608 - quoted


def _condition(key: Mapping[str, str], database: Database) -> str:
    tests = [
        f"{identifier(column, database, quoted=True)} = {literal(value, database)}" for column, value in key.items()
    ]
    return tests[0] if len(tests) == 1 else f"({' and '.join(tests)})"


def key_columns(source: Source, key: str) -> dict[str, str] | None:
    """The columns of a row's canonical key; None where the OMS's database cannot be asked by them.

    That is so for a source whose key columns the mapping does not tell, and for types that the mirror writes otherwise.
    """
    if source.key is None or any(_elsewise(source.types.get(column)) for column in source.key):
        return None
    if len(source.key) == 1:
        return {source.key[0]: key}
    try:
        texts = orjson.loads(key)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(texts, list) or len(texts) != len(source.key):
        return None
    return dict(zip(source.key, map(str, texts), strict=True))


def _elsewise(declared: str | None) -> bool:
    return declared is not None and parse_type(declared).family in _NOT_COMPARABLE


def signal_for(source: Source, table: Table, keys: Sequence[str], *, database: Database = Database.POSTGRES) -> str:
    """The signal for rows by their canonical keys; for the whole table where one of them cannot be asked for."""
    columns = [key_columns(source, key) for key in keys]
    known = [found for found in columns if found is not None]
    return snapshot_signal(table, known if known and len(known) == len(columns) else None, database=database)
