"""Avro in Confluent's wire format: a zero byte, a schema id in four bytes, the value as AvroConverter wrote it.

Pure: schemas come from a look-up that is handed in. Values and schemas are brought into the form of JsonConverter, so
that one set of conversions serves both (`avro_forms.py`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastavro

from daemon.ingest.avro_forms import Form, form_of, without_logical_types
from daemon.ingest.change import RejectReason
from daemon.ingest.plan import RefusedError

_HEADER = 5
_CONVERTER_CURE = "let the connector's converter write Avro, or set it to Kafka Connect's JsonConverter"


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as the registry has it. `kind` is AVRO, JSON or PROTOBUF; `references`: it leans on other subjects."""

    kind: str
    text: str
    references: bool = False


class ConfluentAvro:
    """Reads values of all topics, and remembers their schemas, of which there are as many as tables were altered."""

    def __init__(self, schema_of: Callable[[int], RegisteredSchema | None]) -> None:
        """`schema_of` gives a schema by its id, None where the registry has no such id; whatever it raises passes."""
        self._schema_of = schema_of
        self._known: dict[int, tuple[Any, Form]] = {}

    def read(self, raw: bytes, *, exact: bool = False) -> tuple[Any, int, dict[str, Any]]:
        """The value as JsonConverter would have written it, its schema's id, and its schema in JsonConverter's form.

        `exact` gives floating-point numbers of many digits as decimals. Raises RefusedError where id or bytes cannot
        be used.
        """
        if len(raw) < _HEADER:
            raise _refused("it is cut off within its schema id")
        number = int.from_bytes(raw[1:_HEADER], "big")
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = self._compiled(number)
        parsed, form = known
        stream = io.BytesIO(raw)
        stream.seek(_HEADER)
        try:
            value = fastavro.schemaless_reader(stream, parsed, None)
        except Exception as error:  # noqa: BLE001 - whatever the bytes do to the reader
            raise _refused(f"its bytes do not fit schema {number} ({type(error).__name__})") from None
        if stream.tell() != len(raw):
            raise _refused(f"there are bytes left behind a value of schema {number}")
        shape = form.exact if exact else form.plain
        return value if shape is None else shape(value), number, form.connect

    def _compiled(self, number: int) -> tuple[Any, Form]:
        found = self._schema_of(number)
        if found is None:
            raise _refused(
                f"the Schema Registry has no schema {number}: kafka.schema_registry_url must name the registry that "
                "the connector uses"
            )
        if found.kind != "AVRO":
            raise _refused(f"schema {number} is of kind {found.kind}, which is not read: {_CONVERTER_CURE}")
        if found.references:
            raise _refused(f"schema {number} refers to schemas of other subjects, which is not read: {_CONVERTER_CURE}")
        try:
            schema = json.loads(found.text)
            return fastavro.parse_schema(without_logical_types(schema)), form_of(schema)
        except Exception as error:  # noqa: BLE001 - the registry checks schemas; whatever is wrong, it is not our row
            raise _refused(f"schema {number} cannot be used ({type(error).__name__})") from None


def _refused(detail: str) -> RefusedError:
    return RefusedError(RejectReason.NOT_AVRO, f"the bytes carry a schema id, but {detail}")
