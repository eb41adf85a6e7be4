"""Rows that Debezium's transform ExtractNewRecordState flattened, and what it added to them about their event.

It adds fields to the row (`add.fields`) or headers to the message (`add.headers`), both under names of one form, and in
its rewriting modes the field `__deleted`. What it was not told to add is not known.
https://debezium.io/documentation/reference/stable/transformations/event-flattening.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from daemon.mapping.structure import ConnectorModes

_DELETED = "__deleted"
_OWN_FIELDS = ("op", "ts_ms", "ts_us", "ts_ns")  # of the envelope itself
_TRANSACTION_FIELDS = ("id", "total_order", "data_collection_order")
_SOURCE_FIELDS = (
    *("version", "connector", "name", "ts_ms", "ts_us", "ts_ns", "snapshot", "db", "sequence", "schema", "table"),
    *("txId", "lsn", "xmin", "origin", "origin_lsn"),
    *("server_id", "gtid", "file", "pos", "row", "thread", "query"),
    *("commit_lsn", "change_lsn", "event_serial_no"),
)
_ALL_FIELDS = (
    *_OWN_FIELDS,
    *_TRANSACTION_FIELDS,
    *_SOURCE_FIELDS,
    *(f"source.{name}" for name in _SOURCE_FIELDS),
    *(f"transaction.{name}" for name in _TRANSACTION_FIELDS),
)
_POSITIONS = {"postgresql": {"lsn"}, "mysql": {"file", "pos"}, "sqlserver": {"commit_lsn"}}
_REMEMBERED_LAYOUTS = 64


@dataclass(slots=True)
class Told:
    """What the transform told about one event. `source` is as much of its source block as can be told.

    `rewritten`: deletes come as rows that say so (`deleted`), in this mode of the transform.
    """

    op: str | None
    deleted: bool
    rewritten: bool
    source: dict[str, Any]

    @property
    def no_position(self) -> bool:
        """Whether the transform was not told to add what puts changes in order. A null position is told."""
        told = self.source.keys()
        return "ts_ms" not in told or not any(fields <= told for fields in _POSITIONS.values())


class Flat:
    """Tells flattened rows of one source from others."""

    def __init__(self, modes: ConnectorModes) -> None:
        self._declared = modes.unwrapped
        self._fields = _names(modes.add_fields, modes.add_fields_prefix) | {_DELETED: _DELETED}
        self._headers = _names(modes.add_headers, modes.add_headers_prefix)
        self._layouts: dict[tuple[str, ...], list[tuple[str, str]]] = {}

    def columns(self, names: Iterable[str]) -> list[str]:
        """The names that are columns, not additions of the transform."""
        return [name for name in names if name not in self._fields]

    def take(self, row: dict[str, Any], headers: Sequence[tuple[str, bytes | None]] | None) -> Told | None:
        """What was told, its fields taken off the row; None where neither row, headers nor mapping say it is one."""
        names = tuple(row)
        layout = self._layouts.get(names)
        if layout is None:
            layout = self._layout(names)
        values = self._of_headers(headers) if headers else {}
        if not layout and not values and not self._declared:
            return None
        for name, field in layout:
            values[field] = row.pop(name)
        return _told(values)

    def of_headers(self, headers: Sequence[tuple[str, bytes | None]]) -> Told | None:
        """What the headers of a message without a value tell; None where they tell nothing."""
        values = self._of_headers(headers)
        return _told(values) if values else None

    def _layout(self, names: tuple[str, ...]) -> list[tuple[str, str]]:
        if len(self._layouts) >= _REMEMBERED_LAYOUTS:
            self._layouts.clear()
        layout = [(name, self._fields[name]) for name in names if name in self._fields]
        self._layouts[names] = layout
        return layout

    def _of_headers(self, headers: Sequence[tuple[str, bytes | None]]) -> dict[str, Any]:
        return {self._headers[name]: _header_value(raw) for name, raw in headers if name in self._headers}


def _names(fields: tuple[str, ...], prefix: str) -> dict[str, str]:
    """The event's field by the name that the transform gives it: of those declared, else of all it may be told of.

    Without a prefix those could be anybody's columns, so there nothing is assumed.
    """
    named = {}
    for text in fields or (_ALL_FIELDS if prefix else ()):
        field, _, renamed = text.partition(":")
        named[prefix + (renamed or field.replace(".", "_"))] = _place(field)
    return named


def _place(field: str) -> str:
    """Where in the event an unqualified field stands."""
    if "." in field or field in _OWN_FIELDS:
        return field
    return f"transaction.{field}" if field in _TRANSACTION_FIELDS else f"source.{field}"


def _header_value(raw: bytes | None) -> Any:
    """A header as one of Connect's header converters wrote it: text as it is, or JSON, bare or behind its schema."""
    if raw is None:
        return None
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")
    if type(value) is dict and "payload" in value:
        value = value["payload"]
    return value


def _told(values: dict[str, Any]) -> Told:
    source = {field.removeprefix("source."): value for field, value in values.items() if field.startswith("source.")}
    kinds = [kind for kind, fields in _POSITIONS.items() if fields <= source.keys()]
    source.setdefault("connector", kinds[0] if kinds else "")
    source.setdefault("name", "")
    op = values.get("op")
    if op == "r" and "lsn" in source and source["lsn"] is None:
        source["snapshot"] = "incremental"  # a snapshot row of PostgreSQL without its position is one of those
    op = op if type(op) is str else None
    return Told(op, op == "d" or values.get(_DELETED) in ("true", True), _DELETED in values, source)
