"""Avro of a Schema Registry: the same rows as from JSON, whatever the converter wrote into the schema."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import BrokerUnavailable
from daemon.ingest.avro import ConfluentAvro, RegisteredSchema
from daemon.ingest.avro_forms import without_logical_types
from daemon.ingest.change import Change, Decoded, Kind, Message, Oddity, Reject, RejectReason, Skip
from daemon.ingest.debezium import Decoder
from daemon.mapping.structure import ConnectorModes, Role, Source, Structure

TOPIC = "oms.public.orders"
NAMESPACE = TOPIC
PLACEHOLDER = "__debezium_unavailable_value"
SOURCE = {"connector": "postgresql", "name": "oms", "db": "shop", "schema": "public", "table": "orders"}


def named(kind: str, name: str, **parameters: str) -> dict[str, Any]:
    """A type with Connect's logical name, as AvroConverter writes it."""
    return {"type": kind, "connect.version": 1, "connect.name": name, "connect.parameters": parameters}


def decimal(scale: int) -> dict[str, Any]:
    """A decimal in precise mode."""
    name = "org.apache.kafka.connect.data.Decimal"
    return named("bytes", name, scale=str(scale)) | {"scale": scale, "precision": 64, "logicalType": "decimal"}


def optional(kind: Any) -> list[Any]:
    """A nullable column."""
    return ["null", kind]


def record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A struct."""
    listed = [{"name": field, "type": kind} for field, kind in fields.items()]
    return {
        "type": "record",
        "name": name,
        "namespace": NAMESPACE,
        "fields": listed,
        "connect.name": f"{NAMESPACE}.{name}",
    }


def envelope(columns: dict[str, Any]) -> dict[str, Any]:
    """The schema of Debezium's envelope; `after` refers to the record that `before` defines."""
    block = {name: optional("string") for name in (*SOURCE, "snapshot")}
    fields = {
        "before": optional(record("Value", columns)),
        "after": optional("Value"),
        "source": record("Source", block | {"ts_ms": "long", "lsn": optional("long")}),
        "op": "string",
    }
    return record("Envelope", fields)


def event(op: str = "u", before: Any = None, after: Any = None, **source: Any) -> dict[str, Any]:
    """An envelope's value."""
    block = SOURCE | {"snapshot": "false", "ts_ms": 5000, "lsn": 100} | source
    return {"before": before, "after": after, "op": op, "source": block}


KEY = record("Key", {"id": "long"})


class Registry:
    """Schemas by id, and which were asked for."""

    def __init__(self, *schemas: Any) -> None:
        self.schemas = {
            number: RegisteredSchema("AVRO", json.dumps(schema)) for number, schema in enumerate(schemas, 1)
        }
        self.asked: list[int] = []

    def schema(self, number: int) -> RegisteredSchema | None:
        """The look-up that the decoder is handed."""
        self.asked.append(number)
        return self.schemas.get(number)

    def written(self, number: int, value: Any) -> bytes:
        """A value in the wire format, its dates and decimals as plain numbers and bytes."""
        schema = without_logical_types(json.loads(self.schemas[number].text))
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
        return b"\x00" + number.to_bytes(4, "big") + stream.getvalue()


def decoder(
    look_up: Callable[[int], RegisteredSchema | None], modes: ConnectorModes | None = None, **fields: Any
) -> Decoder:
    """A decoder of one source, with a registry."""
    source = Source("orders", TOPIC, Role.ROOT, modes=modes or ConnectorModes(), **({"key": ("id",)} | fields))
    return Decoder(Structure("orders", {"orders": source}, "v1"), ConfluentAvro(look_up))


def message(value: bytes | None, key: bytes | None = None) -> Message:
    """A message."""
    return Message(TOPIC, 0, 7, 1000, key, value, None)


def change(decoded: Decoded) -> Change:
    """The outcome, which must be a change."""
    assert isinstance(decoded, Change), decoded
    return decoded


def reject(decoded: Decoded) -> Reject:
    """The outcome, which must be a reject."""
    assert isinstance(decoded, Reject), decoded
    return decoded


def read(kind: Any, value: Any, declared: str | None = None, modes: ConnectorModes | None = None) -> Any:
    """What becomes of one column's value."""
    registry = Registry(envelope({"id": "long", "c": kind}))
    subject = decoder(registry.schema, modes, types={"c": declared} if declared else {})
    return change(subject.decode(message(registry.written(1, event(after={"id": 1, "c": value}))))).columns["c"]


