"""From the bytes of one Kafka message to a `Change`, a `Skip` or a `Reject`.

Reads Debezium's envelope (before, after, source, op) and rows that its transform flattened (`flat.py`), in JSON, with
or without the schema wrapper, and in Avro, key and value each on its own.
https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
"""

from __future__ import annotations

from typing import Any

from daemon.errors import TryAgain
from daemon.ingest.beside import beside_rows, is_signal, no_envelope, not_json
from daemon.ingest.change import (
    UNCOUNTED,
    Change,
    Decoded,
    Kind,
    Message,
    Oddity,
    Reject,
    RejectReason,
    Skip,
    SkipReason,
)
from daemon.ingest.connect_json import AvroReader, ConnectReader, NotJsonError
from daemon.ingest.flat import Flat
from daemon.ingest.placeholder import Placeholder
from daemon.ingest.plan import Plan, RefusedError, bare_plan, schema_plan
from daemon.ingest.position import log_entry
from daemon.ingest.row_keys import KeyReader
from daemon.ingest.values import InexactError, json_type
from daemon.mapping.identity import hasher
from daemon.mapping.structure import Source, Structure

_NOT_SNAPSHOT = (None, False, "false")
_INCREMENTAL = "incremental"
_OBSERVE_EVERY = 256
_SKIPPED_OPS = {"t": SkipReason.TRUNCATE, "m": SkipReason.LOGICAL_MESSAGE}
_TOMBSTONE_OP = "tombstone"
_POSTGRESQL = "postgresql"
_FOREIGN = ("mysql", "mariadb", "sqlserver")  # where some declared types mean another thing
_SIGNAL_WIDTH = 3
_NUL = "\x00"
_UPSERT = Kind.UPSERT  # members of an enumeration are slow to reach


class Decoder:
    """Decodes the messages of all sources of a structure; keeps no state but what it learned of schemas.

    Raises ValueError when built over a type text that `check_type` refuses. `decode` raises nothing but TryAgain, and
    that only where `avro` does, which it needs for messages whose schema is in a Schema Registry.
    """

    def __init__(self, structure: Structure, avro: AvroReader | None = None) -> None:
        self._sources = {topic: _SourceDecoder(source, avro) for topic, source in structure.by_topic().items()}

    def decode(self, message: Message) -> Decoded:
        """What one message means."""
        decoder = self._sources.get(message.topic)
        if decoder is None:
            return Reject(RejectReason.NOT_DEBEZIUM, "no source of the mapping names this topic", None, None, message)
        try:
            try:
                return decoder.decode(message)
            except InexactError:
                return decoder.decode_exactly(message)
        except RefusedError as refused:
            return decoder.reject(message, refused)
        except TryAgain:
            raise
        except RecursionError:
            return Reject(RejectReason.NOT_DEBEZIUM, "the message is nested too deeply", decoder.name, None, message)
        except Exception as error:  # noqa: BLE001 - whatever a message holds, it is kept and the next one is read
            detail = f"the message cannot be decoded: {type(error).__name__}"
            return Reject(RejectReason.BAD_VALUE, detail, decoder.name, None, message)

    def columns_seen(self) -> dict[str, dict[str, str]]:
        """Column names and types that messages have shown, per source name: a sample where they carry no schema."""
        return {decoder.name: dict(decoder.seen) for decoder in self._sources.values()}


