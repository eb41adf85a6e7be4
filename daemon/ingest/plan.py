"""What to do with the columns of one source, worked out once per schema instead of once per message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from daemon.ingest.change import Oddity, RejectReason
from daemon.ingest.convert import Reader, declared_reader, is_decimal, logical_name, schema_reader, schema_type
from daemon.ingest.values import InexactError, UnreadableError, beyond_double
from daemon.mapping.structure import Source

_BEYOND_64_BITS = 2.0**63


class RefusedError(ValueError):
    """A message that cannot be decoded: becomes a `Reject`. The text names place and cure, never a value."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Plan:
    """The conversions of a source's columns. `types` names the types that are known, for people."""

    def __init__(
        self, readers: Mapping[str, Reader], types: Mapping[str, str], doubles: Iterable[str], *, typed: bool
    ) -> None:
        """`doubles` are decimals by their declaration that the connector may send as floating-point numbers."""
        self._steps = tuple((name, reader.ready, reader.convert) for name, reader in readers.items())
        self._typed = typed
        self.types = MappingProxyType(dict(types))
        self.exact: Plan = _ExactPlan(self, tuple(doubles))
        """The same for documents that were parsed exactly."""

    def apply(self, row: dict[str, Any]) -> Oddity | None:
        """Convert the columns that `row` has, in place, and say what is odd about their values.

        Raises RefusedError, or InexactError where JSON numbers lost digits on the way in.
        """
        name = ""
        try:
            for name, ready, convert in self._steps:
                value = row.get(name)
                if value is not None and value.__class__ is not ready:
                    row[name] = convert(value)
        except UnreadableError as error:
            raise RefusedError(error.reason, f"column {name!r}{self._type_of(name)}: {error}") from None
        if not self._typed and float in map(type, row.values()):
            _refuse_lost_digits(row.values())
        return None

    def _type_of(self, name: str) -> str:
        known = self.types.get(name)
        return f" ({known})" if known else ""


class _ExactPlan(Plan):
    def __init__(self, plan: Plan, doubles: tuple[str, ...]) -> None:
        self._plan = plan
        self._doubles = doubles
        self.types = plan.types
        self.exact = self

    def apply(self, row: dict[str, Any]) -> Oddity | None:
        inexact = any(beyond_double(row.get(name)) for name in self._doubles)
        self._plan.apply(row)
        return Oddity.INEXACT_DOUBLE if inexact else None


def bare_plan(source: Source, connector: str = "") -> Plan:
    """The plan for messages without a schema, by kind of connector. Raises ValueError for an unknown declared type."""
    readers = {name: declared_reader(text, source.modes, connector) for name, text in source.types.items()}
    return Plan(_needed(readers), source.types, _decimals(source), typed=False)


def schema_plan(source: Source, fields: Iterable[Any]) -> Plan:
    """The plan for messages that carry the given Connect fields."""
    named = {
        field["field"]: field for field in fields if isinstance(field, dict) and isinstance(field.get("field"), str)
    }
    readers = {name: schema_reader(field, source.types.get(name), source.modes) for name, field in named.items()}
    types = {name: schema_type(field) for name, field in named.items()}
    doubles = (name for name in _decimals(source) if name in named and logical_name(named[name]) is None)
    return Plan(_needed(readers), types, doubles, typed=True)


def _decimals(source: Source) -> list[str]:
    return [name for name, text in source.types.items() if is_decimal(text)]


def _needed(readers: Mapping[str, Reader | None]) -> dict[str, Reader]:
    return {name: reader for name, reader in readers.items() if reader is not None}


def _refuse_lost_digits(values: Iterable[Any]) -> None:
    for value in values:
        if type(value) is float and not -_BEYOND_64_BITS < value < _BEYOND_64_BITS:
            raise InexactError
