"""What Kafka Connect's converters write: JSON, bare or wrapped as {"schema": …, "payload": …}, or Avro (`avro.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar

import orjson

T = TypeVar("T")

REGISTRY_MAGIC = b"\x00"
"""The first byte of a value that names its schema in a Schema Registry."""

_WRAPPED = b'{"schema":'
_PAYLOAD = ',"payload":'
_REMEMBERED_SCHEMAS = 8  # of one topic: old and new side by side while an ALTER TABLE passes through its partitions
_FLOAT_DIGITS = 16
_FLOAT_LIMIT = 2**53
_EXPONENT_LIMIT = 200_000


class NotJsonError(ValueError):
    """Bytes that are no JSON."""


class AvroReader(Protocol):
    """Reads values that begin with `REGISTRY_MAGIC`."""

    def read(self, raw: bytes, *, exact: bool) -> tuple[Any, int, dict[str, Any]]:
        """The value as JsonConverter would have written it, its schema's id, and its schema in the same form."""
        ...


class ConnectReader(Generic[T]):
    """Reads messages of one topic and says what `compile_schema` made of each one's schema (None: it carries none).

    A schema is written into every JSON message byte by byte alike, so its text is looked for as a prefix and neither
    parsed nor compiled again. Without `avro`, Avro is no JSON like any other.
    """

    def __init__(self, compile_schema: Callable[[dict[str, Any] | None], T], avro: AvroReader | None = None) -> None:
        self._compile = compile_schema
        self._avro = avro
        self.bare = compile_schema(None)
        self.latest = self.bare
        self._known: list[tuple[bytes, T]] = []
        self._last: tuple[Any, T] = (None, self.bare)
        self._by_id: dict[int, T] = {}

    def read(self, raw: bytes, *, exact: bool = False) -> tuple[Any, T]:
        """The payload and its compiled schema. `exact` keeps every digit of numbers that no float can hold.

        Raises NotJsonError, and for Avro what the Avro reader raises.
        """
        if self._avro is not None and raw.startswith(REGISTRY_MAGIC):
            return self._read_avro(self._avro, raw, exact)
        if not exact:
            for prefix, compiled in self._known:
                if raw.startswith(prefix) and raw.endswith(b"}"):
                    try:
                        return orjson.loads(raw[len(prefix) : -1]), compiled
                    except orjson.JSONDecodeError:
                        break
        try:
            document = parse_exactly(raw) if exact else orjson.loads(raw)
        except orjson.JSONDecodeError:
            document = parse_exactly(raw)
        if type(document) is dict and len(document) == 2 and "schema" in document and "payload" in document:
            return document["payload"], self._compiled(raw, document["schema"])
        return document, self.bare

    def _read_avro(self, avro: AvroReader, raw: bytes, exact: bool) -> tuple[Any, T]:
        value, number, schema = avro.read(raw, exact=exact)
        compiled = self._by_id.get(number)
        if compiled is None:
            self.latest = compiled = self._by_id[number] = self._compile(schema)
        return value, compiled

    def _compiled(self, raw: bytes, schema: Any) -> T:
        if not isinstance(schema, dict):
            return self.bare
        if self._last[0] == schema:
            return self._last[1]
        self.latest = compiled = self._compile(schema)
        self._last = (schema, compiled)
        prefix = _schema_prefix(raw)
        if prefix is not None:
            self._known = [(prefix, compiled), *self._known[: _REMEMBERED_SCHEMAS - 1]]
        return compiled


def parse(raw: bytes) -> Any:
    """The document. Raises NotJsonError. Integers above 64 bits become floats: see `parse_exactly`."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return parse_exactly(raw)


def parse_exactly(raw: bytes) -> Any:
    """The document with big integers as int, long fractions as Decimal, bare NaN and infinities as text."""
    try:
        document = json.loads(raw.decode(), parse_float=exact_number, parse_constant=str)
        json.dumps(document, ensure_ascii=False, default=str).encode()  # refuses half surrogate pairs
    except (ValueError, RecursionError):
        raise NotJsonError from None
    return document


def exact_number(text: str) -> Any:
    """A float where it holds every digit of the text, else a Decimal; the text where its exponent is absurd."""
    number = float(text)
    if abs(number) < _FLOAT_LIMIT and len(text) <= _FLOAT_DIGITS and len(repr(number)) <= _FLOAT_DIGITS:
        return number
    exact = Decimal(text)
    return exact if abs(exact.adjusted()) < _EXPONENT_LIMIT else text


def _schema_prefix(raw: bytes) -> bytes | None:
    """The bytes up to the payload, where the schema stands first, as JsonConverter writes it."""
    if not raw.startswith(_WRAPPED):
        return None
    text = raw.decode()
    try:
        end = json.JSONDecoder().raw_decode(text, len(_WRAPPED))[1]
    except ValueError:  # a blank before the schema: not JsonConverter's own bytes
        return None
    return text[: end + len(_PAYLOAD)].encode() if text.startswith(_PAYLOAD, end) else None
