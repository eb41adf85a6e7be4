"""Which converter a column needs: from its declared type and the connector's modes, or from its Connect schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, cast

from daemon.ingest import temporal, values
from daemon.ingest.change import ColumnValue
from daemon.ingest.temporal import MICROS, MILLIS, NANOS
from daemon.ingest.values import Converter
from daemon.mapping.column_types import MAX_SCALE, ColumnType, Family, parse_type
from daemon.mapping.structure import ConnectorModes


@dataclass(frozen=True, slots=True)
class Reader:
    """How to read one column: a value of exactly the class `ready` is kept as it is, all others are converted."""

    convert: Converter
    ready: type = NoneType


def _by_millis_or_micros(digits: int) -> int:
    return MILLIS if digits <= 3 else MICROS if digits <= 6 else NANOS  # digits of a second


_UNIT_OF_MODE: dict[str, Callable[[int], int]] = {
    "adaptive": _by_millis_or_micros,
    "adaptive_time_microseconds": _by_millis_or_micros,
    "connect": lambda _: MILLIS,
    "microseconds": lambda _: MICROS,
    "nanoseconds": lambda _: NANOS,
}
_TIME_DIGITS = {"sqlserver": 7}  # of a `time` that names none; 6 elsewhere
_MONEY_SCALE = {"sqlserver": 4}  # elsewhere 2, PostgreSQL's unless money.fraction.digits says otherwise
_TIME_IN_MICROS = ("mysql", "mariadb")  # where `adaptive` is no mode and times are always counted so
_BYTES_OF_MODE: dict[str, Converter] = {"hex": values.hex_bytes, "base64-url-safe": values.url_safe_bytes}


def declared_reader(text: str, modes: ConnectorModes, connector: str = "") -> Reader | None:
    """The reader for a type text; None where values are kept as they come. Raises ValueError for an unknown type.

    `connector` is the kind of the connector as its events name it, for types that mean another thing elsewhere.
    """
    return _declared(parse_type(text), modes, connector)


def is_decimal(text: str) -> bool:
    """Whether a type text means decimals, or arrays of them. Raises ValueError for an unknown type."""
    wanted = parse_type(text)
    while wanted.element is not None:
        wanted = wanted.element
    return wanted.family in (Family.DECIMAL, Family.MONEY)


def _declared(wanted: ColumnType, modes: ConnectorModes, connector: str) -> Reader | None:
    family = wanted.family
    simple = _SIMPLE.get(family)
    if simple is not None:
        return simple
    if family in (Family.DECIMAL, Family.MONEY):
        scale = _MONEY_SCALE.get(connector, 2) if family is Family.MONEY else wanted.scale
        return Reader(_decimal(scale, modes.decimal_handling_mode))
    if family is Family.UNSIGNED_BIGINT:
        precise = modes.bigint_unsigned_handling_mode == "precise"
        return Reader(values.unscaled_integer, int) if precise else Reader(values.unsigned_integer)
    if family is Family.BYTES:
        convert = _BYTES_OF_MODE.get(modes.binary_handling_mode)
        return Reader(convert) if convert else None
    if family in (Family.TIME, Family.TIMESTAMP):
        return Reader(_clock(wanted, modes.time_precision_mode, connector))
    if family is Family.ARRAY and wanted.element is not None:
        element = _declared(wanted.element, modes, connector)
        return Reader(values.array(_guarded(element))) if element else None
    return None


_SIMPLE = {
    Family.INTEGER: Reader(values.integer, int),
    Family.FLAG: Reader(values.flag, int),
    Family.BOOLEAN: Reader(values.boolean, bool),
    Family.FLOAT: Reader(values.floating, float),
    Family.DATE: Reader(temporal.day),
    Family.ZONED_TIME: Reader(temporal.zoned_time),
    Family.ZONED_TIMESTAMP: Reader(temporal.zoned_timestamp),
    Family.INTERVAL: Reader(temporal.duration(MICROS)),
}


def _decimal(scale: int | None, mode: str) -> Converter:
    if mode != "precise":
        return values.decimal_number
    return values.unscaled_without_scale if scale is None else values.unscaled(scale)


def _clock(wanted: ColumnType, mode: str, connector: str) -> Converter:
    digits = _TIME_DIGITS.get(connector, 6) if wanted.precision is None else wanted.precision
    is_time = wanted.family is Family.TIME
    if mode == "isostring":
        return temporal.local_time if is_time else temporal.local_timestamp
    if is_time and (mode == "adaptive_time_microseconds" or (mode == "adaptive" and connector in _TIME_IN_MICROS)):
        return temporal.time_of_day(MICROS)
    unit = _UNIT_OF_MODE.get(mode, _by_millis_or_micros)(digits)
    return temporal.time_of_day(unit) if is_time else temporal.declared_timestamp(unit)


def _guarded(reader: Reader) -> Converter:
    ready, convert = reader.ready, reader.convert

    def read(value: Any) -> ColumnValue:
        return convert(value) if type(value) is not ready else cast("ColumnValue", value)

    return read


_LOGICAL: dict[str, Reader] = {
    "org.apache.kafka.connect.data.Date": Reader(temporal.day),
    "org.apache.kafka.connect.data.Time": Reader(temporal.time_of_day(MILLIS)),
    "org.apache.kafka.connect.data.Timestamp": Reader(temporal.timestamp(MILLIS)),
    "io.debezium.time.Date": Reader(temporal.day),
    "io.debezium.time.IsoDate": Reader(temporal.day),
    "io.debezium.time.Time": Reader(temporal.time_of_day(MILLIS)),
    "io.debezium.time.MicroTime": Reader(temporal.time_of_day(MICROS)),
    "io.debezium.time.NanoTime": Reader(temporal.time_of_day(NANOS)),
    "io.debezium.time.IsoTime": Reader(temporal.local_time),
    "io.debezium.time.ZonedTime": Reader(temporal.zoned_time),
    "io.debezium.time.Timestamp": Reader(temporal.timestamp(MILLIS)),
    "io.debezium.time.MicroTimestamp": Reader(temporal.timestamp(MICROS)),
    "io.debezium.time.NanoTimestamp": Reader(temporal.timestamp(NANOS)),
    "io.debezium.time.IsoTimestamp": Reader(temporal.local_timestamp),
    "io.debezium.time.ZonedTimestamp": Reader(temporal.zoned_timestamp),
    "io.debezium.time.Interval": Reader(temporal.duration(MICROS)),
    "io.debezium.time.MicroDuration": Reader(temporal.duration(MICROS)),
    "io.debezium.time.NanoDuration": Reader(temporal.duration(NANOS)),
    "io.debezium.data.VariableScaleDecimal": Reader(values.variable_scale),
}
_DECIMAL_NAME = "org.apache.kafka.connect.data.Decimal"


def schema_reader(schema: dict[str, Any], declared: str | None, modes: ConnectorModes) -> Reader | None:
    """The reader for a field of a Connect schema as JsonConverter writes it; None where values are kept as they come.

    A field without a logical name may still be more than it seems (decimals and bytes as strings): there the declared
    type, where one is given, decides. Raises ValueError for a declared type that is unknown.
    """
    return _by_schema(schema, None if declared is None else parse_type(declared), modes)


def _by_schema(schema: dict[str, Any], declared: ColumnType | None, modes: ConnectorModes) -> Reader | None:
    name, kind, items = schema.get("name"), schema.get("type"), schema.get("items")
    if name == _DECIMAL_NAME:
        scale = _scale(schema)
        return Reader(values.unscaled_without_scale if scale is None else values.unscaled(scale))
    if isinstance(name, str) and name in _LOGICAL:
        return _LOGICAL[name]
    if name is not None:
        return None
    if kind == "array" and isinstance(items, dict):
        element = _by_schema(items, None if declared is None else declared.element, modes)
        return Reader(values.array(_guarded(element))) if element else None
    if declared is None:
        return None
    # A decimal of any other type than bytes was not written in precise mode.
    return _declared(declared, modes if kind == "bytes" else replace(modes, decimal_handling_mode="string"), "")


def logical_name(schema: dict[str, Any]) -> Any:
    """The logical name of a field, or of an array's elements; None where there is none."""
    items = schema.get("items")
    return logical_name(items) if schema.get("type") == "array" and isinstance(items, dict) else schema.get("name")


def schema_type(schema: dict[str, Any]) -> str:
    """A short name of a field's type, for people: the logical name's last part, else Connect's own."""
    name, kind = schema.get("name"), schema.get("type")
    if name == _DECIMAL_NAME:
        return f"Decimal({_scale(schema)})"
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"{schema_type(schema['items'])}[]"
    return str(name).rpartition(".")[2] if name else str(kind)


def _scale(schema: dict[str, Any]) -> int | None:
    parameters = schema.get("parameters")
    try:
        scale = int(parameters["scale"]) if isinstance(parameters, dict) else None
    except (KeyError, TypeError, ValueError):
        return None
    return scale if scale is not None and abs(scale) <= MAX_SCALE else None