VARIABLE = record("VariableScaleDecimal", {"scale": "int", "value": "bytes"}) | {
    "connect.name": "io.debezium.data.VariableScaleDecimal"
}
POINT = record("Point", {"x": "double", "y": "double", "wkb": optional("bytes"), "srid": optional("int")})


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("boolean", True, True),
        ({"type": "int", "connect.type": "int16"}, 7, 7),
        ("long", 2**62, 2**62),
        ("string", "né", "né"),
        (optional("string"), None, None),
        (decimal(2), b"\x00\xe5\x9a", Decimal("587.78")),
        (optional(decimal(4)), b"\xff", Decimal("-0.0001")),
        (named("bytes", "org.apache.kafka.connect.data.Decimal", scale="2"), b"\x01\xf4", Decimal("5.00")),
        (VARIABLE, {"scale": 3, "value": b"\x01\xe2@"}, Decimal("123.456")),
        (named("int", "io.debezium.time.Date"), 20404, "2025-11-12"),
        (named("int", "org.apache.kafka.connect.data.Date") | {"logicalType": "date"}, 0, "1970-01-01"),
        (named("long", "io.debezium.time.MicroTimestamp"), 1772353276726580, "2026-03-01T08:21:16.72658"),
        (named("long", "org.apache.kafka.connect.data.Timestamp"), 1500, "1970-01-01T00:00:01.5"),
        (named("string", "io.debezium.time.ZonedTimestamp"), "2026-03-01T08:00:00.500Z", "2026-03-01T08:00:00.5Z"),
        (named("long", "io.debezium.time.MicroTime"), 63000500000, "17:30:00.5"),
        (named("long", "io.debezium.time.MicroDuration"), 7, 7),
        (named("string", "io.debezium.data.Json"), '{"a": 1.50}', '{"a": 1.50}'),
        (named("string", "io.debezium.data.Enum", allowed="a,b"), "a", "a"),
        (named("bytes", "io.debezium.data.Bits", length="9"), b"\x01\x01", "AQE="),
        ("bytes", b"*\x12\x05", "KhIF"),
        ({"type": "array", "items": optional("string")}, ["a", None], ["a", None]),
        ({"type": "array", "items": optional(decimal(2))}, [b"\x00", None], [Decimal("0.00"), None]),
        ({"type": "array", "items": "bytes"}, [b"*"], ["Kg=="]),
        ({"type": "map", "values": optional("string")}, {"a": None}, {"a": None}),
        ({"type": "map", "values": "bytes"}, {"a": b"*"}, {"a": "Kg=="}),
        (
            optional(POINT),
            {"x": 1.5, "y": 2.0, "wkb": b"*", "srid": None},
            {"x": 1.5, "y": 2.0, "wkb": "Kg==", "srid": None},
        ),
        ("double", 0.1, 0.1),
        ("double", float("nan"), "NaN"),
        ("double", float("-inf"), "-Infinity"),
        ("float", 0.1, 0.1),
        ("float", 16777216.0, 16777216.0),
        ("float", 3.4028234663852886e38, 3.4028235e38),
        ("float", float("inf"), "Infinity"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
        ({"type": "fixed", "name": "F", "size": 2}, b"*\x12", "KhI="),
        (["null", "bytes", "double"], b"*", "Kg=="),
    ],
)
def test_a_column_reads_as_from_json(kind: Any, value: Any, kept: Any) -> None:
    """Connect's names in the Avro schema lead to the same conversions; bytes, NaN and 32-bit floats look as in JSON."""
    got = read(kind, value)
    assert (got, type(got), str(got)) == (kept, type(kept), str(kept))


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ({"type": "bytes", "logicalType": "decimal", "scale": 2, "precision": 9}, b"\x00\xe5\x9a", Decimal("587.78")),
        ({"type": "int", "logicalType": "date"}, 20404, "2025-11-12"),
        ({"type": "int", "logicalType": "time-millis"}, 500, "00:00:00.5"),
        ({"type": "long", "logicalType": "timestamp-millis"}, 1500, "1970-01-01T00:00:01.5"),
        ({"type": "long", "logicalType": "timestamp-micros"}, 1500, "1970-01-01T00:00:00.0015"),
    ],
)
def test_avros_own_logical_types_stand_in_for_connects_names(kind: Any, value: Any, kept: Any) -> None:
    """connect.meta.data=false leaves Connect's names out."""
    got = read(kind, value)
    assert (got, type(got)) == (kept, type(kept))


