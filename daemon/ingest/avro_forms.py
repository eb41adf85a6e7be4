"""From Avro's schemas and values to those of Kafka Connect's JsonConverter, as far as the two differ.

AvroConverter writes Connect's names and parameters into the Avro schema (`connect.name`, `connect.parameters`); where
it was told not to, Avro's own logical types stand for them.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from daemon.ingest.connect_json import exact_number

Shaper: TypeAlias = Callable[[Any], Any]
"""Brings a value into JsonConverter's form: bytes in base64, numbers that JSON does not know as text."""

_CONNECT = "org.apache.kafka.connect.data."
_LOGICAL_NAMES = {
    "decimal": _CONNECT + "Decimal",
    "date": _CONNECT + "Date",
    "time-millis": _CONNECT + "Time",
    "timestamp-millis": _CONNECT + "Timestamp",
    "time-micros": "io.debezium.time.MicroTime",
    "timestamp-micros": "io.debezium.time.MicroTimestamp",
}
_CONNECT_TYPES = {"int": "int32", "long": "int64", "fixed": "bytes", "enum": "string", "record": "struct"}
_FLOAT32 = struct.Struct("f")
_FLOAT32_DIGITS = range(6, 10)  # nine digits tell any two of them apart


@dataclass(frozen=True, slots=True)
class Form:
    """A schema in JsonConverter's form, and how values get there: None where they need no change.

    `exact` is `plain` but for floating-point numbers of many digits, which it gives as decimals.
    """

    connect: dict[str, Any]
    plain: Shaper | None
    exact: Shaper | None


def form_of(schema: Any) -> Form:
    """The form of a whole schema. Raises KeyError, TypeError or AttributeError for what is no Avro schema."""
    return _Forms().of(schema, "")


def without_logical_types(schema: Any) -> Any:
    """The schema under which dates and decimals are read as the plain numbers and bytes that they are written as."""
    if isinstance(schema, dict):
        return {name: without_logical_types(part) for name, part in schema.items() if name != "logicalType"}
    return [without_logical_types(part) for part in schema] if isinstance(schema, list) else schema


class _Forms:
    def __init__(self) -> None:
        self._named: dict[str, Form] = {}

    def of(self, schema: Any, namespace: str) -> Form:
        if isinstance(schema, list):
            return self._union(schema, namespace)
        if isinstance(schema, str):
            return self._named.get(_full_name(schema, namespace)) or _primitive(schema)
        kind = schema["type"]
        if not isinstance(kind, str):
            return self.of(kind, namespace)
        if kind == "record":
            return self._record(schema, namespace)
        if kind == "array":
            items = self.of(schema["items"], namespace)
            made = Form({"type": "array", "items": items.connect}, _each(items.plain), _each(items.exact))
        elif kind == "map":
            inner = self.of(schema["values"], namespace)
            made = Form({"type": "map"}, _each_value(inner.plain), _each_value(inner.exact))
        else:
            made = self._named.get(_full_name(kind, namespace)) or _primitive(kind)
        made = Form(made.connect | _described(schema), made.plain, made.exact)
        if "name" in schema:  # an enum or a fixed
            self._named[_full_name(schema["name"], schema.get("namespace", namespace))] = made
        return made

    def _record(self, schema: dict[str, Any], namespace: str) -> Form:
        full = _full_name(schema["name"], schema.get("namespace", namespace))
        inside = full.rpartition(".")[0]
        forms = {field["name"]: self.of(field["type"], inside) for field in schema["fields"]}
        connect = {"type": "struct", "fields": [form.connect | {"field": name} for name, form in forms.items()]}
        made = Form(
            connect | _described(schema),
            _fields([(name, form.plain) for name, form in forms.items()]),
            _fields([(name, form.exact) for name, form in forms.items()]),
        )
        self._named[full] = made
        return made

    def _union(self, branches: list[Any], namespace: str) -> Form:
        """A union with null is an optional field. One of several types is not what Connect makes of a column."""
        forms = [self.of(branch, namespace) for branch in branches if branch != "null"]
        only = forms[0] if len(forms) == 1 else Form({"type": "union"}, _anything, _anything)
        return Form(only.connect | {"optional": "null" in branches}, _if_any(only.plain), _if_any(only.exact))


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _primitive(kind: str) -> Form:
    connect = {"type": _CONNECT_TYPES.get(kind, kind)}
    if kind in ("bytes", "fixed"):
        return Form(connect, _base64, _base64)
    if kind == "float":
        return Form(connect, _float32, _float32)
    if kind == "double":
        return Form(connect, _double, _double_exactly)
    return Form(connect, None, None)


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Connect's name, parameters and narrower type, where the schema tells them."""
    logical = schema.get("logicalType")
    name = schema.get("connect.name") or (_LOGICAL_NAMES.get(logical) if isinstance(logical, str) else None)
    parameters = schema.get("connect.parameters") or (
        {"scale": schema.get("scale", 0)} if logical == "decimal" else None
    )
    told = {"type": schema.get("connect.type"), "name": name, "parameters": parameters}
    return {key: value for key, value in told.items() if value is not None}


def _fields(shapers: list[tuple[str, Shaper | None]]) -> Shaper | None:
    needed = [(name, shaper) for name, shaper in shapers if shaper is not None]

    def shape(record: dict[str, Any]) -> dict[str, Any]:
        for name, shaper in needed:
            record[name] = shaper(record[name])
        return record

    return shape if needed else None


def _if_any(shaper: Shaper | None) -> Shaper | None:
    return None if shaper is None else lambda value: None if value is None else shaper(value)


def _each(shaper: Shaper | None) -> Shaper | None:
    return None if shaper is None else lambda items: [shaper(item) for item in items]


def _each_value(shaper: Shaper | None) -> Shaper | None:
    return None if shaper is None else lambda entries: {name: shaper(value) for name, value in entries.items()}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _float32(value: float) -> float | str:
    """The number with as few digits as tell it from its neighbours: its digits beyond those are the reader's."""
    if not math.isfinite(value):
        return _double(value)
    for digits in _FLOAT32_DIGITS:
        number = float(f"{value:.{digits}g}")
        if abs(number) < 2.0**128 and _FLOAT32.pack(number) == _FLOAT32.pack(value):
            return number
    return value


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _double_exactly(value: float) -> Any:
    return exact_number(repr(value)) if math.isfinite(value) else _double(value)


def _anything(value: Any) -> Any:
    """A value of a type that only the value tells."""
    if isinstance(value, bytes):
        return _base64(value)
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, list):
        return [_anything(item) for item in value]
    return {name: _anything(item) for name, item in value.items()} if isinstance(value, dict) else value
