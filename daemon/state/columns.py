"""The JSON text of a row's columns, as Postgres keeps it: exact, and nothing in it that jsonb refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson


def _number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError(f"no column holds a {type(value).__name__}")


def columns_json(columns: dict[str, Any]) -> str:
    """The JSON text of a row's columns, every decimal a JSON number with its own scale."""
    try:
        text = orjson.dumps(columns, default=_number).decode()
    except TypeError:  # an integer beyond 64 bits, which orjson offers to nobody
        text = orjson.dumps(_storable(columns), default=_number).decode()
    if "\\u0000" in text:
        text = orjson.dumps(_storable(columns), default=_number).decode()
    return text


def _storable(value: Any) -> Any:
    """The value without what jsonb or orjson refuse: U+0000 becomes the replacement character, integers decimals."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {name: _storable(item) for name, item in value.items()}
    return value
