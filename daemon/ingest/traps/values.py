"""Traps in how the rows' values are written: decimals and times."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Any

from daemon.ingest.traps.sample import Sample
from daemon.ingest.traps.trap import Trap, TrapKind
from daemon.mapping.column_types import Family, parse_type

_CONNECT_TIMES = frozenset({"org.apache.kafka.connect.data.Time", "org.apache.kafka.connect.data.Timestamp"})
_EXACT = frozenset({"org.apache.kafka.connect.data.Decimal", "io.debezium.data.VariableScaleDecimal"})
_LONGEST_DECIMAL = 16  # bytes of an unscaled amount
_YEARS = range(1980, 2201)


def decimals(sample: Sample, columns: Sequence[str], *, exact: bool) -> Iterator[Trap]:
    """Amounts that come without their scale, or with digits lost. `exact`: as `tells_exact_decimals` of a sister."""
    source = sample.source
    bare = not any(seen.fields for seen, _ in sample.images())
    precise = [name for name in columns if bare and name not in source.types and _unscaled(sample.values(name))]
    if precise:
        yield Trap(
            TrapKind.PRECISE_WITHOUT_TYPE,
            f"{', '.join(precise)} look like decimals of mode precise, whose scale no message tells",
            "set decimal.handling.mode=string at the connector and under `debezium:`, or declare them under `types:`",
        )
    told = exact or bool(precise) or tells_exact_decimals(sample)
    doubles = [
        name
        for name in columns
        if _family(sample, name) in ((Family.DECIMAL,) if told else (Family.DECIMAL, None))
        and any(type(value) is float for value in sample.values(name))
    ]
    if doubles:
        yield Trap(
            TrapKind.DECIMALS_AS_DOUBLE,
            f"{', '.join(doubles)} come as JSON numbers with fractions, exact to 15 digits at most",
            "set decimal.handling.mode=string at the connector and under `debezium:`; a column that is floating-point "
            "in the OMS too is declared so under `types:`",
        )


def times(sample: Sample, columns: Sequence[str]) -> Iterator[Trap]:
    """Times that are cut off, or counted in another unit than the mapping says."""
    named = {field.get("field") for seen, _ in sample.images() for field in seen.fields if _is_cut(field)}
    cut = [name for name in columns if name in named or _is_declared_cut(sample, name)]
    if cut:
        yield Trap(
            TrapKind.TIMES_IN_MILLISECONDS,
            f"{', '.join(cut)} come in milliseconds (time.precision.mode=connect): what is finer is cut off",
            "set time.precision.mode=adaptive at the connector and under `debezium:`",
        )
    wrong = [name for name in columns if _family(sample, name) is Family.TIMESTAMP and _far_off(sample, name)]
    if wrong:
        yield Trap(
            TrapKind.TIME_UNIT,
            f"{', '.join(wrong)} read as times outside the years {_YEARS.start} to {_YEARS.stop - 1}: the connector "
            "counts in another unit than the mapping says",
            "declare the connector's time.precision.mode under `debezium:`, and the column's own type, such as "
            "timestamp(3), under `types:`",
            fatal=True,
        )


def _family(sample: Sample, column: str) -> Family | None:
    declared = sample.source.types.get(column)
    return None if declared is None else parse_type(declared).family


def tells_exact_decimals(sample: Sample) -> bool:
    """Whether some column shows that the connector does not write decimals as doubles: those are doubles in the OMS."""
    if any(field.get("name") in _EXACT for seen, _ in sample.images() for field in seen.fields):
        return True
    declared = [name for name in sample.source.types if _family(sample, name) is Family.DECIMAL]
    return any(isinstance(value, str | dict) for name in declared for value in sample.values(name))


def _unscaled(values: Sequence[Any]) -> bool:
    """Whether all values are what `precise` writes without a schema: {scale, value}, or base64, some of it padded.

    Padding is asked for because many a word is base64 too, such as `paid`.
    """
    if not values:
        return False
    if all(isinstance(value, dict) and value.keys() == {"scale", "value"} for value in values):
        return True
    if not any(isinstance(value, str) and value.endswith("=") for value in values):
        return False
    return all(isinstance(value, str) and 0 < len(_base64(value)) <= _LONGEST_DECIMAL for value in values)


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""


def _is_cut(field: dict[str, Any]) -> bool:
    return field.get("name") in _CONNECT_TIMES


def _is_declared_cut(sample: Sample, column: str) -> bool:
    declared = sample.source.modes.time_precision_mode == "connect"
    return declared and _family(sample, column) in (Family.TIME, Family.TIMESTAMP)


def _far_off(sample: Sample, column: str) -> bool:
    """Whether every count of a declared timestamp was read as a year that no order is of."""
    years = [
        str(change.columns.get(column)).partition("-")[0]
        for seen, change in sample.images()
        if type(seen.after.get(column)) is int and column in change.columns
    ]
    return bool(years) and not any(year.isdecimal() and int(year) in _YEARS for year in years)