class _SourceDecoder:
    def __init__(self, source: Source, avro: AvroReader | None) -> None:
        self.name = source.name
        self.seen: dict[str, str] = {}
        self._source = source
        self._drop = tuple(source.drop)
        self._hashed = [(column, hasher(what)) for column, what in source.hashed.items()]
        self._placeholder = Placeholder(source.modes)
        self._flat = Flat(source.modes)
        self._values = ConnectReader(self._value_plan, avro)
        self._keys = KeyReader(source, lambda: self._values.latest, avro)
        self._foreign: dict[str, Plan] = {}
        self._widths: set[int] = set()
        self._countdown = 0
        self._told_at: tuple[int, int] | None = None
        self._nulls_delete = False  # rows come flattened, and their deletes as null values

    def decode(self, message: Message, *, exact: bool = False) -> Decoded:
        raw = message.value
        if raw is None:
            return self._tombstone(message)
        try:
            event, plan = self._values.read(raw, exact=exact)
        except NotJsonError:
            raise not_json(raw, "value", "value.converter") from None
        if exact:
            plan = plan.exact
        if event is None:
            return self._tombstone(message)
        if type(event) is not dict:
            raise RefusedError(
                RejectReason.NOT_DEBEZIUM, f"the value is {json_type(event)}, not a Debezium envelope (an object)"
            )
        op, source = event.get("op"), event.get("source")
        if type(source) is not dict or type(op) is not str:
            return beside_rows(event, message) or self._flattened(message, event, plan)
        if op in ("u", "c", "r"):
            before = event.get("before") if op == "u" else None
            return self._upsert(message, op, event.get("after"), source, plan, before)
        if op == "d":
            return self._delete(message, event.get("before"), source, plan)
        if op in _SKIPPED_OPS:
            return Skip(_SKIPPED_OPS[op], op, message)
        raise RefusedError(RejectReason.NOT_DEBEZIUM, "field 'op' is none of c, u, d, r, t, m")

    def decode_exactly(self, message: Message) -> Decoded:
        """Like `decode`, for a message whose numbers need more digits than a float has."""
        try:
            return self.decode(message, exact=True)
        except RefusedError as refused:
            return self.reject(message, refused)

    def reject(self, message: Message, refused: RefusedError) -> Reject:
        """The reject for a refusal, with the row's key where the message key tells it."""
        return Reject(refused.reason, refused.detail, self.name, self._keys.row_of_message(message), message)

    def _upsert(
        self, message: Message, op: str, row: Any, source: dict[str, Any], plan: Plan, before: Any = None
    ) -> Change | Skip:
        if type(row) is not dict:
            raise RefusedError(RejectReason.NOT_DEBEZIUM, f"field 'after' of an op {op} is missing or no object")
        unavailable = self._placeholder.take(message.value or b"{}", row) if op != "r" else ()
        if source.get("connector") != _POSTGRESQL:
            plan = self._foreign_plan(source.get("connector"), plan)
            _refuse_nul(row, self._drop)
        old_key = None if before is None else self._keys.before_update(before, row, plan)
        oddity = plan.apply(row)
        width = len(row)
        self._countdown -= 1
        if self._countdown < 0 or width not in self._widths:
            self._observe(row, plan)
        if width == _SIGNAL_WIDTH and is_signal(row):
            return Skip(SkipReason.SIGNAL, op, message)
        key = self._keys.of_row(row, message)
        for name in self._drop:
            row.pop(name, None)
        for name, digest in self._hashed:
            if row.get(name) is not None:
                row[name] = digest(str(row[name]))
        lineage, position, committed = log_entry(source)
        mode = source.get("snapshot")
        if mode == _INCREMENTAL:
            position = committed = None
        elif position is None and oddity is None:
            oddity = self._told_once(message)
        change = Change(
            self.name,
            key,
            _UPSERT,
            op,
            row,
            unavailable,
            lineage,
            position,
            committed,
            op == "r" or mode not in _NOT_SNAPSHOT,
            message,
            self._header_key(message, "__debezium.oldkey") if op == "c" and message.headers else None,
        )
        if oddity is not None:
            change.oddity = oddity
        if old_key is not None and old_key != key:
            entry = (lineage, position, committed)
            change.old_key = old_key
            change.then = Change(
                self.name, old_key, Kind.DELETE, UNCOUNTED, {}, (), *entry, False, message, new_key=key
            )
        return change

    def _delete(self, message: Message, before: Any, source: dict[str, Any], plan: Plan) -> Change:
        key, oddity = self._keys.of_delete(before, message, self._foreign_plan(source.get("connector"), plan))
        return Change(
            self.name,
            key,
            Kind.DELETE,
            "d",
            {},
            (),
            *log_entry(source),
            False,
            message,
            new_key=self._new_key(message),
            oddity=oddity,
        )

    def _flattened(self, message: Message, row: dict[str, Any], plan: Plan) -> Change | Skip:
        """A row that ExtractNewRecordState flattened. Raises RefusedError where nothing says that it is one."""
        told = self._flat.take(row, message.headers)
        if told is None:
            raise no_envelope(row, message.headers)
        self._nulls_delete = not told.rewritten
        if told.deleted:
            change: Change | Skip = self._delete(message, row, told.source, plan)
        else:
            change = self._upsert(message, told.op or "u", row, told.source, plan)
        if isinstance(change, Change):
            if told.op is None and not told.deleted and message.headers:
                change.old_key = self._header_key(message, "__debezium.oldkey")
            if told.no_position and change.oddity is None:
                change.oddity = self._told_once(message)
        return change

    def _told_once(self, message: Message) -> Oddity | None:
        """NO_LOG_POSITION for the first message it is said of, also when that is decoded again."""
        place = (message.partition, message.offset)
        self._told_at = self._told_at or place
        return Oddity.NO_LOG_POSITION if self._told_at == place else None

    def _tombstone(self, message: Message) -> Change | Skip:
        key = self._keys.of_tombstone(message)
        told = self._flat.of_headers(message.headers) if message.headers else None
        if told is not None and told.no_position:
            told = None  # a tombstone proper: the transform knows nothing of the event before it
        if key is None:
            if told is None and not self._nulls_delete:
                return Skip(SkipReason.TOMBSTONE_OF_OTHER_KEY, _TOMBSTONE_OP, message)
            raise RefusedError(
                RejectReason.NO_KEY,
                "a null value stands for a delete here, and its message key is not the row's key: set "
                "delete.tombstone.handling.mode=rewrite in the transform, or key the messages by the row's key",
            )
        kind, op = (Kind.TOMBSTONE, _TOMBSTONE_OP) if told is None else (Kind.DELETE, "d")
        lineage, position, committed = (None, None, None) if told is None else log_entry(told.source)
        return Change(
            self.name,
            key,
            kind,
            op,
            {},
            (),
            lineage,
            position,
            committed,
            False,
            message,
            new_key=self._new_key(message),
        )

    def _new_key(self, message: Message) -> str | None:
        return self._header_key(message, "__debezium.newkey") if message.headers else None

    def _header_key(self, message: Message, wanted: str) -> str | None:
        for name, raw in message.headers or ():
            if name == wanted and raw is not None:
                return self._keys.of_bytes(raw)
        return None

    def _value_plan(self, schema: dict[str, Any] | None) -> Plan:
        if schema is None:
            return bare_plan(self._source)
        fields = _fields(schema)
        for field in fields:
            if isinstance(field, dict) and field.get("field") == "after" and "fields" in field:
                plan = schema_plan(self._source, _fields(field))
                self.seen.update(plan.types)
                return plan
        return schema_plan(self._source, fields)

    def _foreign_plan(self, connector: Any, plan: Plan) -> Plan:
        """The plan to use instead for a row without a schema, from another kind of connector than PostgreSQL's."""
        bare = self._values.bare
        if (plan is not bare and plan is not bare.exact) or connector not in _FOREIGN:
            return plan
        if connector not in self._foreign:
            self._foreign[connector] = bare_plan(self._source, connector)
        foreign = self._foreign[connector]
        return foreign if plan is bare else foreign.exact

    def _observe(self, row: dict[str, Any], plan: Plan) -> None:
        self._countdown = _OBSERVE_EVERY
        self._widths.add(len(row))
        for name, value in row.items():
            shown = plan.types.get(name) or _SHOWN.get(type(value), "number")
            if shown != "null" or name not in self.seen:
                self.seen[name] = shown


_SHOWN = {type(None): "null", str: "text", bool: "boolean", int: "integer", list: "array", dict: "object"}


def _fields(schema: dict[str, Any]) -> list[Any]:
    fields = schema.get("fields")
    return fields if isinstance(fields, list) else []


def _refuse_nul(row: dict[str, Any], dropped: tuple[str, ...]) -> None:
    for name, value in row.items():
        if type(value) is str and _NUL in value and name not in dropped:
            raise RefusedError(
                RejectReason.BAD_VALUE,
                f"column {name!r}: its text holds U+0000, which PostgreSQL cannot store; `drop:` it",
            )
