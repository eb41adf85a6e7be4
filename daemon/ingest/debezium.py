"""From the bytes of one Kafka message to a `Change`, a `Skip` or a `Reject`.

Reads Debezium's envelope (before, after, source, op) in JSON, with or without the schema wrapper, key and value each on
its own. https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
"""

from __future__ import annotations

from typing import Any

from daemon.ingest.change import Change, Decoded, Kind, Message, Reject, RejectReason, Skip, SkipReason
from daemon.ingest.connect_json import ConnectJson, NotJsonError
from daemon.ingest.placeholder import Placeholder
from daemon.ingest.plan import Plan, RefusedError, bare_plan, schema_plan
from daemon.ingest.position import log_entry
from daemon.ingest.row_keys import KeyReader
from daemon.ingest.values import InexactError, json_type
from daemon.mapping.structure import Source, Structure

_NOT_SNAPSHOT = (None, False, "false")
_INCREMENTAL = "incremental"
_OBSERVE_EVERY = 256
_SKIPPED_OPS = {"t": SkipReason.TRUNCATE, "m": SkipReason.LOGICAL_MESSAGE}
_NO_OP = "-"
_TOMBSTONE_OP = "tombstone"
_REGISTRY_MAGIC = b"\x00"
_NUL = "\x00"
_CONVERTER_CURE = "set value.converter to Kafka Connect's JsonConverter"


class Decoder:
    """Decodes the messages of all sources of a structure; keeps no state but what it learned of schemas.

    Raises ValueError when built over a type text that `check_type` refuses; `decode` raises nothing.
    """

    def __init__(self, structure: Structure) -> None:
        self._sources = {topic: _SourceDecoder(source) for topic, source in structure.by_topic().items()}

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
        except RecursionError:
            return Reject(RejectReason.NOT_DEBEZIUM, "the message is nested too deeply", decoder.name, None, message)
        except Exception as error:  # noqa: BLE001 - whatever a message holds, it is kept and the next one is read
            detail = f"the message cannot be decoded: {type(error).__name__}"
            return Reject(RejectReason.BAD_VALUE, detail, decoder.name, None, message)

    def columns_seen(self) -> dict[str, dict[str, str]]:
        """Column names and types that messages have shown, per source name: a sample where they carry no schema."""
        return {decoder.name: dict(decoder.seen) for decoder in self._sources.values()}


class _SourceDecoder:
    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.seen: dict[str, str] = {}
        self._source = source
        self._drop = tuple(source.drop)
        self._placeholder = Placeholder(source.modes)
        self._values = ConnectJson(self._value_plan)
        self._keys = KeyReader(source, latest_plan=lambda: self._values.latest)
        self._widths: set[int] = set()
        self._countdown = 0

    def decode(self, message: Message, *, exact: bool = False) -> Decoded:
        raw = message.value
        if raw is None:
            return self._tombstone(message)
        try:
            event, plan = self._values.read(raw, exact=exact)
        except NotJsonError:
            raise RefusedError(RejectReason.NOT_JSON, _not_json(raw)) from None
        if event is None:
            return self._tombstone(message)
        if type(event) is not dict:
            raise RefusedError(
                RejectReason.NOT_DEBEZIUM, f"the value is {json_type(event)}, not a Debezium envelope (an object)"
            )
        op, source = event.get("op"), event.get("source")
        if type(source) is not dict or type(op) is not str:
            return _beside_rows(event, message)
        if op in ("u", "c", "r"):
            return self._upsert(message, op, event.get("after"), source, plan)
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

    def _upsert(self, message: Message, op: str, row: Any, source: dict[str, Any], plan: Plan) -> Change:
        if type(row) is not dict:
            raise RefusedError(RejectReason.NOT_DEBEZIUM, f"field 'after' of an op {op} is missing or no object")
        unavailable = self._placeholder.take(message.value or b"", row) if op != "r" else ()
        plan.apply(row)
        self._countdown -= 1
        if self._countdown < 0 or len(row) not in self._widths:
            self._observe(row, plan)
        if source.get("connector") != "postgresql":
            _refuse_nul(row)
        key = self._keys.of_row(row, message)
        for name in self._drop:
            row.pop(name, None)
        lineage, position, committed = log_entry(source)
        mode = source.get("snapshot")
        if mode == _INCREMENTAL:
            position = committed = None
        return Change(
            self.name,
            key,
            Kind.UPSERT,
            op,
            row,
            unavailable,
            lineage,
            position,
            committed,
            op == "r" or mode not in _NOT_SNAPSHOT,
            message,
            old_key=self._header_key(message, "__debezium.oldkey") if op == "c" and message.headers else None,
        )

    def _delete(self, message: Message, before: Any, source: dict[str, Any], plan: Plan) -> Change:
        key, oddity = self._keys.of_delete(before, message, plan)
        new_key = self._header_key(message, "__debezium.newkey") if message.headers else None
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
            new_key=new_key,
            oddity=oddity,
        )

    def _tombstone(self, message: Message) -> Change | Skip:
        key = self._keys.of_tombstone(message)
        if key is None:
            return Skip(SkipReason.TOMBSTONE_OF_OTHER_KEY, _TOMBSTONE_OP, message)
        return Change(self.name, key, Kind.TOMBSTONE, _TOMBSTONE_OP, {}, (), None, None, None, False, message)

    def _header_key(self, message: Message, wanted: str) -> str | None:
        for name, raw in message.headers or ():
            if name == wanted and raw is not None:
                return self._keys.of_bytes(raw)
        return None

    def _value_plan(self, schema: dict[str, Any] | None) -> Plan:
        if schema is None:
            return bare_plan(self._source)
        for field in _fields(schema):
            if isinstance(field, dict) and field.get("field") == "after":
                plan = schema_plan(self._source, _fields(field))
                self.seen.update(plan.types)
                return plan
        return schema_plan(self._source, ())

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


def _not_json(raw: bytes) -> str:
    if raw.startswith(_REGISTRY_MAGIC):
        return f"the value looks like Avro or Protobuf: {_CONVERTER_CURE}"
    return f"the value is not JSON: {_CONVERTER_CURE}"


def _refuse_nul(row: dict[str, Any]) -> None:
    for name, value in row.items():
        if type(value) is str and _NUL in value:
            raise RefusedError(
                RejectReason.BAD_VALUE,
                f"column {name!r}: its text holds U+0000, which PostgreSQL cannot store; `drop:` it",
            )


def _beside_rows(event: dict[str, Any], message: Message) -> Skip:
    """The Debezium messages that are about no row. Raises RefusedError for everything else."""
    if event.keys() == {"ts_ms"}:
        return Skip(SkipReason.HEARTBEAT, _NO_OP, message)
    if event.get("status") in ("BEGIN", "END") and "id" in event and "event_count" in event:
        return Skip(SkipReason.TRANSACTION, _NO_OP, message)
    if "ddl" in event and ("databaseName" in event or "tableChanges" in event):
        return Skip(SkipReason.SCHEMA_CHANGE, _NO_OP, message)
    unwrapped = any(name in event for name in ("__deleted", "__op", "__lsn", "__source_ts_ms"))
    seen = (
        "was flattened by ExtractNewRecordState"
        if unwrapped
        else "has no Debezium envelope (before, after, source, op)"
    )
    raise RefusedError(
        RejectReason.NOT_DEBEZIUM,
        f"the value {seen}: remove that transform (often named `unwrap`) from the connector's `transforms`",
    )
