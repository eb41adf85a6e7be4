"""The row that a message is about: from the declared key columns, or from the message key where none are declared."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from daemon.ingest.beside import not_json
from daemon.ingest.change import Message, Oddity, RejectReason
from daemon.ingest.connect_json import AvroReader, ConnectReader, NotJsonError
from daemon.ingest.plan import Plan, RefusedError, bare_plan, schema_plan
from daemon.ingest.values import InexactError
from daemon.mapping.keys import row_key
from daemon.mapping.structure import Source

_NUL = "\x00"  # PostgreSQL stores no text with it
_ROUTED = "__dbz__physicalTableIdentifier"  # ByLogicalTableRouter adds it to the message key, and to nothing else
_SCALAR = ""  # the column name of a message key that is no object
_ZERO_TEXTS = frozenset(("", "AA==", "1970-01-01", "1970-01-01T00:00:00", "00:00:00"))


class KeyReader:
    """Finds canonical row keys (`daemon.mapping.keys`) of one source."""

    def __init__(self, source: Source, latest_plan: Callable[[], Plan], avro: AvroReader | None = None) -> None:
        self._source = source
        self._columns = source.key
        self._only = source.key[0] if source.key is not None and len(source.key) == 1 else None
        self._latest_plan = latest_plan
        self._reader = ConnectReader(self._plan, avro)

    def of_row(self, row: dict[str, Any], message: Message) -> str:
        """The key of a converted full image. Raises RefusedError."""
        if self._only is not None:
            value = row.get(self._only)
            if value.__class__ is int or value.__class__ is str:
                return str(value)
        if self._columns is not None:
            return self._canonical(row, self._columns, "after")
        fields = self._message_fields(message)
        return self._canonical(row if fields.keys() <= row.keys() else fields, tuple(fields), "the message key")

    def of_delete(self, before: Any, message: Message, plan: Plan) -> tuple[str, Oddity | None]:
        """The key of a deleted row, and what is odd about the message key. Raises RefusedError.

        Under the default replica identity `before` holds zero values, not nulls, in all columns but the identity's:
        a message key made of such columns is made of zeros, and a row key that is not the identity cannot be read.
        """
        if self._columns is None:
            fields = self._message_fields(message)
            return self._canonical(fields, tuple(fields), "the message key"), None
        try:
            fields = self._message_fields(message)
        except RefusedError:
            fields = {}
        held = before if type(before) is dict else {}
        if any(held.get(name) is None for name in self._columns):
            if fields.keys() != set(self._columns):
                raise self._missing("before")
            return self._canonical(fields, self._columns, "the message key"), None
        if any(name not in fields and is_zero(held[name]) for name in self._columns):
            raise RefusedError(
                RejectReason.NO_KEY,
                "the key columns of `before` hold zero values: set REPLICA IDENTITY FULL on the table, or name the "
                f"columns of its replica identity under `key:` of source {self._source.name!r}",
            )
        row = {name: held[name] for name in self._columns}
        plan.apply(row)
        odd = any(name not in row and is_zero(value) for name, value in fields.items())
        return self._canonical(row, self._columns, "before"), Oddity.IMPOSSIBLE_MESSAGE_KEY if odd else None

    def before_update(self, before: Any, row: dict[str, Any], plan: Plan) -> str | None:
        """The key that an update's row, not converted yet, had before it; None where it is the same or is not told.

        A change of the primary key is told as a delete and an insert, unless the message key leaves it out.
        """
        if self._columns is None or type(before) is not dict:
            return None
        if self._only is not None and before.get(self._only) == row.get(self._only):  # nearly always
            return None
        held = {name: before.get(name) for name in self._columns}
        if None in held.values() or all(row.get(name) == value for name, value in held.items()):
            return None
        plan.apply(held)
        return self._canonical(held, self._columns, "before")

    def of_tombstone(self, message: Message) -> str | None:
        """The key in the message key; None where it is not the row's key. Raises RefusedError if it is not JSON."""
        if message.key is None:
            return None
        return self._exactly(self._message_fields(message))

    def row_of_message(self, message: Message) -> str | None:
        """The key in the message key; None where it cannot be read or is not the row's key."""
        return None if message.key is None else self.of_bytes(message.key, whole=True)

    def of_bytes(self, raw: bytes, *, whole: bool = False) -> str | None:
        """The row key within a key's bytes, if it is there. `whole`: only if it has no column besides."""
        try:
            fields = self._fields(raw)
            if self._columns is None or whole:
                return self._exactly(fields)
            return self._canonical(fields, self._columns, "the message key")
        except RefusedError:
            return None

    def _exactly(self, fields: dict[str, Any]) -> str | None:
        if self._columns is not None and fields.keys() != set(self._columns):
            return None
        try:
            return self._canonical(fields, self._columns or tuple(fields), "the message key")
        except RefusedError:
            return None

    def _message_fields(self, message: Message) -> dict[str, Any]:
        if message.key is None:
            raise RefusedError(
                RejectReason.NO_KEY,
                f"the message has no key, as of a table without primary key: declare `key:` of source "
                f"{self._source.name!r}, or set message.key.columns in the connector",
            )
        return self._fields(message.key)

    def _fields(self, raw: bytes) -> dict[str, Any]:
        try:
            payload, plan = self._reader.read(raw)
            fields = self._named(payload)
            (self._latest_plan() if plan is self._reader.bare else plan).apply(fields)
        except InexactError:
            payload, plan = self._reader.read(raw, exact=True)
            fields = self._named(payload)
            (self._latest_plan() if plan is self._reader.bare else plan).apply(fields)
        except NotJsonError:
            raise not_json(raw, "message key", "key.converter") from None
        return fields

    def _named(self, payload: Any) -> dict[str, Any]:
        if type(payload) is not dict:
            return {self._only or _SCALAR: payload}
        if self._columns is not None and _ROUTED in payload and _ROUTED not in self._columns:
            del payload[_ROUTED]
        return payload

    def _canonical(self, values: dict[str, Any], columns: tuple[str, ...], place: str) -> str:
        try:
            key = row_key([values[name] for name in columns]) if columns else ""
        except (KeyError, ValueError):
            raise self._missing(place) from None
        if not columns or _NUL in key:
            raise self._missing(place)
        return key

    def _missing(self, place: str) -> RefusedError:
        columns = ", ".join(self._columns or ("?",))
        return RefusedError(
            RejectReason.NO_KEY,
            f"key column {columns} is missing, null or no single value in {place}: "
            f"name the primary key's columns under `key:` of source {self._source.name!r}",
        )

    def _plan(self, schema: dict[str, Any] | None) -> Plan:
        if schema is None:
            return bare_plan(self._source)
        fields = schema.get("fields")
        return schema_plan(self._source, fields if isinstance(fields, list) else ())


def is_zero(value: Any) -> bool:
    """Whether a value, converted or not, is what Debezium writes for a column that it does not know."""
    if isinstance(value, int | float | Decimal):
        return value == 0
    if not isinstance(value, str):
        return False
    return value.removesuffix("Z") in _ZERO_TEXTS or (value[:1] == "0" and not value.strip("0."))