def test_declared_types_read_what_the_schema_does_not_name() -> None:
    """As with JSON: decimals as text or doubles, bytes in hex, Debezium's own types without Connect's names."""
    string, double = (ConnectorModes(decimal_handling_mode=mode) for mode in ("string", "double"))
    assert read("string", "587.78", "numeric(12,2)", string) == Decimal("587.78")
    assert read("double", 587.78, "numeric(12,2)", double) == Decimal("587.78")
    assert read("int", 20404, "date") == "2025-11-12"
    assert read("string", "2a1205", "bytea", ConnectorModes(binary_handling_mode="hex")) == "KhIF"


def test_an_inexact_double_is_flagged_and_folded() -> None:
    """More digits than a double keeps, in a declared decimal."""
    registry = Registry(envelope({"id": "long", "c": "double"}))
    subject = decoder(registry.schema, ConnectorModes(decimal_handling_mode="double"), types={"c": "numeric(20,4)"})
    got = change(subject.decode(message(registry.written(1, event(after={"id": 1, "c": 1234567890123.4568})))))
    assert (got.oddity, got.columns["c"]) == (Oddity.INEXACT_DOUBLE, Decimal("1234567890123.4568"))


def test_envelope_key_and_tombstone() -> None:
    """An update, a delete and its tombstone, key and value each by its own schema; each schema is asked for once."""
    registry = Registry(KEY, envelope({"id": "long", "note": optional("string")}))
    subject, key = decoder(registry.schema, key=None), registry.written(1, {"id": 7})
    row = {"id": 7, "note": "x"}
    got = change(subject.decode(message(registry.written(2, event(after=row)), key)))
    assert (got.key, got.kind, got.columns) == ("7", Kind.UPSERT, row)
    assert (got.lineage, got.position, got.committed_ms) == ("postgresql/oms/shop/public/orders", (100,), 5000)
    gone = change(subject.decode(message(registry.written(2, event("d", before={"id": 7, "note": None})), key)))
    assert (gone.key, gone.kind) == ("7", Kind.DELETE)
    assert change(subject.decode(message(None, key))).kind is Kind.TOMBSTONE
    assert sorted(registry.asked) == [1, 2]


def test_key_and_value_may_be_avro_independently() -> None:
    """Connect sets the two converters apart."""
    registry = Registry(KEY, envelope({"id": "long"}))
    subject = decoder(registry.schema, key=None)
    values = (registry.written(2, event(after={"id": 7})), json.dumps(event(after={"id": 7})).encode())
    for value in values:
        for key in (registry.written(1, {"id": 7}), b'{"id":7}'):
            assert change(subject.decode(message(value, key))).key == "7"


def test_a_schema_that_changes_midway_is_followed() -> None:
    """Each message is read by its own schema."""
    registry = Registry(envelope({"id": "long", "total": decimal(2)}), envelope({"id": "long", "total": decimal(4)}))
    subject = decoder(registry.schema)
    for number, total in ((1, "5.00"), (2, "0.0500"), (1, "5.00")):
        raw = registry.written(number, event(after={"id": 1, "total": b"\x01\xf4"}))
        assert change(subject.decode(message(raw))).columns["total"] == Decimal(total)
    assert subject.columns_seen()["orders"] == {"id": "int64", "total": "Decimal(4)"}


