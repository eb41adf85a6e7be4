"""Canonical text of keys, so that 7, "7" and 7.0 name one row in whatever type they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson


def key_text(value: Any) -> str:
    """The canonical text of one key column. Raises ValueError for a value no key can hold (null, list, object)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal) and value.is_finite():
        return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")
    raise ValueError(f"a {type(value).__name__} cannot be part of a key")


def row_key(values: Sequence[Any]) -> str:
    """The canonical text of a whole key: the text itself for one column, a JSON list of texts for several."""
    if len(values) == 1:
        return key_text(values[0])
    return orjson.dumps([key_text(value) for value in values]).decode()