def test_flattened_rows_may_be_avro() -> None:
    """The record is the row itself, with what the transform added."""
    columns = {"id": "long", "total": decimal(2), "__op": optional("string"), "__lsn": optional("long")}
    registry = Registry(record("Value", columns | {"__source_ts_ms": "long", "__deleted": "string"}))
    subject = decoder(registry.schema)
    row = {"id": 1, "total": b"\x01\xf4", "__op": "c", "__lsn": 9, "__source_ts_ms": 5, "__deleted": "false"}
    got = change(subject.decode(message(registry.written(1, row))))
    assert (got.columns, got.op, got.position) == ({"id": 1, "total": Decimal("5.00")}, "c", (9,))
    gone = change(subject.decode(message(registry.written(1, row | {"__deleted": "true"}))))
    assert (gone.kind, gone.key) == (Kind.DELETE, "1")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", PLACEHOLDER),
        ("bytes", PLACEHOLDER.encode()),
        ({"type": "array", "items": optional("string")}, [PLACEHOLDER]),
        ({"type": "array", "items": "int"}, list(PLACEHOLDER.encode())),
        ({"type": "map", "values": optional("string")}, {PLACEHOLDER: PLACEHOLDER}),
    ],
)
def test_an_unavailable_value_is_no_value(kind: Any, value: Any) -> None:
    """The placeholder is found in Avro's bytes too, where texts stand bare and numbers as zigzag."""
    registry = Registry(envelope({"id": "long", "big": kind}))
    got = change(decoder(registry.schema).decode(message(registry.written(1, event(after={"id": 1, "big": value})))))
    assert (got.unavailable, got.columns) == (("big",), {"id": 1})


def test_an_unknown_schema_is_a_reject_and_is_asked_for_again() -> None:
    """The registry answers that it has none: perhaps it is the wrong one. Once it has, the same message is read."""
    registry = Registry(envelope({"id": "long"}), KEY)
    raw, key = registry.written(1, event(after={"id": 7})), registry.written(2, {"id": 7})
    known = registry.schemas.pop(1)
    subject = decoder(registry.schema)
    got = reject(subject.decode(message(raw, key)))
    assert (got.reason, got.key) == (RejectReason.NOT_AVRO, "7")
    assert "no schema 1" in got.detail
    assert "kafka.schema_registry_url" in got.detail
    registry.schemas[1] = known
    assert change(subject.decode(message(raw, key))).key == "7"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (RegisteredSchema("PROTOBUF", "syntax"), "PROTOBUF"),
        (RegisteredSchema("JSON", "{}"), "JSON"),
        (RegisteredSchema("AVRO", '"string"', references=True), "refers to schemas of other subjects"),
        (RegisteredSchema("AVRO", "{"), "cannot be used"),
        (RegisteredSchema("AVRO", '{"type": "recrd"}'), "cannot be used"),
        (RegisteredSchema("AVRO", '"long"'), "left behind"),
        (RegisteredSchema("AVRO", json.dumps(record("R", {"a": "string", "b": "string"}))), "do not fit"),
    ],
)
def test_what_is_not_read_says_so(found: RegisteredSchema, words: str) -> None:
    """Other kinds of schema, and bytes that the schema does not fit."""
    got = reject(decoder(lambda _: found).decode(message(b"\x00\x00\x00\x00\x07\x02ab")))
    assert got.reason is RejectReason.NOT_AVRO
    assert words in got.detail


@pytest.mark.parametrize("raw", [b"\x00", b"\x00\x00\x00\x00", b"\x00" * 8])
def test_a_value_cut_off_is_a_reject(raw: bytes) -> None:
    """Too short for an id, or an id that no registry gives."""
    assert reject(decoder(lambda _: None).decode(message(raw))).reason is RejectReason.NOT_AVRO


def test_a_registry_that_is_away_is_no_reject() -> None:
    """Its error passes through the decoder, so that ingest pauses; nothing of it is remembered."""
    registry = Registry(envelope({"id": "long"}))
    raw = registry.written(1, event(after={"id": 7}))
    away = True

    def look_up(number: int) -> RegisteredSchema | None:
        if away:
            raise BrokerUnavailable("the Schema Registry is away")
        return registry.schema(number)

    subject = decoder(look_up)
    with pytest.raises(BrokerUnavailable):
        subject.decode(message(raw))
    with pytest.raises(BrokerUnavailable):
        subject.decode(message(b"{", raw))  # a reject's key is looked for as well
    away = False
    assert change(subject.decode(message(raw))).key == "7"


COLUMNS = {"id": "long", "note": optional("string"), "total": decimal(2), "tags": {"type": "array", "items": "double"}}


@given(tail=st.binary(max_size=60), key=st.none() | st.binary(max_size=12))
def test_any_bytes_are_decoded_without_an_exception(tail: bytes, key: bytes | None) -> None:
    """Behind a schema id stands whatever the producer wrote."""
    registry = Registry(envelope(COLUMNS), KEY)
    for number in (1, 2):
        raw = b"\x00" + number.to_bytes(4, "big") + tail
        assert isinstance(decoder(registry.schema).decode(message(raw, key)), Change | Skip | Reject)
